"""Fast calculators, and structures with known physics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.io import read


class Springs(Calculator):
    """Calculator that compares positions alone, since ASE's comparison of structures takes most of the time of a step."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012
    history_free = True
    seen: np.ndarray | None = None

    def check_state(self, atoms, tol=1e-15) -> list[str]:
        return [] if self.seen is not None and np.array_equal(self.seen, atoms.positions) else ["positions"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        self.seen = atoms.positions.copy()
        self.results = self.evaluate(atoms)


class Einstein(Springs):
    """Einstein crystal: each atom is tied to its first position by a spring, E = k/2 |r - r0|^2."""

    def __init__(self, anchors: np.ndarray, stiffness: float = 5.0) -> None:
        super().__init__()
        self.anchors, self.stiffness = np.array(anchors), stiffness

    def evaluate(self, atoms: Atoms) -> dict[str, object]:
        moved = atoms.positions - self.anchors
        return {"energy": 0.5 * self.stiffness * float(np.sum(moved**2)), "forces": -self.stiffness * moved}


class Bonded(Springs):
    """Springs between all pairs, at rest at their first lengths, which conserve momentum and angular momentum."""

    def __init__(self, atoms: Atoms, stiffness: float = 5.0) -> None:
        super().__init__()
        self.lengths, self.stiffness = atoms.get_all_distances(), stiffness

    def evaluate(self, atoms: Atoms) -> dict[str, object]:
        vectors = atoms.positions[None] - atoms.positions[:, None]
        distances = np.linalg.norm(vectors, axis=2) + np.eye(len(atoms))
        stretch = distances - self.lengths - np.eye(len(atoms))
        pull = self.stiffness * stretch / distances
        return {
            "energy": 0.25 * self.stiffness * float(np.sum(stretch**2)),
            "forces": np.einsum("ij,ijk->ik", pull, vectors),
        }


def _copper(repeat: int = 2) -> Atoms:
    atoms = bulk("Cu", cubic=True).repeat(repeat)
    atoms.rattle(0.02, seed=1)
    atoms.calc = EMT()
    return atoms


@pytest.fixture
def copper():
    """Function that makes rattled copper with EMT and 4 * repeat^3 atoms."""
    return _copper


@pytest.fixture
def einstein():
    """Class of the Einstein crystal."""
    return Einstein


@pytest.fixture
def bonded():
    """Class of the springs between all atoms."""
    return Bonded


def _same_run(one: Path, other: Path) -> None:
    """Assert that two folders hold the same run bit by bit, apart from times of the clock."""
    frames, others = read(one / "trajectory.traj", ":"), read(other / "trajectory.traj", ":")
    assert [atoms.info["step"] for atoms in frames] == [atoms.info["step"] for atoms in others]
    for atoms, twin in zip(frames, others, strict=True):
        np.testing.assert_array_equal(atoms.positions, twin.positions)
        np.testing.assert_array_equal(atoms.get_momenta(), twin.get_momenta())
        np.testing.assert_array_equal(atoms.cell[:], twin.cell[:])
    rows, twins = ((folder / "log.csv").read_text().splitlines() for folder in (one, other))
    assert [row.rsplit(",", 1)[0] for row in rows] == [row.rsplit(",", 1)[0] for row in twins]


@pytest.fixture
def same_run():
    """Function that asserts that two folders hold the same run."""
    return _same_run
