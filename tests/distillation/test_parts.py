"""Seeds, trajectories, students, and what a budget buys."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from mlff_calc import build_potential
from mlff_calc.distillation.explore import explore
from mlff_calc.distillation.frames import turns
from mlff_calc.distillation.plan import planned
from mlff_calc.distillation.recipe import parse_distillation
from mlff_calc.distillation.sections import ExploreSection
from mlff_calc.distillation.seeds import seed_frames
from mlff_calc.distillation.students import Judgement, Students
from mlff_calc.distillation.systems import read_systems
from mlff_calc.errors import OptionError, StructureError
from mlff_calc.sampling.systems import Systems

from .conftest import small, tetrahedron


def _recipe(toys: Path, **more: Any) -> Any:
    return parse_distillation(small(**more), toys / "recipe")


def test_trajectories_take_all_systems_and_temperatures_in_turn() -> None:
    random = np.random.default_rng(0)
    assert set(turns(9, 3, 3, random)) == {(place, rung) for place in range(3) for rung in range(3)}
    assert [rung for _, rung in turns(6, 1, 3, random)] == [0, 1, 2, 0, 1, 2]
    rounds = {place for _ in range(20) for place, _ in turns(4, 20, 2, random)}
    assert len(rounds) > 15


def test_systems_are_held_out_whole_and_no_element_with_them(toys: Path) -> None:
    frames = [molecule(name) for name in ("H2O", "CH4", "NH3", "CH3OH", "H2CO", "C2H6", "C2H4", "C2H2", "CO2", "HCN")]
    ase.io.write(toys / "many.extxyz", [*frames, *frames])
    systems = read_systems(_recipe(toys, systems={"files": ["many.extxyz"]}))
    assert len(systems) == 10
    out = [system for system in systems if system.is_held_out]
    assert len(out) == 2
    known = {z for system in systems if not system.is_held_out for z in system.starts[0].numbers}
    assert all(set(system.starts[0].numbers) <= known for system in out)
    recipe = _recipe(toys, systems={"files": ["many.extxyz"]})
    seeds = seed_frames(recipe, systems, 60)
    assert {frame.info["system"] for frame in seeds if frame.info["part"] == "held_out"} == {one.name for one in out}
    assert len(seeds) == 60


def test_seeds_of_one_system_have_a_draw_of_their_own_for_what_is_held_out(toys: Path) -> None:
    recipe = _recipe(toys)
    systems = read_systems(recipe)
    frames = seed_frames(recipe, systems, 30)
    out = [frame for frame in frames if frame.info["part"] == "held_out"]
    assert len(frames) == 30
    assert len(out) == 6
    assert frames[0].info["made"] == "given"
    assert np.array_equal(frames[0].positions, systems[0].starts[0].positions)
    assert len({frame.positions.tobytes() for frame in frames}) == 30
    again = seed_frames(recipe, read_systems(recipe), 30)
    assert all(np.array_equal(one.positions, other.positions) for one, other in zip(frames, again, strict=True))


def test_a_smiles_gives_conformers_and_warm_frames(toys: Path) -> None:
    pytest.importorskip("rdkit")
    recipe = _recipe(toys, systems={"files": [], "smiles": ["CCO"]})
    systems = read_systems(recipe)
    frames = seed_frames(recipe, systems, 20)
    made = [frame.info["made"] for frame in frames]
    assert any("MMFF94 1000 K" in one for one in made)
    assert any("rattled" in one for one in made)
    assert 1 <= len(systems[0].starts) <= 3
    assert frames[0].get_chemical_formula() == "C2H6O"


def test_one_molecule_is_one_system_and_is_held_out_whole(toys: Path) -> None:
    pytest.importorskip("rdkit")
    twice = read_systems(_recipe(toys, systems={"files": [], "smiles": ["CCO", "OCC", "CO"]}))
    assert [system.name for system in twice] == ["CCO", "CO"]
    ethanols = [molecule("CH3CH2OH"), molecule("CH3CH2OH")]
    ase.io.write(toys / "ethanol.extxyz", ethanols)
    for seed in range(4):
        recipe = _recipe(toys, systems={"files": ["ethanol.extxyz"], "smiles": ["CCO", "CO"]}, seed=seed)
        held = {system.name: system.is_held_out for system in read_systems(recipe)}
        assert held["ethanol"] == held["CCO"]
        assert sum(held.values()) in (1, 2)


def test_what_is_held_out_of_one_system_begins_elsewhere(toys: Path) -> None:
    """Of many frames, few are taken from all over, and those that are held out come from others."""
    frames = [Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.0 + 0.01 * k]]) for k in range(200)]
    ase.io.write(toys / "path.extxyz", frames)
    recipe = _recipe(toys, systems={"files": ["path.extxyz"], "rattle": [1e-6]})
    found = seed_frames(recipe, read_systems(recipe), 30)
    parts = [
        {round((frame.get_distance(0, 1) - 2.0) / 0.01) for frame in found if frame.info["part"] == part}
        for part in ("train", "held_out")
    ]
    assert not parts[0] & parts[1]
    assert min(map(np.ptp, map(sorted, parts))) > 100


def test_dynamics_by_mmff94_conserve_and_warm_up() -> None:
    pytest.importorskip("rdkit")
    from mlff_calc.datasets.molecules import from_smiles
    from mlff_calc.distillation.warm import MMFF, warm_frames

    mol = from_smiles("CO").mol
    start = molecule("CH3OH")
    start = Atoms([atom.GetAtomicNum() for atom in mol.GetAtoms()], start.positions)
    systems, positions = Systems.of([start, start])
    moved = positions.copy()
    evaluate, step = MMFF(mol), 1e-4
    moved[2] += step
    forward = evaluate(systems, moved).energies[0]
    moved[2] -= 2 * step
    slope = (forward - evaluate(systems, moved).energies[0]) / (2 * step)
    assert -evaluate(systems, positions).forces[2].sum() == pytest.approx(slope, rel=1e-4)
    frames = warm_frames(mol, [start], [100.0, 1000.0], 20, seed=1)
    assert [temperature for _, temperature in frames[:3]] == [100.0, 1000.0, 100.0]
    far = [np.ptp([atoms.get_distance(0, 1) for atoms, at in frames[4:] if at == one]) for one in (100.0, 1000.0)]
    assert far[1] > far[0]


class _Harmonic(Students):
    """Students that hold atoms to their start, and forget to beyond a distance."""

    def __init__(self, start: np.ndarray, stiffness: float) -> None:
        self.start, self.stiffness = start, stiffness

    def judge(self, systems: Systems, positions: np.ndarray) -> Judgement:
        away = positions - self.start
        if np.abs(away).max() > 50.0:
            raise StructureError("too far")
        return Judgement(np.zeros(len(systems)), -self.stiffness * away, np.linalg.norm(away, axis=1))

    def fails(self, systems: Systems, positions: np.ndarray) -> np.ndarray:
        return systems.maxima(np.abs(positions - self.start).max(axis=1)) > 50.0


def _starts(n: int, symbols: str = "Cu4") -> list[Atoms]:
    starts = []
    for _ in range(n):
        atoms = tetrahedron(2.5 if symbols == "Cu4" else 2.2)
        atoms.symbols = symbols
        atoms.info["system"] = "cu4"
        starts.append(atoms)
    return starts


def test_plausible_trajectories_run_to_their_end() -> None:
    starts = _starts(4)
    students = _Harmonic(np.concatenate([atoms.positions for atoms in starts]), 5.0)
    section = ExploreSection(temperatures=[300.0], steps=60, every=20, timestep=2.0)
    found = explore(students, starts, section, 60, seed=1)
    assert len(found.frames) == 12
    assert not found.last
    assert not found.endings
    assert {(atoms.info["replica"], atoms.info["step"]) for atoms in found.frames} == {
        (replica, step) for replica in range(4) for step in (20, 40, 60)
    }
    assert found.spreads[5] == pytest.approx(
        np.linalg.norm(found.frames[5].positions - starts[0].positions, axis=1).max(), abs=1e-12
    )


@pytest.mark.parametrize(
    ("stiffness", "more", "expected"),
    [
        (-50.0, {"timestep": 1.0, "max_force": 3.0}, "forces that are too large"),
        (-50.0, {"max_force": 1e9}, "a temperature that is too high"),
        (0.0, {"temperatures": [3000.0]}, "a bond that broke"),
        (0.0, {"temperatures": [3000.0], "reactive": True}, "atoms that are too near"),
    ],
)
def test_implausible_trajectories_end_and_leave_their_last_frame(
    stiffness: float, more: dict[str, Any], expected: str
) -> None:
    starts = _starts(3, "P4")
    students = _Harmonic(np.concatenate([atoms.positions for atoms in starts]), stiffness)
    section = ExploreSection(**{"temperatures": [300.0], "every": 5, "timestep": 5.0, "friction": 1.0} | more)
    found = explore(students, starts, section, 2000, seed=3)
    assert expected in found.endings
    lengths = [np.linalg.norm(atoms.positions - starts[0].positions, axis=1).max() for atoms in found.frames]
    assert max(lengths, default=0.0) < 60.0
    for number in found.last:
        frame = found.frames[number]
        later = [atoms for atoms in found.frames if atoms.info["replica"] == frame.info["replica"]]
        assert max(atoms.info["step"] for atoms in later) == frame.info["step"]


def test_one_that_breaks_does_no_harm_to_the_others() -> None:
    starts = _starts(2)
    calm = np.concatenate([atoms.positions for atoms in starts])

    class One(_Harmonic):
        def judge(self, systems: Systems, positions: np.ndarray) -> Judgement:
            found = super().judge(systems, positions)
            forces = found.forces.copy()
            forces[4:] = np.nan if np.abs(positions[4:] - calm[4:]).max() > 0.02 else forces[4:]
            return Judgement(found.energies, forces, found.spreads)

    section = ExploreSection(temperatures=[300.0], every=10, timestep=2.0)
    found = explore(One(calm, 5.0), starts, section, 50, seed=1)
    assert [atoms.info["step"] for atoms in found.frames if atoms.info["replica"] == 0] == [10, 20, 30, 40, 50]
    assert found.endings == {"forces that are too large": 1}


def _potential(seed: int, **more: Any) -> Any:
    backbone = {"name": "hegnn", "cutoff": 4.0, "l_max": 1, "channels": 8, "n_layers": 1}
    config = {"backbone": backbone, "elements": ["Cu"], "scale": 1.0, "avg_num_neighbors": 3.0}
    return build_potential(config | more, seed=seed)


def test_students_in_a_batch_are_those_one_by_one() -> None:
    from mlff_calc import CommitteeCalculator

    members = [_potential(seed) for seed in range(3)]
    students = Students(members)
    frames = _starts(3)
    random = np.random.default_rng(0)
    for atoms in frames:
        atoms.positions += random.normal(scale=0.1, size=(4, 3))
    found = students.judge_frames(frames)
    committee = CommitteeCalculator(members, device="cpu", domain="off")
    for k, atoms in enumerate(frames):
        one = committee.evaluate(atoms)
        rows = slice(4 * k, 4 * k + 4)
        assert np.allclose(found.forces[rows], one["forces"], atol=1e-5)
        assert np.allclose(found.spreads[rows], np.linalg.norm(one["forces_std"], axis=1), atol=1e-5)
    features = students.features(frames)
    assert features.shape == (3, 16)
    turned = frames[0].copy()
    turned.rotate(40.0, "x")
    assert np.allclose(students.features([turned])[0], features[0], atol=1e-4)


def test_students_that_cannot_be_a_committee() -> None:
    with pytest.raises(OptionError, match="a single student has no spread"):
        Students([_potential(0)])
    one = Students([_potential(0, uncertainty={})])
    assert one.judge_frames(_starts(1)).spreads.shape == (4,)


def test_what_a_budget_buys(toys: Path) -> None:
    free = {"steps": None, "final_steps": None}
    recipe = _recipe(toys, budget={"minutes": 10.0, "rounds": 4, "labels": None}, student={"committee": 2, **free})
    plan = planned(recipe, 0.05, 0.02, 0.001)
    assert plan.labels == math.floor(0.35 * 360.0 / 0.05)
    cheap = planned(recipe, 0.001, 0.4, 0.001)  # 600 steps of 8 frames in the last training, 20 passes over the labels
    assert cheap.labels == 240
    assert plan.first + plan.rounds * (plan.batch + plan.audit) <= plan.labels
    assert plan.steps * 2 * (plan.rounds + 1) * 0.02 == pytest.approx(0.45 * 360.0, rel=0.05)
    assert plan.final_steps is None
    assert "In 10 minutes" in plan.told(recipe)
    assert plan.within(10.0, 100.0) == plan
    assert plan.within(90.0, 100.0).steps == plan.steps // 2
    assert plan.within(1e9, 1.0).steps == 20
    assert planned(recipe, 4.0, 0.02, 0.001).labels == 50  # 31 are the share of the labels
    with pytest.raises(OptionError, match=r"so that 45 labels fit .* give more than 11.1 minutes"):
        planned(recipe, 8.0, 0.02, 0.001)
