"""`cg_egnn`: reach of hops, products of bonds along walks, parity, unusual graphs, options."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor

from mlff_calc.backbones import build_backbone
from mlff_calc.backbones.base import Backbone
from mlff_calc.errors import RecipeError, StructureError
from mlff_calc.graph import graph_from_atoms
from mlff_calc.nn.clifford import geometric_product

CHAIN = np.array([[1.0 * i, 0.2 * (i % 2), 0.1 * i] for i in range(6)])


def backbone_of(**options: object) -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        given = {"name": "cg_egnn", "cutoff": 1.5, "channels": 6, "n_layers": 1, "hops": 1, **options}
        made = build_backbone(given, n_species=1)
    return made.double()


def graph_of(positions: np.ndarray, cutoff: float = 1.5) -> dict[str, Tensor]:
    graph = graph_from_atoms(Atoms("H" * len(positions), positions=positions), cutoff)
    return {**graph, "species": torch.zeros(len(positions), dtype=torch.long)}


def features(backbone: Backbone, positions: np.ndarray) -> Tensor:
    return backbone(graph_of(positions, backbone.cutoff))["node_features"].detach()


@pytest.mark.parametrize(("n_layers", "hops"), [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)])
def test_hops_reach_as_many_cutoffs(n_layers: int, hops: int) -> None:
    backbone = backbone_of(n_layers=n_layers, hops=hops)
    assert backbone.n_layers == n_layers * hops
    first = features(backbone, CHAIN)[0]
    for moved in range(1, 6):
        other = CHAIN.copy()
        other[moved, 2] += 0.3
        change = (features(backbone, other)[0] - first).abs().max().item()
        assert (change > 1e-9) == (moved <= n_layers * hops), moved


def test_a_walk_multiplies_its_bonds() -> None:
    """With two hops, identity maps and radial weights b = 1, M_i = sum_j sum_k e_jk e_ij over all walks j, k."""
    backbone = backbone_of(hops=2, channels=1)
    graph = graph_of(np.random.default_rng(0).normal(size=(4, 3)), cutoff=9.0)
    (i, j), n_edges = graph["edge_index"], graph["edge_index"].shape[1]
    unit = graph["edge_vec"] / graph["edge_vec"].norm(dim=1, keepdim=True)
    features = torch.zeros(8, 4, 1, dtype=torch.float64)
    features[0] = 1.0
    radial = torch.tensor([0.0, 1.0]).double().view(1, 2, 1).expand(n_edges, 2, 1)
    found = features
    for hop in backbone.blocks[0].hops:
        hop.lift.weight.data.fill_(1.0)
        found = hop(found, graph["edge_index"], radial, backbone.vector_product(unit))
    bonds = torch.nn.functional.pad(unit.T, [0, 0, 1, 4])
    expected = torch.zeros(8, 4, dtype=torch.float64)
    for last in range(n_edges):
        for first in range(n_edges):
            if i[first] == j[last]:
                expected[:, i[last]] += geometric_product(bonds[:, first], bonds[:, last])
    torch.testing.assert_close(found[:, :, 0], expected, rtol=0, atol=1e-12)
    assert expected[4:7].abs().max() > 0.1  # bivectors of pairs of bonds
    assert expected[1:4].abs().max() == 0.0


@pytest.mark.parametrize("hops", [1, 2])
def test_angles_reach_the_scalars(hops: int) -> None:
    """Straight and bent structures with equal distances within the cutoff are distinguished."""
    straight = np.array([[0.0, 0, 0], [1.0, 0, 0], [-1.0, 0, 0]])
    bent = np.array([[0.0, 0, 0], [1.0, 0, 0], [np.cos(2.2), np.sin(2.2), 0]])
    backbone = backbone_of(hops=hops, cutoff=1.7)
    difference = features(backbone, bent)[:, 0] - features(backbone, straight)[:, 0]
    assert difference.abs().max() > 1e-5


def test_mirror_images_have_the_same_scalars() -> None:
    """Chiral structures have nonzero pseudoscalars, but only products of two of them reach the output."""
    chiral = np.random.default_rng(3).normal(size=(6, 3))
    backbone = backbone_of(cutoff=4.0, n_layers=2, hops=2)
    inside: list[Tensor] = []
    hook = backbone.blocks[1].register_forward_hook(lambda _module, _inputs, output: inside.append(output.detach()))
    one, other = features(backbone, chiral), features(backbone, chiral * [1.0, 1.0, -1.0])
    hook.remove()
    torch.testing.assert_close(other[:, 0], one[:, 0], rtol=0, atol=1e-11)
    torch.testing.assert_close(other[:, 1:], one[:, 1:] * torch.tensor([1.0, 1.0, -1.0]).view(3, 1), rtol=0, atol=1e-11)
    assert inside[0][7].abs().max() > 1e-3
    torch.testing.assert_close(inside[1][7], -inside[0][7], rtol=0, atol=1e-11)


@pytest.mark.parametrize("l_max", [0, 1])
def test_one_atom_no_edges_and_coincident_atoms(l_max: int) -> None:
    backbone = backbone_of(l_max=l_max, hops=2)
    for positions in (np.zeros((1, 3)), 9.0 * CHAIN):
        found = features(backbone, positions)
        assert found.shape == (len(positions), (l_max + 1) ** 2, 6)
        assert torch.isfinite(found).all()
        assert found[:, 1:].abs().sum() == 0.0
    graph = graph_of(CHAIN)
    graph["edge_vec"][0] = 0.0
    graph["edge_vec"].requires_grad_()
    found = backbone(graph)["node_features"]
    found.square().sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(graph["edge_vec"].grad).all()
    with pytest.raises(StructureError, match="atoms 0 and 1"):
        graph_of(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("l_max", 2, "l_max is 2; multivectors have vectors at most; choose 0 or 1"),
        ("hops", 0, "hops is 0; it must be positive"),
        ("channels", 0, "channels is 0"),
        ("n_layers", -1, "n_layers is -1"),
        ("cutoff", -1.0, "cutoff is -1.0"),
        ("edge_channels", 0, "edge_channels is 0"),
    ],
)
def test_options_out_of_range(option: str, value: float, message: str) -> None:
    with pytest.raises(RecipeError, match=f"backbone cg_egnn: {message}"):
        backbone_of(**{option: value})
