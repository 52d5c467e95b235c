"""The memory of a run, and the cache that finds it: by owner, by structure after a copy, and not at all after a jump."""

from __future__ import annotations

import copy
import gc
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.io.jsonio import decode, encode
from torch import Tensor

from mlff_calc.fixed_point.memory import REACH, STRAIN, Memory, RunCache, distance, same_system
from mlff_calc.fixed_point.predictors import LeastSquares, Predictor, TimeReversible, polynomial
from mlff_calc.graph.frame import Frame, System

SHAPE = (3, 4, 2)
CPU = torch.device("cpu")


def place_of(atoms: Atoms) -> Frame:
    system = System(atoms.numbers.copy(), atoms.cell.array.copy(), atoms.pbc.copy())  # the cell may be empty
    return Frame(system, atoms.positions.copy())


def water(shift: float = 0.0) -> Atoms:
    atoms = molecule("H2O")
    atoms.positions[1, 0] += shift
    return atoms


def outputs(seed: int, new_secants: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    out = {name: torch.randn(SHAPE, generator=generator, dtype=dtype) for name in ("state", "adjoint", "embedding")}
    if new_secants:
        for name in ("new_state_secants", "new_adjoint_secants"):
            out[name] = torch.randn(2, new_secants, *SHAPE, generator=generator, dtype=dtype)
    return out


def run_of(predictor: Predictor, steps: int, kept: int = 3, dtype: torch.dtype = torch.float64) -> Memory:
    """Return a memory after some steps, each of which adds two new secants."""
    memory = Memory(place_of(water()))
    for step in range(steps):
        start = predictor.replaced(memory.past) if memory.past.solutions else None
        memory.remember(predictor, kept, outputs(step, 2, dtype), place_of(water(0.01 * step)), start)
    return memory


def tensors_of(memory: Memory) -> list[Tensor]:
    past = memory.past
    return [*past.solutions, *past.embeddings, *past.auxiliary, *memory.secants[0], *memory.secants[1]]


def same(one: Memory, other: Memory) -> bool:
    """Whether two memories are equal bit by bit."""
    a, b = tensors_of(one), tensors_of(other)
    places = all(np.array_equal(getattr(one.place, name), getattr(other.place, name)) for name in ("positions", "cell"))
    return places and same_system(one.place, other.place) and len(a) == len(b) and all(map(_equal_bits, a, b))


def _equal_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()


# Inputs of a step


def test_inputs_of_a_full_past_are_the_last_steps_newest_first() -> None:
    memory = run_of(LeastSquares(3), 5)
    inputs, start = memory.inputs(LeastSquares(3), 3)
    assert start is None
    assert torch.equal(inputs["past_states"], torch.stack([outputs(step, 2)["state"] for step in (4, 3, 2)]))
    assert torch.equal(inputs["past_adjoints"], torch.stack([outputs(step, 2)["adjoint"] for step in (4, 3, 2)]))
    assert torch.equal(inputs["past_embeddings"], torch.stack([outputs(step, 2)["embedding"] for step in (4, 3, 2)]))
    assert inputs["mix"].tolist() == [0.0, 0.0, 0.0]  # zero weights select the least-squares predictor
    newest = outputs(4, 2)["new_state_secants"]
    assert torch.equal(inputs["state_secants"][:, 0], newest[:, 1])
    assert torch.equal(inputs["state_secants"][:, 1], newest[:, 0])
    assert torch.equal(inputs["state_secants"][:, 2], outputs(3, 2)["new_state_secants"][:, 1])
    assert inputs["adjoint_secants"].shape == (2, 3, *SHAPE)


def test_a_short_past_is_filled_up_with_its_newest_step() -> None:
    memory = run_of(LeastSquares(4), 2, kept=6)
    inputs, _ = memory.inputs(LeastSquares(4), 6)
    first, last = outputs(0, 2), outputs(1, 2)
    for name, key in (("past_states", "state"), ("past_adjoints", "adjoint"), ("past_embeddings", "embedding")):
        assert torch.equal(inputs[name], torch.stack([last[key], first[key], last[key], last[key]]))
    assert torch.equal(inputs["state_secants"][:, 4:], torch.zeros(2, 2, *SHAPE, dtype=torch.float64))
    assert bool((inputs["state_secants"][:, :4] != 0.0).all())


@pytest.mark.parametrize(("steps", "mix"), [(1, [1.0, 0.0, 0.0]), (2, [2.0, -1.0, 0.0]), (5, [3.0, -3.0, 1.0])])
def test_weights_of_a_polynomial_are_filled_with_zeros(steps: int, mix: list[float]) -> None:
    inputs, _ = run_of(polynomial(2), steps).inputs(polynomial(2), 0)
    assert inputs["mix"].tolist() == mix
    assert inputs["state_secants"].shape == (2, 0, *SHAPE)


def test_a_start_that_is_no_combination_is_in_the_first_row() -> None:
    predictor = TimeReversible(3)
    memory = run_of(predictor, 6)
    inputs, start = memory.inputs(predictor, 0)
    assert start is not None
    assert torch.equal(start, predictor.replaced(memory.past))
    assert torch.equal(inputs["past_states"], start[:1])
    assert torch.equal(inputs["past_adjoints"], start[1:])
    assert inputs["mix"].tolist() == [1.0]


def test_a_step_without_new_secants_leaves_the_old_ones() -> None:
    memory = run_of(LeastSquares(2), 2)
    before = list(memory.secants[0])
    memory.remember(LeastSquares(2), 3, outputs(9), place_of(water()), None)
    assert all(map(torch.equal, memory.secants[0], before))


# Text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("predictor", [LeastSquares(4), TimeReversible(5)], ids=["least_squares", "reversible"])
def test_every_bit_goes_through_text(predictor: Predictor, dtype: torch.dtype) -> None:
    memory = run_of(predictor, 8, dtype=dtype)
    values = torch.tensor([-0.0, 5e-324 if dtype == torch.float64 else 1e-45, 1 / 3, -1e38], dtype=torch.float64)
    memory.past.solutions[0].view(-1)[:4] = values.to(dtype)
    back = Memory.from_plain(decode(encode(memory.plain())), CPU)
    assert same(back, memory)
    one, other = memory.inputs(predictor, 3)[0], back.inputs(predictor, 3)[0]
    assert all(_equal_bits(one[name], other[name]) for name in one)


def test_tensors_are_plain_text() -> None:
    plain = run_of(LeastSquares(2), 3).plain()
    del plain["place"], plain["move"]  # arrays, which the writer of the state handles itself
    assert json.loads(json.dumps(plain)) == plain


def test_restored_memories_are_writable() -> None:
    memory = Memory.from_plain(run_of(LeastSquares(2), 3).plain(), CPU)
    memory.past.solutions[0] += 1.0
    memory.remember(LeastSquares(2), 3, outputs(7, 1), place_of(water()), None)


# Finding a memory


def filled(*owners: Atoms) -> tuple[RunCache, list[Memory]]:
    cache, memories = RunCache(), []
    for owner in owners:
        memories.append(Memory(place_of(owner)))
        cache.add(owner, memories[-1])
    return cache, memories


def test_a_run_is_found_by_its_owner_and_not_by_its_structure() -> None:
    """Two objects with equal structures have separate memories, and a third one has none."""
    one, other, third = water(), water(), water()
    cache, (first, second) = filled(one, other)
    assert cache.find(one, place_of(one)) is first
    assert cache.find(other, place_of(other)) is second
    assert cache.find(third, place_of(third)) is None
    assert len(cache) == 2


def test_images_in_any_order_find_their_own() -> None:
    images = [water(0.05 * i) for i in range(7)]
    cache, memories = filled(*images)
    for i in np.random.default_rng(0).integers(0, 7, size=40):
        images[i].positions += 0.003
        found = cache.find(images[i], place_of(images[i]))
        assert found is memories[i]
        found.place = place_of(images[i])
    assert len(cache) == 7


def test_the_memory_of_a_deleted_object_is_deleted() -> None:
    """Results must not depend on the time when Python frees an object, also in copies and restart files."""
    gone, owner = water(0.1), water(0.2)
    cache, _ = filled(gone)
    assert cache.find(owner, place_of(owner)) is None
    del gone
    gc.collect()
    assert cache.find(owner, place_of(owner)) is None
    assert cache.plain() == []
    assert len(pickle.loads(pickle.dumps(cache))) == 0
    cache.add(owner, Memory(place_of(owner)))
    assert len(cache) == 1


def test_a_restored_run_is_found_by_its_structure() -> None:
    old = water(0.1)
    cache, _ = filled(old)
    restored, owner = pickle.loads(pickle.dumps(cache)), water(0.2)
    assert restored.find(owner, place_of(owner)) is not None
    other = water(0.2)
    assert restored.find(other, place_of(other)) is None  # the first object owns it again


def test_of_several_without_owner_the_nearest_is_taken() -> None:
    images = [water(0.0), water(0.1), water(0.2)]
    cache = pickle.loads(pickle.dumps(filled(*images)[0]))
    asks = [water(0.19), water(0.02), water(0.11)]
    found = [cache.find(atoms, place_of(atoms)).place.positions for atoms in asks]
    for i, positions in zip((2, 0, 1), found, strict=True):
        np.testing.assert_array_equal(positions, images[i].positions)


def test_a_step_continues_if_it_has_the_direction_of_the_one_before() -> None:
    memory = run_of(LeastSquares(2), 1)
    assert not memory.goes_on(place_of(water(0.1)))  # a cold start has no direction
    for reach, smooth in ((0.1, None), (0.2, True), (0.15, False), (0.15, False), (0.3, False), (0.4, True)):
        place = place_of(water(reach))
        if smooth is not None:
            assert memory.goes_on(place) is smooth, reach
        memory.remember(LeastSquares(2), 3, outputs(1), place, None)
    back = Memory.from_plain(decode(encode(memory.plain())), CPU)
    np.testing.assert_array_equal(back.move, memory.move)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_copies_have_separate_memories(how: Any) -> None:
    owner = water()
    cache = RunCache()
    cache.add(owner, run_of(LeastSquares(3), 4))
    kept = cache.find(owner, place_of(owner))
    other = how(cache)
    found = other.find(owner, place_of(owner))
    assert found is not kept
    assert same(found, kept)
    found.past.solutions[0] += 1.0
    assert not same(found, cache.find(owner, place_of(owner)))


def test_restart_from_text() -> None:
    images = [water(0.0), water(0.3)]
    cache = RunCache()
    for number, image in enumerate(images):
        memory = run_of(LeastSquares(3), 4 + number)
        memory.place = place_of(image)
        cache.add(image, memory)
    resumed = RunCache()
    resumed.load(decode(encode(cache.plain())), CPU)
    for image in reversed(images):
        again = image.copy()
        assert same(resumed.find(again, place_of(again)), cache.find(image, place_of(image)))


# Jumps


@pytest.mark.parametrize(("shift", "known"), [(0.9 * REACH, True), (1.1 * REACH, False)])
def test_a_jump_of_one_atom_is_forgotten(shift: float, known: bool) -> None:
    atoms = water()
    cache, (memory,) = filled(atoms)
    atoms.positions[2] += shift * np.array([0.6, 0.0, 0.8])
    assert cache.find(atoms, place_of(atoms)) is (memory if known else None)
    assert len(cache) == int(known)


@pytest.mark.parametrize(("strain", "known"), [(0.8 * STRAIN, True), (1.3 * STRAIN, False)])
def test_a_jump_of_the_cell_is_forgotten(strain: float, known: bool) -> None:
    """A jump of the cell counts even if no atom moves."""
    atoms = bulk("Si", cubic=True)
    cache, (memory,) = filled(atoms)
    atoms.set_cell(atoms.cell.array * (1.0 + strain), scale_atoms=False)
    assert cache.find(atoms, place_of(atoms)) is (memory if known else None)


def _swapped(atoms: Atoms) -> None:
    atoms.numbers[[0, 1]] = atoms.numbers[[1, 0]]


def _reordered(atoms: Atoms) -> None:
    atoms.positions[:] = atoms.positions[[1, 0, 2]]
    _swapped(atoms)


def _shorter(atoms: Atoms) -> None:
    del atoms[2]


def _periodic(atoms: Atoms) -> None:
    atoms.pbc = (True, False, False)


@pytest.mark.parametrize("change", [_swapped, _reordered, _shorter, _periodic])
def test_another_system_is_forgotten(change: Any) -> None:
    atoms = water()
    cache, _ = filled(atoms)
    before = place_of(atoms)
    change(atoms)
    assert cache.find(atoms, place_of(atoms)) is None
    assert cache.find(atoms, before) is None  # the memory is deleted
    assert len(cache) == 0


def test_a_far_orphan_is_not_taken() -> None:
    gone = water()
    cache, _ = filled(gone)
    del gone
    gc.collect()
    far = water(1.1 * REACH)
    assert cache.find(far, place_of(far)) is None


# Bounds


def test_the_memory_unused_for_longest_is_dropped_first() -> None:
    owners = [water(0.01 * i) for i in range(4)]
    cache = RunCache(most=3)
    for owner in owners[:3]:
        cache.add(owner, Memory(place_of(owner)))
    assert cache.find(owners[0], place_of(owners[0])) is not None
    cache.add(owners[3], Memory(place_of(owners[3])))
    assert len(cache) == 3
    assert [cache.find(owner, place_of(owner)) is not None for owner in owners] == [True, False, True, True]


def test_a_new_memory_replaces_the_old_one() -> None:
    atoms = water()
    cache, _ = filled(atoms)
    newer = Memory(place_of(atoms))
    cache.add(atoms, newer)
    assert len(cache) == 1
    assert cache.find(atoms, place_of(atoms)) is newer


def test_forget_and_clear() -> None:
    one, other = water(), water()
    cache, (_, second) = filled(one, other)
    cache.forget(one)
    assert cache.find(one, place_of(one)) is None
    assert cache.find(other, place_of(other)) is second
    cache.clear()
    assert len(cache) == 0


def test_a_short_cell_vector_that_changes_is_a_jump() -> None:
    """A change that is large for a short vector counts, though it is small compared with the longest vector."""
    numbers, positions, pbc = np.array([6]), np.zeros((1, 3)), np.array([True] * 3)
    slab, strained = np.diag([2.5, 2.5, 60.0]), np.diag([2.8, 2.5, 60.0])
    assert distance(Frame.of(numbers, positions, slab, pbc), Frame.of(numbers, positions, strained, pbc)) == float("inf")
    assert distance(Frame.of(numbers, positions, slab, pbc), Frame.of(numbers, positions, 1.01 * slab, pbc)) == 0.0
