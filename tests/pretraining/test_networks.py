"""Codes, decoders and noise: what they must not depend on, and what must reach what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from scipy.spatial.transform import Rotation

from mlff_calc.backbones import available_backbones
from mlff_calc.errors import RecipeError, UnknownElementError
from mlff_calc.graph import Graph, collate, graph_from_atoms
from mlff_calc.pretraining import PretrainingNetwork, build_pretraining, probe_score, steepness
from mlff_calc.pretraining.keys import CLEAN, CODE, COPY_ROLE, DENOISED, NOISE_TARGET, RECONSTRUCTED, RECONSTRUCTION
from mlff_calc.pretraining.noise import REACH, copies, within

CUTOFF = 3.0
NAMES = ("H2O", "CH3CH2OH")


def network(backbone: str = "hegnn", **objective: Any) -> PretrainingNetwork:
    config = {
        "backbone": {"name": backbone, "channels": 8, "cutoff": CUTOFF},
        "objective": {"name": "georecon", **objective},
        "elements": [1, 6, 8],
    }
    return build_pretraining(config, seed=0).to_precision("float64").eval()


def graph_of(*structures: Atoms, cutoff: float = CUTOFF) -> Graph:
    return collate([graph_from_atoms(one, cutoff) for one in structures])


def joint(net: PretrainingNetwork, seed: int = 0) -> Graph:
    wide = graph_of(*map(molecule, NAMES), cutoff=CUTOFF + 2.0)
    return copies(wide, net.objective.sigmas, net.objective.sigmas, CUTOFF, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("conditioning", ["fusion", "adaptive_norm"])
@pytest.mark.parametrize("backbone", available_backbones())
def test_codes_are_invariant_and_noise_turns_with_the_structure(backbone: str, conditioning: str) -> None:
    net = network(backbone, conditioning=conditioning, decoder_layers=2)
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=1)
    turn = Rotation.from_euler("xyz", [0.3, -1.1, 2.0]).as_matrix() * -1.0  # and a reflection
    order = np.random.default_rng(0).permutation(len(atoms))
    other = atoms[order]
    other.positions = other.positions @ turn.T + 1.0
    found, moved = net(graph_of(atoms)), net(graph_of(other))
    tolerance = {"rtol": 0.0, "atol": 1e-4 if backbone == "deq" else 1e-9}
    torch.testing.assert_close(moved[CODE], found[CODE], **tolerance)
    for key in ("noise", RECONSTRUCTION):
        expected = found[key].detach()[torch.from_numpy(order)] @ torch.from_numpy(turn).T
        assert float(expected.abs().max()) > 1e-4
        torch.testing.assert_close(moved[key].detach(), expected, **tolerance)


def test_backbones_without_vectors_find_noise_along_edges() -> None:
    config = {"name": "hegnn", "l_max": 0, "channels": 8, "cutoff": CUTOFF}
    net = build_pretraining({"backbone": config, "objective": {"name": "georecon"}, "elements": [1, 6, 8]}, seed=0).eval()
    found = net(graph_of(molecule("CH3CH2OH")))
    assert float(found["noise"].detach().abs().max()) > 0.0
    assert float(found[RECONSTRUCTION].detach().abs().max()) > 0.0


def test_the_loss_reaches_the_backbone_through_the_code_alone() -> None:
    net = network().train()
    graph = net.features(graph_of(molecule("CH3CH2OH")))
    noise = net.objective.decoder(torch.zeros_like(graph["node_features"]), net.objective.code(graph), graph)
    noise.square().sum().backward()
    reached = [name for name, p in net.backbone.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)]
    assert "species.weight" in reached
    assert any(name.startswith("layers") for name in reached)


def test_a_constant_code_reaches_no_structure() -> None:
    net = network(code="constant")
    codes = net(joint(net))[CODE]
    assert bool((codes == codes[0]).all())
    assert not net.objective.reads_codes


def test_the_decoder_sees_nothing_of_the_clean_copy_but_its_code() -> None:
    net = network()
    graph = joint(net)
    graph[CODE] = net(graph)[CODE].detach()
    before = net(graph)
    clean = (graph[COPY_ROLE] == CLEAN)[graph["system_index"]]
    edges_of_clean = clean[graph["edge_index"][0]]
    kept = ~edges_of_clean | (torch.arange(len(edges_of_clean)) % 2 == 0)
    changed = graph | {"edge_index": graph["edge_index"][:, kept], "edge_vec": graph["edge_vec"][kept] * 1.0}
    changed["edge_vec"][edges_of_clean[kept]] *= 0.9
    after = net(changed)
    assert not torch.allclose(after["noise"][clean], before["noise"][clean])
    torch.testing.assert_close(after[RECONSTRUCTION], before[RECONSTRUCTION], rtol=0.0, atol=0.0)
    other = net(graph | {CODE: graph[CODE].flip(0)})
    assert not torch.allclose(other[RECONSTRUCTION], before[RECONSTRUCTION])


def test_a_joint_batch_gives_what_single_copies_give() -> None:
    """The copy to reconstruct alone, with the code of the clean structure."""
    net = network()
    graph = joint(net)
    whole = net(graph)
    wide = graph_of(*map(molecule, NAMES), cutoff=CUTOFF + 2.0)
    generator = torch.Generator().manual_seed(0)  # the noise to reconstruct is drawn first
    alone = copies(wide, [RECONSTRUCTED], net.objective.sigmas, CUTOFF, generator)
    codes = net.code(graph_of(*map(molecule, NAMES)))
    chosen = (graph[COPY_ROLE] == RECONSTRUCTED)[graph["system_index"]]
    torch.testing.assert_close(alone[NOISE_TARGET], graph[NOISE_TARGET][chosen])
    torch.testing.assert_close(net(alone | {CODE: codes})[RECONSTRUCTION], whole[RECONSTRUCTION][chosen])
    assert not bool(whole[RECONSTRUCTION][~chosen].any())


@pytest.mark.parametrize("atoms", [molecule("C6H6"), bulk("Si"), bulk("NaCl", "rocksalt", a=5.6)])
def test_edges_of_copies_are_those_of_their_positions(atoms: Atoms) -> None:
    wide = graph_of(atoms, atoms, cutoff=CUTOFF + REACH * 0.2)
    found = copies(wide, [CLEAN, DENOISED], {DENOISED: 0.2}, CUTOFF, torch.Generator().manual_seed(3))
    assert float(found[NOISE_TARGET][-len(atoms) :].mean(dim=0).abs().max()) < 1e-12
    again = []
    for positions in found["positions"].view(4, -1, 3).numpy():
        again.append(Atoms(atoms.numbers, positions, cell=atoms.cell, pbc=atoms.pbc))
    expected = graph_of(*again)
    for graph in (found, expected):  # edges of equal ends in one order
        key = torch.cat([graph["edge_index"].t().double(), graph["edge_vec"]], dim=1).mul(1e6).round()
        order = np.lexsort(key.t().flip(0).numpy())
        graph["edge_vec"] = graph["edge_vec"][torch.from_numpy(order)]
        graph["edge_index"] = graph["edge_index"][:, torch.from_numpy(order)]
    torch.testing.assert_close(found["edge_index"], expected["edge_index"])
    torch.testing.assert_close(found["edge_vec"], expected["edge_vec"])


def test_steepness_is_the_largest_singular_value() -> None:
    net = network(width=3)
    graph = graph_of(*map(molecule, NAMES))
    found = steepness(net.code, graph, torch.Generator().manual_seed(0), iterations=60)
    for number, name in enumerate(NAMES):
        own = graph_of(molecule(name))

        def code(shifts: torch.Tensor, own: Graph = own) -> torch.Tensor:
            ends = shifts[own["edge_index"][1]] - shifts[own["edge_index"][0]]
            return net.code(own | {"edge_vec": own["edge_vec"] + ends})[0]

        jacobian = torch.autograd.functional.jacobian(code, torch.zeros_like(own["positions"])).flatten(1)
        assert float(found[number]) == pytest.approx(float(torch.linalg.matrix_norm(jacobian, 2)), rel=1e-3)


def test_probes_explain_linear_labels_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 8, generator=generator)
    assert probe_score(features, features @ torch.arange(8.0)) > 0.999
    assert probe_score(features, torch.randn(60, generator=generator)) < 0.3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"objective": {"name": "georecon", "pooling": "max"}}, "pooling of objective 'georecon' is 'max'"),
        ({"objective": {"name": "denoising", "noise": "pink"}}, "noise of objective 'denoising' is 'pink'"),
        ({"objective": {"name": "georecon", "sigma_reconstruction": 0.0}}, "sigma_reconstruction of objective"),
        ({"objective": {"name": "georecon", "decoder_layers": 0}}, "decoder_layers of objective"),
        ({"objective": {"name": "supervised"}, "backbone": {"name": "deq"}}, "are a solve of their own"),
        ({"elements": [0]}, "elements holds 0"),
        ({"elements": []}, "needs 'elements'"),
    ],
)
def test_configurations_that_are_refused(change: dict[str, Any], words: str) -> None:
    config = {"backbone": {"name": "hegnn"}, "objective": {"name": "denoising"}, "elements": [1]}
    with pytest.raises(RecipeError, match=words):
        build_pretraining(config | change)


def test_an_unknown_element_is_named() -> None:
    with pytest.raises(UnknownElementError, match="unknown element N"):
        network()(graph_of(molecule("NH3")))


def test_edges_within_a_cutoff() -> None:
    wide = graph_of(molecule("CH3CH2OH"), cutoff=6.0)
    near = within(wide, 2.0)
    assert float(near["edge_vec"].norm(dim=1).max()) < 2.0
    assert len(near["edge_vec"]) == len(graph_of(molecule("CH3CH2OH"), cutoff=2.0)["edge_vec"])
