"""Batches depend only on seed and epoch, and processes share the frames of an epoch."""

from __future__ import annotations

import pytest
from ase.build import bulk, molecule

from mlff_calc.datasets import Sample
from mlff_calc.training.data import EpochLoader
from mlff_calc.training.potential.data import GraphFrames


@pytest.fixture(scope="module")
def frames() -> GraphFrames:
    return GraphFrames([Sample(bulk("Si"), energy=float(index)) for index in range(7)], 2.5)


def flat(batches: list[list[float]]) -> list[float]:
    return [energy for batch in batches for energy in batch]


def energies(loader: EpochLoader) -> list[list[float]]:
    return [batch.labels["energy"].tolist() for batch in loader]


def test_order_of_the_file_and_sizes(frames: GraphFrames) -> None:
    loader = EpochLoader(frames, 3, None)
    assert len(loader) == 3
    assert energies(loader) == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0]]
    (last,) = [batch for batch in loader if batch.frames == [6]]
    assert last.n_atoms.tolist() == [2]
    assert bool(last.labels["forces"].isnan().all())
    assert "energy" not in last.graph


def test_order_is_drawn_from_seed_and_epoch(frames: GraphFrames) -> None:
    first, again = (energies(EpochLoader(frames, 3, 1)) for _ in range(2))
    assert first == again
    assert sorted(flat(first)) == list(range(7))
    later = energies(EpochLoader(frames, 3, 1, epoch=lambda: 1))
    assert later != first
    assert sorted(flat(later)) == list(range(7))
    assert energies(EpochLoader(frames, 3, 2)) != first


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_an_epoch(frames: GraphFrames, world: int) -> None:
    loaders = [EpochLoader(frames, 2, 1, rank, world) for rank in range(world)]
    parts = [flat(energies(loader)) for loader in loaders]
    assert len({len(part) for part in parts}) == 1  # all make the same number of steps
    assert len({len(loader) for loader in loaders}) == 1
    assert {energy for part in parts for energy in part} == set(range(7))
    whole = EpochLoader(frames, 2, 1).order()
    assert [part[0] for part in parts] == whole[:world]
    shares = [flat(energies(EpochLoader(frames, 2, None, rank, world))) for rank in range(world)]
    assert sorted(flat(shares)) == list(range(7))  # validation counts each frame once


def test_average_neighbors(frames: GraphFrames) -> None:
    assert frames.average_neighbors() == 4.0
    assert GraphFrames([Sample(molecule("H2O")), Sample(bulk("Si"))], 2.5).average_neighbors() == (6 + 8) / 5
