"""The contract of fixed-point backbones with the default tolerances of recipes, instead of those set in other tests.

In float64, forces equal differences of the energy to 1e-6 of the largest force, in cold starts and along trajectories,
for all forms of the map and its solver.
"""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from mlff_calc.backbones import available_backbones, is_fixed_point
from mlff_calc.calculators import MLFFCalculator
from mlff_calc.potential import Potential, build_potential

EQUIFORMER = {"block": "equiformer", "prelude": 0, "heads": 2, "edge_channels": 8}
FORMS = {
    "anderson": {},
    "broyden": {"solver": "broyden"},
    "picard": {"solver": "picard", "max_evaluations": 200},
    "two blocks": {"n_blocks": 2},
    "no prelude": {"prelude": 0},
    "multivectors": {"block": "cg_egnn"},
    "attention": EQUIFORMER,
    "fewer orders": {**EQUIFORMER, "l_max": 2, "m_max": 1},
    "loose": {**EQUIFORMER, "tolerance": 1e-2},
}
FIXED_POINTS = [name for name in available_backbones() if is_fixed_point(name)]
STEP = 2e-3


def of_form(name: str, form: str, repulsion: str | None) -> Potential:
    """Build a potential in float32, like `load_potential`; it is used in float64 later."""
    backbone = {"name": name, "cutoff": 4.0, "l_max": 1, "channels": 4, **FORMS[form]}
    config = {"backbone": backbone, "elements": ["H", "C", "O"], "avg_num_neighbors": 8.0}
    if repulsion:
        config["repulsion"] = {"name": repulsion}
    return build_potential(config, seed=7).eval()


def water() -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=3)
    return atoms


def slope(calc: MLFFCalculator, atoms: Atoms, direction: np.ndarray) -> float:
    """Return a difference of fourth order of energies of one object, displaced in both directions as for phonons."""
    moved, energies = atoms.copy(), []
    for factor in (-2, -1, 1, 2):
        moved.positions[:] = atoms.positions + factor * STEP * direction
        energies.append(calc.evaluate(moved)["energy"])
    return (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * STEP)


def follow(potential: Potential) -> None:
    """Forces of cold solves, of warm steps of a trajectory and of a step back in it agree with differences."""
    atoms, generator = water(), np.random.default_rng(4)
    cold = MLFFCalculator(potential, precision="float64", device="cpu", reuse="none")
    warm = MLFFCalculator(potential, precision="float64", device="cpu")
    drift, direction = 0.01 * generator.normal(size=(3, 3)), generator.normal(size=(3, 3))
    direction /= np.linalg.norm(direction)
    warm.evaluate(atoms)
    for step in (1.0, 1.1, 1.2, -0.7):
        atoms.positions += step * drift
        forces = warm.evaluate(atoms)["forces"]
        scale = np.abs(forces).max()
        assert scale > 1e-4
        np.testing.assert_allclose(forces, cold.evaluate(atoms)["forces"], rtol=0.0, atol=1e-6 * scale)
    stats = warm.stats
    assert stats.n_cold == 1 + stats.n_retries < stats.n_calls  # not all steps are solved cold
    assert np.abs(np.sum(forces * direction)) > 0.01 * scale
    for calc in (cold, warm):
        assert slope(calc, atoms, direction) == pytest.approx(-np.sum(forces * direction), rel=0.0, abs=1e-6 * scale)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FIXED_POINTS)
def test_forces_are_differences_of_the_energy(name: str, form: str) -> None:
    follow(of_form(name, form, "zbl" if form == "two blocks" else None))
