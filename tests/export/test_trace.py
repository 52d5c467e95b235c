"""Traced potentials give the results of the potential for any size, and traces for training also its derivatives."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from mlff_calc.export.trace import INPUTS, trace_for_training
from mlff_calc.graph import Graph, collate, graph_from_atoms
from mlff_calc.potential import Potential, build_potential


def potential_of(l_max: int, n_layers: int, channels: int = 8) -> Potential:
    config = {
        "backbone": {"name": "equiformer", "cutoff": 4.0, "l_max": l_max, "channels": channels, "n_layers": n_layers},
        "elements": ["H", "C", "O", "Si"],
        "repulsion": {"name": "zbl"},
    }
    return build_potential(config, seed=1).to_precision("float64").train()


def batch_of(structures: list[Atoms], potential: Potential) -> Graph:
    return collate([graph_from_atoms(atoms, potential.cutoff) for atoms in structures])


def crystal() -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=0)
    return atoms


MOLECULES = [molecule(name) for name in ("H2O", "CH3CH2OH", "CH4")]


@pytest.mark.parametrize(("l_max", "n_layers"), [(0, 1), (1, 2), pytest.param(2, 2, marks=pytest.mark.slow)])
def test_gradients_with_respect_to_the_weights(l_max: int, n_layers: int) -> None:
    """A trace that detaches saved tensors of autograd would have correct forces but wrong gradients."""
    potential = potential_of(l_max, n_layers)
    batch = batch_of([*MOLECULES, crystal()], potential)
    traced, parameters, numbers, names = trace_for_training(potential, batch)
    found = traced(*parameters, *numbers, *[batch[key] for key in INPUTS])
    outputs = [potential(batch), dict(zip(names, found, strict=True))]
    for what in ("energy", "forces", "stress"):
        torch.testing.assert_close(outputs[1][what], outputs[0][what], rtol=1e-12, atol=1e-12)
        assert outputs[0][what].abs().max() > 1e-4
        gradients = [
            torch.autograd.grad(
                (out[what] ** 2).sum(), parameters, allow_unused=True, materialize_grads=True, retain_graph=True
            )
            for out in outputs
        ]
        assert sum(bool((eager != 0).any()) for eager in gradients[0]) > len(parameters) // 2
        for eager, found in zip(*gradients, strict=True):
            torch.testing.assert_close(found, eager, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("l_max", "channels", "example"),
    [
        (1, 8, [molecule("H2O"), molecule("CH3CH2OH")[:5]]),  # as many systems as degrees, and as many atoms as channels
        (0, 16, [crystal(), crystal()]),
    ],
    ids=["molecules", "crystals"],
)
def test_sizes_of_the_example_do_not_stick(l_max: int, channels: int, example: list[Atoms]) -> None:
    potential = potential_of(l_max, 1, channels)
    traced, parameters, numbers, names = trace_for_training(potential, batch_of(example, potential))
    for structures in (MOLECULES, [*MOLECULES, crystal(), *example]):
        batch = batch_of(structures, potential)
        found = dict(zip(names, traced(*parameters, *numbers, *[batch[key] for key in INPUTS]), strict=True))
        for name, value in potential(batch).items():
            torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{"name": "equiformer", "l_max": 1}, {"name": "hegnn"}, {"name": "cg_egnn"}], ids=str)
def test_training_graphs_know_the_architecture_and_not_the_data(options: dict[str, object]) -> None:
    """Compiled code is reused for other weights, scales and mean numbers of neighbours."""
    written = []
    for seed, neighbours, scale in ((0, 8.0, 1.0), (1, 21.5, 1.7)):
        config = {
            "backbone": {**options, "channels": 4, "n_layers": 1, "cutoff": 4.0, "avg_num_neighbors": neighbours},
            "elements": ["H", "C", "O"],
            "reference_energies": {"H": -13.0 * scale, "C": -1000.0, "O": -2000.0},
            "scale": scale,
        }
        potential = build_potential(config, seed=seed).to_precision("float64").train()
        batch = batch_of(MOLECULES, potential)
        traced, parameters, numbers, names = trace_for_training(potential, batch)
        written.append(traced.print_readable(print_output=False))
        assert numbers
        found = dict(zip(names, traced(*parameters, *numbers, *[batch[key] for key in INPUTS]), strict=True))
        torch.testing.assert_close(found["forces"], potential(batch)["forces"], rtol=1e-12, atol=1e-12)
    assert written[0] == written[1]
