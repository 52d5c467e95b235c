"""Heads with vector outputs on every backbone: displacement (more in tests/propagator) and denoising."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from mlff_calc.backbones import available_backbones, build_backbone
from mlff_calc.graph import collate, graph_from_atoms
from mlff_calc.heads import DenoisingHead, Features

OPTIONS: dict[str, dict[str, Any]] = {
    "equiformer": {"l_max": 2, "channels": 8, "n_layers": 1, "heads": 2},
    "equiformer, scalars": {"l_max": 0, "channels": 8, "n_layers": 1, "heads": 2},
    "deq": {"l_max": 1, "channels": 8, "tolerance": 1e-12, "max_evaluations": 200},
    "hegnn": {"l_max": 2, "channels": 8, "n_layers": 2},
    "hegnn, scalars": {"l_max": 0, "channels": 8, "n_layers": 2},
    "cg_egnn": {"channels": 6, "n_layers": 1},
}


class Denoiser(torch.nn.Module):
    """Network of a backbone and the head."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.backbone = build_backbone({"name": name.split(",")[0], "cutoff": 4.0, **OPTIONS[name]}, n_species=3)
        self.head = DenoisingHead(Features(self.backbone.l_max, self.backbone.channels, 4.0))

    def forward(self, graph: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the noise [n_atoms, 3]."""
        species = torch.tensor([{1: 0, 6: 1, 8: 2}[z] for z in graph["atomic_numbers"].tolist()])
        return self.head(self.backbone(graph | {"species": species}))["noise"]


def denoiser(name: str) -> Denoiser:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Denoiser(name).double().eval()


def noisy(seed: int, sigma: float = 0.1) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return the graph of noisy ethanol, and the noise in units of `sigma`."""
    atoms = molecule("CH3CH2OH")
    noise = np.random.default_rng(seed).normal(size=atoms.positions.shape)
    atoms.positions += sigma * noise
    return graph_from_atoms(atoms, 4.0), torch.from_numpy(noise)


def test_every_backbone_is_here() -> None:
    assert set(available_backbones()) == {name.split(",")[0] for name in OPTIONS}


@pytest.mark.parametrize("name", OPTIONS)
def test_noise_turns_with_the_structure(name: str) -> None:
    model, (graph, _) = denoiser(name), noisy(0)
    turn = torch.from_numpy(np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0])
    before = model(graph).detach()
    assert before.abs().max() > 1e-3
    for matrix in (turn, -turn):
        after = model(graph | {"edge_vec": graph["edge_vec"] @ matrix.T}).detach()
        torch.testing.assert_close(after, before @ matrix.T, atol=1e-10, rtol=0.0)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_few_steps_of_training_find_some_of_the_noise(name: str) -> None:
    graphs, noises = zip(*[noisy(seed) for seed in range(8)], strict=True)
    graph, noise = collate(list(graphs)), torch.cat(list(noises))
    model = denoiser(name).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (model(graph) - noise).square().mean()
        loss.backward()
        optimizer.step()
    bound = (
        0.9 if "scalars" in name else 0.7
    )  # zero outputs give 1; without degrees only the directions of edges are known
    assert loss.item() < bound * noise.square().mean().item()


@pytest.mark.parametrize("name", OPTIONS)
def test_noise_is_smooth_where_a_neighbour_leaves(name: str) -> None:
    model = denoiser(name)

    def noise(distance: float) -> torch.Tensor:
        places = [[0.0, 0.0, 0.0], [0.3, 1.1, 0.0], [distance, 0.0, 0.2]]
        return model(graph_from_atoms(Atoms("COH", positions=places), 4.0)).detach()

    leaves = np.sqrt(16.0 - 0.04)
    outside = noise(leaves + 1e-5)
    change = (noise(leaves - 1.5) - outside).abs().max()
    assert change > 1e-4
    assert (noise(leaves - 1e-5) - outside).abs().max() < 1e-3 * change


def test_lone_atoms_have_no_direction() -> None:
    graph = noisy(0)[0]
    bare = graph | {
        "edge_index": torch.zeros(2, 0, dtype=torch.long),
        "edge_vec": torch.zeros(0, 3, dtype=torch.float64),
    }
    for name in OPTIONS:
        assert denoiser(name)(bare).abs().max() == 0.0
