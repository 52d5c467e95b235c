"""Recurrent dropout of a fixed-point backbone: one draw per solve in training, and none in evaluation."""

from __future__ import annotations

import pytest
import torch
from ase.build import molecule
from torch import Tensor

from mlff_calc.graph import Graph, collate, graph_from_atoms
from mlff_calc.potential import build_potential
from mlff_calc.potential.fixed_point import FixedPointPotential

SIZES = {"cutoff": 4.0, "l_max": 1, "channels": 4, "heads": 2, "edge_channels": 8}


def make_potential(dropout: float, **options: object) -> FixedPointPotential:
    backbone = {
        "name": "deq", "block": "equiformer", "prelude": 0,
        "dropout": dropout, "training_tolerance": 1e-9, "training_evaluations": 100, **SIZES,
    }  # fmt: skip
    config = {"backbone": {**backbone, "tolerance": 1e-9, **options}, "elements": ["H", "C", "O"]}
    return build_potential(config, seed=1).to_precision("float64")


@pytest.fixture
def batch() -> Graph:
    return collate([graph_from_atoms(molecule(name), 4.0) for name in ("H2O", "CH3OH")])


def factors_of(potential: FixedPointPotential, graph: Graph, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return potential.backbone.dropout_factors(graph)


def test_factors_keep_the_mean(batch: Graph) -> None:
    potential = make_potential(0.25, channels=64)
    factors = factors_of(potential, batch, 0)
    assert factors.shape == (9, 64)
    assert factors.dtype == torch.float64
    assert set(factors.unique().tolist()) == {0.0, 1.0 / 0.75}
    assert float((factors == 0.0).double().mean()) == pytest.approx(0.25, abs=0.06)  # three standard deviations


@pytest.mark.parametrize("n_blocks", [1, 2])
def test_the_same_factors_act_in_all_evaluations(batch: Graph, n_blocks: int) -> None:
    """Constant factors define a map with a fixed point, which differs from that without dropout."""
    potential = make_potential(0.3, n_blocks=n_blocks, feedback=0.1).train()
    graph = batch | {"dropout": factors_of(potential, batch, 3)}
    out = potential(graph)
    assert float(out["residual"].max()) < 1e-9
    assert int(out["evaluations"].min()) > 2  # so the start is not already a solution
    with torch.no_grad():
        prepared = potential.backbone.prepare(potential.inputs(graph, graph["edge_vec"]))
        again = out["state"]
        for _ in range(3):
            again = potential.backbone.evaluate(again, graph["edge_index"], prepared)
    torch.testing.assert_close(again, out["state"], rtol=0.0, atol=1e-7)
    for other in (batch, batch | {"dropout": factors_of(potential, batch, 4)}):
        assert float((potential(other)["state"] - out["state"]).abs().max()) > 1e-3


def test_an_atom_without_messages_is_alone(batch: Graph) -> None:
    """Factors multiply messages to an atom. If all are zero, neighbours only change the number of neighbours."""
    potential = make_potential(0.3).train()
    factors = torch.ones(9, 4, dtype=torch.float64)
    factors[0] = 0.0
    prepared = potential.backbone.prepare(potential.inputs(batch, batch["edge_vec"]) | {"dropout": factors})
    states = [prepared[0].detach(), prepared[0].detach().clone()]
    states[1][1:] += 1.0
    one, other = (potential.backbone.evaluate(state, batch["edge_index"], prepared) for state in states)
    moved = (one - other).detach().abs().amax(dim=(1, 2))
    assert float(moved[0]) == 0.0
    assert float(moved[1:3].min()) > 1e-4


def test_no_effect_in_use(batch: Graph) -> None:
    with_dropout, without = make_potential(0.5).eval(), make_potential(0.0).eval()
    before = torch.get_rng_state()
    found, expected = with_dropout(batch), without(batch)
    assert torch.equal(torch.get_rng_state(), before)
    for name in ("energies", "forces", "state", "adjoint"):
        assert torch.equal(found[name], expected[name])


def test_factors_of_one_change_nothing_in_training(batch: Graph) -> None:
    """Validation uses factors of one, so that a compiled potential keeps its signature."""
    potential = make_potential(0.5).train()
    found, expected = potential(batch | {"dropout": torch.ones(9, 4, dtype=torch.float64)}), potential(batch)
    for name in ("energies", "forces", "state"):
        assert torch.equal(found[name], expected[name])
