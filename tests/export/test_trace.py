"""Traced potentials compute what the potential computes, and traces for training have its derivatives as well."""

from __future__ import annotations

import pytest
import torch
from ase.build import molecule

from mlff_calc.export.trace import INPUTS, trace_for_training
from mlff_calc.graph import collate, graph_from_atoms
from mlff_calc.potential import build_potential


@pytest.mark.parametrize(("l_max", "n_layers"), [(0, 1), (1, 1), (2, 2)])
@pytest.mark.parametrize("what", ["energy", "forces"])
def test_gradients_with_respect_to_the_weights(l_max: int, n_layers: int, what: str) -> None:
    """A trace that detaches what autograd keeps has the right forces with wrong gradients."""
    sizes = {"cutoff": 4.0, "l_max": l_max, "channels": 8, "n_layers": n_layers}
    config = {"backbone": {"name": "equiformer", **sizes}, "elements": ["H", "C", "O"], "repulsion": {"name": "zbl"}}
    potential = build_potential(config, seed=1).to_precision("float64").train()
    batch = collate([graph_from_atoms(molecule(name), potential.cutoff) for name in ("H2O", "CH3CH2OH", "CH4")])
    traced, parameters, names = trace_for_training(potential, batch)
    outputs = [potential(batch), dict(zip(names, traced(*parameters, *[batch[key] for key in INPUTS]), strict=True))]
    torch.testing.assert_close(outputs[1][what], outputs[0][what], rtol=1e-12, atol=1e-12)
    gradients = [
        torch.autograd.grad((out[what] ** 2).sum(), parameters, allow_unused=True, materialize_grads=True)
        for out in outputs
    ]
    assert sum(bool((eager != 0).any()) for eager in gradients[0]) > len(parameters) // 2
    for eager, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, eager, rtol=1e-10, atol=1e-12)
