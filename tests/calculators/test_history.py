"""Results do not depend on earlier calculations: each equals the cold solve of a new calculator."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.md.verlet import VelocityVerlet
from ase.phonons import Phonons
from ase.vibrations import Vibrations

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.calculators.reuse import Reuse
from mlff_calc.potential import Potential, build_potential

SIZES = {"cutoff": 4.0, "channels": 4, "l_max": 1, "heads": 2, "edge_channels": 8}
TOLERANCES = {"float32": 2e-3, "float64": 1e-7}
"""Tolerances of forces and stresses relative to the largest: twenty times the residual of a cold solve in float32 (1e-4),
and ten times that in float64 (1e-8)."""


def make_potential() -> Potential:
    """Build a potential with the default tolerance of recipes."""
    backbone = {"name": "deq", "block": "equiformer", "prelude": 0, **SIZES}
    return build_potential({"backbone": backbone, "elements": ["H", "O", "Si"]}, seed=7)


def calculator(precision: str, reuse: str | Reuse = "auto") -> MLFFCalculator:
    return MLFFCalculator(make_potential(), precision=precision, device="cpu", reuse=reuse)


class Asked:
    """Calls one calculator, and compares each result with that of a new calculator that solves cold."""

    def __init__(self, precision: str, reuse: str = "auto") -> None:
        self.calc, self.precision = calculator(precision, reuse), precision
        self.right = calculator(precision, "none")
        self.answers = 0

    def __call__(self, atoms: Atoms) -> dict[str, np.ndarray]:
        found, right = self.calc.evaluate(atoms), self.right.evaluate(atoms.copy())
        for key in ("forces", "stress"):
            if key in right:
                scale = np.abs(right[key]).max()
                assert scale > 1e-6
                np.testing.assert_allclose(found[key], right[key], rtol=0.0, atol=TOLERANCES[self.precision] * scale)
        self.answers += 1
        return found


def water(seed: int = 1) -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.03, seed=seed)
    return atoms


def crystal() -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=2)
    return atoms


def displacements(ask: Asked, base: Atoms) -> None:
    """Displace each of two atoms by plus and minus a step, with one Atoms object for all displacements."""
    moved = base.copy()
    for atom in (0, 1):
        for step in (0.01, -0.01):
            moved.positions[:] = base.positions
            moved.positions[atom, 2 * atom] += step
            ask(moved)


def copies(ask: Asked, base: Atoms) -> None:
    """Make a new object for each displacement and delete it before the next, so that memory addresses are reused."""
    for axis, step in ((0, 0.02), (0, -0.02), (1, 0.3), (2, 0.02)):
        moved = base.copy()
        moved.positions[0, axis] += step
        ask(moved)
        del moved
        gc.collect()


def turns(ask: Asked, base: Atoms) -> None:
    """Evaluate several objects in turn: two are nearly equal, and one has the same atoms in another order."""
    kinds = [base.copy(), base.copy(), base[::-1]]
    kinds[1].positions[0, 0] += 0.02
    for step in (0.01, -0.01):
        for one in kinds:
            one.positions[1, 1] += step
            ask(one)


def resets(ask: Asked, base: Atoms) -> None:
    """Evaluate the same structure several times, with resets in between."""
    moved = base.copy()
    for step in (0.0, 0.02, -0.02):
        moved.positions[:] = base.positions
        moved.positions[0, 0] += step
        first = ask(moved)["forces"]
        ask.calc.reset()
        again = ask.calc.evaluate(moved)["forces"]
        np.testing.assert_allclose(again, first, rtol=0.0, atol=2 * TOLERANCES[ask.precision] * np.abs(first).max())


def strains(ask: Asked, base: Atoms) -> None:
    """Strain one object by plus and minus a step and then in a series, as for elastic constants and equations of state."""
    moved, cell = base.copy(), base.cell.array
    for size in (0.01, -0.01, 0.02):
        moved.set_cell(cell @ np.diag([1.0, 1.0, 1.0 + size]), scale_atoms=True)
        ask(moved)
    for size in (0.98, 0.99, 1.0, 1.01):
        moved.set_cell(size * cell, scale_atoms=True)
        ask(moved)


def scans(ask: Asked, base: Atoms) -> None:
    """Move an atom in one direction, by steps that do not occur in dynamics."""
    moved = base.copy()
    for _ in range(4):
        moved.positions[0] += [0.12, 0.05, -0.05]
        ask(moved)


@pytest.mark.parametrize(
    ("history", "structure", "precision"),
    [
        (displacements, water, "float32"),
        (displacements, crystal, "float64"),
        (copies, water, "float64"),
        (turns, water, "float32"),
        (turns, water, "float64"),
        (resets, water, "float32"),
        (resets, water, "float64"),
        (strains, crystal, "float32"),
        (strains, crystal, "float64"),
        (scans, water, "float32"),
        (scans, water, "float64"),
    ],
)
def test_answers_are_those_of_a_new_calculator(history: object, structure: object, precision: str) -> None:
    ask = Asked(precision)
    history(ask, structure())
    assert ask.answers >= 3


def test_displacements_between_the_steps_of_a_trajectory() -> None:
    """Displacements of the moving object and of copies of it give the results of cold solves."""
    ask, atoms = Asked("float64"), water()
    atoms.calc = ask.calc
    atoms.set_velocities(0.01 * np.random.default_rng(0).normal(size=(3, 3)))
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    dynamics.run(3)
    displacements(ask, atoms)
    dynamics.run(2)
    ask(atoms)


@pytest.mark.slow
def test_vibrations(tmp_path: Path) -> None:
    """Frequencies from a calculator that has computed them before equal those of cold solves."""
    frequencies, again = [], calculator("float64")
    for calc in (calculator("float64", "none"), again, again):
        atoms = water()
        atoms.calc = calc
        vibrations = Vibrations(atoms, indices=[0], name=str(tmp_path / str(len(frequencies))))
        vibrations.run()
        frequencies.append(vibrations.get_frequencies())
    assert np.abs(frequencies[0]).max() > 10.0
    for found in frequencies[1:]:
        np.testing.assert_allclose(found, frequencies[0], rtol=0.0, atol=0.01)


@pytest.mark.slow
def test_phonons_of_silicon(tmp_path: Path) -> None:
    """After calculations of other structures, frequencies are within 0.05 per cm of those of solves to 1e-9."""
    frequencies = []
    for mode in (Reuse(tolerance=1e-9), "auto"):
        calc = MLFFCalculator("silicon_deq", precision="float64", device="cpu", reuse=mode)
        if mode == "auto":
            other = bulk("Si", cubic=True)
            other.rattle(0.1, seed=1)
            for strain in (1.0, 1.02, 0.98):
                calc.evaluate(Atoms(other, cell=other.cell * strain, positions=other.positions * strain))
        else:
            calc._models[0].potential.backbone.tolerance = 1e-9
        phonons = Phonons(bulk("Si"), calc, supercell=(2, 2, 2), delta=0.01, name=str(tmp_path / str(len(frequencies))))
        phonons.run()
        phonons.read(acoustic=True)
        path = np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.5], [0.375, 0.375, 0.75], [0.5, 0.5, 0.5], [0.1, 0.2, 0.3]])
        frequencies.append(phonons.band_structure(path, verbose=False) / units.invcm)
    assert frequencies[0].max() > 400.0
    np.testing.assert_allclose(frequencies[1], frequencies[0], rtol=0.0, atol=0.05)
