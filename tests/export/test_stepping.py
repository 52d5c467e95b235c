"""Exported steps of a fixed point, driven as by an engine to the tolerance for the precision of the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.calculators.reuse import Reuse
from mlff_calc.calculators.stepping import stepping_of
from mlff_calc.export import ExportedPotential, Stepping, export_potential, load_exported
from mlff_calc.export.artifact import _metadata
from mlff_calc.graph import graph_from_atoms
from mlff_calc.potential import Potential, build_potential, load_potential
from mlff_calc.potential.engine import COLD, CONTINUE, PREDICT, EngineStep
from mlff_calc.potential.fixed_point_step import FixedPointStep, StepSizes


def small() -> Potential:
    """Make a deep equilibrium with the default tolerance of recipes, in float32."""
    sizes = {"cutoff": 4.0, "l_max": 1, "channels": 4, "heads": 2, "edge_channels": 8}
    backbone = {"name": "deq", "block": "equiformer", "prelude": 0, **sizes}
    return build_potential({"backbone": backbone, "elements": ["H", "C", "O"]}, seed=7)


class Engine:
    """Drive a file like `pair_style mlff`: start cold, predict later steps, and continue until both residuals are within the
    tolerance in the file."""

    def __init__(self, exported: ExportedPotential) -> None:
        self.exported, self.calls = exported, 0
        self.facts = exported.metadata.fixed_point or {}
        self.memory: torch.Tensor | None = None

    def forces(self, atoms: Atoms) -> np.ndarray:
        inputs = self.exported._inputs(graph_from_atoms(atoms, self.exported.cutoff))
        mode, tolerance = PREDICT, self.facts["tolerance"]
        if self.memory is None:
            mode, tolerance = COLD, self.facts["cold_tolerance"]
            dtype = torch.float64 if self.exported.precision == "float64" else torch.float32
            self.memory = torch.zeros(len(atoms), self.facts["slots"], self.facts["width"], dtype=dtype)
        for _ in range(self.facts["max_repeats"]):
            control = torch.tensor([mode, self.facts["fit_ridge"], self.facts["ridge"], 0.0], dtype=torch.float64)
            out = self.exported._call({**inputs, "memory": self.memory, "control": control})
            self.calls += 1
            self.memory, mode = out["memory"], CONTINUE
            if float(out["residuals"].max()) <= tolerance:
                return out["forces"].numpy()
        raise AssertionError("the step did not end")


def follow(potential: Potential, atoms: Atoms, file: Path, stepping: Stepping) -> None:
    """Return results for a trajectory and a displacement in both directions, by the file in float64 and by cold solves."""
    export_potential(potential, file, to="lammps", precision="float64", stepping=stepping)
    exported = load_exported(file)
    assert exported.metadata.fixed_point["tolerance"] == exported.metadata.fixed_point["cold_tolerance"] == 1e-8
    engine, fresh = Engine(exported), MLFFCalculator(potential, precision="float64", device="cpu", reuse="none")
    velocities = 0.01 * np.random.default_rng(5).normal(size=(len(atoms), 3))
    for step in (0.0, 1.0, 1.0, 1.0, -1.0, 2.0):
        atoms.positions += step * velocities
        right = fresh.evaluate(atoms.copy())["forces"]
        scale = np.abs(right).max()
        assert scale > 1e-4
        np.testing.assert_allclose(engine.forces(atoms), right, rtol=0.0, atol=2e-7 * scale)
    assert engine.calls > 6  # some steps needed more than one call


def test_warm_steps_in_float64_are_cold_solves_in_float64(tmp_path: Path) -> None:
    atoms = molecule("H2O")
    atoms.rattle(0.03, seed=1)
    sizes = StepSizes(1, 1, 2, 2)  # fewer evaluations per call than recommended are traced and compiled faster
    follow(small(), atoms, tmp_path / "p.pt", replace(stepping_of("auto", small()), sizes=sizes))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ethanol_deq", "silicon_deq"])
def test_of_the_potentials_that_ship_too(name: str, tmp_path: Path) -> None:
    atoms = molecule("CH3CH2OH") if name == "ethanol_deq" else bulk("Si", cubic=True)
    atoms.rattle(0.03, seed=1)
    potential = load_potential(name)
    follow(potential, atoms, tmp_path / "p.pt", stepping_of("auto", potential))


@pytest.mark.parametrize("given", ["float32", "float64"])
@pytest.mark.parametrize(
    ("option", "precision", "expected"),
    [
        ("auto", "float32", (1e-3, 1e-4)),
        ("conservative", "mixed", (1e-3, 1e-4)),
        ("conservative", "float64", (1e-8, 1e-8)),
        ("fast", "float64", (2e-2, 1e-8)),
        (Reuse(tolerance=3e-5), "float64", (3e-5, 1e-8)),
        (Reuse(tolerance=3e-5), "float32", (3e-5, 1e-4)),
    ],
)
def test_a_file_contains_the_tolerances_of_its_precision(
    option: str | Reuse, precision: str, expected: tuple[float, float], given: str
) -> None:
    """Tolerances depend on the precision of the file, not on that of the original potential."""
    potential = small().to_precision(given)
    stepping = stepping_of(option, potential)
    assert isinstance(stepping, Stepping)
    potential = potential.to_precision(precision)
    facts = _metadata(potential, EngineStep(FixedPointStep(potential, stepping.sizes)), "lammps", "torchscript", stepping)
    assert facts.fixed_point is not None
    assert (facts.fixed_point["tolerance"], facts.fixed_point["cold_tolerance"]) == expected
