"""Backbones that compute only the degrees that heads read give the same results as with all degrees."""

from __future__ import annotations

import pytest
import torch
from ase.build import molecule
from torch import Tensor

from mlff_calc.backbones import available_backbones, build_backbone
from mlff_calc.errors import OptionError
from mlff_calc.graph import graph_from_atoms
from mlff_calc.heads import DenoisingHead, DirectForcesHead, Features
from mlff_calc.potential import build_potential


@pytest.mark.parametrize("l_max", [0, 1])
@pytest.mark.parametrize("name", available_backbones())
def test_degrees_that_heads_read_are_those_of_all_outputs(name: str, l_max: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        options = {"name": name, "cutoff": 3.0, "channels": 8}
        backbone = build_backbone(options, n_species=2).double()
    atoms = molecule("CH3CH2OH")
    graph = {**graph_from_atoms(atoms, 3.0), "species": torch.as_tensor(atoms.numbers % 2)}
    kept = (l_max + 1) ** 2

    def outputs() -> tuple[Tensor, Tensor]:
        edge_vec = graph["edge_vec"].clone().requires_grad_(True)
        features = backbone({**graph, "edge_vec": edge_vec})["node_features"]
        read = features[:, :kept]
        weights = torch.linspace(-1.0, 1.0, read.numel(), dtype=torch.float64).view_as(read)
        return features.detach(), torch.autograd.grad((read * weights).sum(), edge_vec)[0]

    whole, gradient = outputs()
    backbone.limit_outputs(l_max)
    limited, limited_gradient = outputs()
    torch.testing.assert_close(limited[:, :kept], whole[:, :kept], rtol=0.0, atol=1e-12)
    torch.testing.assert_close(limited_gradient, gradient, rtol=0.0, atol=1e-11)
    backbone.limit_outputs(backbone.l_max)
    torch.testing.assert_close(outputs()[0], whole, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("head", [DirectForcesHead(Features(2, 8)), DenoisingHead(Features(2, 8))])
def test_heads_of_vectors_refuse_features_without(head: torch.nn.Module) -> None:
    graph = graph_from_atoms(molecule("CH3CH2OH"), 3.0)
    with pytest.raises(OptionError, match=r"call limit_outputs\(1\)"):
        head({**graph, "node_features": torch.zeros(9, 1, 8)})


def test_potentials_compute_what_their_heads_read() -> None:
    config = {"backbone": {"name": "hegnn", "cutoff": 3.0, "channels": 8}, "elements": ["H", "C", "O"]}
    graph = graph_from_atoms(molecule("CH3CH2OH"), 3.0)
    for forces, n_components in (("gradient", 1), ("direct", 4)):
        potential = build_potential({**config, "forces": forces}, seed=0)
        features = potential.backbone(potential.inputs(graph, graph["edge_vec"]))["node_features"]
        assert features.shape == (9, n_components, 8)
