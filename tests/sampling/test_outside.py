"""What many structures are told about a calibrated potential: those whose spread of a force is above the threshold."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import molecule

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.graph.domain import SPREAD, domain_of
from mlff_calc.potential import Potential, build_potential
from mlff_calc.sampling.evaluators import BatchedPotential
from mlff_calc.sampling.systems import Systems


def frames() -> list[Atoms]:
    random, found = np.random.default_rng(0), []
    for _ in range(6):
        atoms = molecule("CH3OH")
        atoms.positions += random.normal(scale=0.03, size=atoms.positions.shape)
        found.append(atoms)
    return found


def potential(*, heads: bool = True) -> Potential:
    backbone = {"name": "hegnn", "cutoff": 4.0, "l_max": 1, "channels": 4, "n_layers": 1}
    config = {"backbone": backbone, "elements": ["H", "C", "O"]} | ({"uncertainty": {}} if heads else {})
    made = build_potential(config, seed=0).eval()
    made.domain = domain_of(frames(), made.cutoff)
    return made


def test_structures_above_the_threshold_are_counted() -> None:
    one, some = potential(), frames()
    calculator = MLFFCalculator(one, precision="float64")
    spreads = sorted(np.linalg.norm(calculator.evaluate(atoms)["forces_std"], axis=1).max() for atoms in some)
    evaluator, (systems, positions) = BatchedPotential(one.double()), Systems.of(some)
    assert evaluator.outside(systems, positions) == []
    one.domain |= {SPREAD: float(np.mean(spreads[3:5]))}
    (text,) = evaluator.outside(systems, positions)
    assert text.startswith("the spread of the force on atom ")
    assert text.endswith(", and that of 2 of 6 structures is above it")
    one.domain |= {SPREAD: float(2.0 * spreads[-1])}
    assert evaluator.outside(systems, positions) == []


def test_a_threshold_without_heads_of_errors_is_not_compared() -> None:
    one = potential(heads=False)
    one.domain |= {SPREAD: 1e-9}
    assert BatchedPotential(one).outside(*Systems.of(frames())) == []
