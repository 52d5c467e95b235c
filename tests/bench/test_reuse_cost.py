"""Cost of tolerances for a small potential: float64 needs more evaluations and has smaller errors."""

from __future__ import annotations

from ase.build import molecule

from mlff_calc.bench.studies.reuse_cost import KINDS, RULES, step_costs
from mlff_calc.potential import build_potential


def test_costs_of_a_step() -> None:
    backbone = {
        "name": "deq", "block": "equiformer", "prelude": 0,
        "cutoff": 4.0, "channels": 4, "l_max": 1, "heads": 2, "edge_channels": 8,
    }  # fmt: skip
    potential = build_potential({"backbone": backbone, "elements": ["H", "O"]}, seed=7)
    costs = step_costs(potential, molecule("H2O"), steps=2, repeats=1)
    found = {(cost.kind, cost.precision, cost.rule): cost for cost in costs}
    assert list(found) == [(kind, number, rule) for kind in KINDS for number in ("float32", "float64") for rule in RULES]
    for kind in KINDS:
        loose, exact = (found[kind, "float64", rule] for rule in RULES)
        assert exact.error < 1e-3 * loose.error
        assert exact.n_forward > loose.n_forward >= 4.0
        assert exact.n_adjoint > loose.n_adjoint >= 4.0
        assert exact.ms > 0.0
    assert found["dynamics", "float32", "precision"].n_forward == found["dynamics", "float32", "one tolerance"].n_forward
