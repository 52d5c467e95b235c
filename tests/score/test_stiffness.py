"""Targets by direction: springs between atoms, their matrices, and what they do to the variance of the target."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from mlff_calc.errors import RecipeError
from mlff_calc.graph.bonds import atom_classes, hop_counts
from mlff_calc.score import Target, build_score_model
from mlff_calc.score.stiffness import Stiffness, fit_springs

BONDS = [[0, 1], [1, 2], [2, 3]]
NUMBERS = np.array([6, 8, 6, 1])


def _positions(n: int, seed: int = 0) -> torch.Tensor:
    random = np.random.default_rng(seed)
    start = np.array([[0.0, 0.0, 0.0], [1.4, 0.0, 0.0], [1.9, 1.3, 0.0], [1.2, 2.0, 0.4]])
    return torch.from_numpy(start + 0.05 * random.normal(size=(n, 4, 3)))


def _normal(stiffness: torch.Tensor, n: int, random: torch.Generator) -> torch.Tensor:
    """Data with density exp(-x.K x/2) [n, len(K)]."""
    draws = torch.randn(n, len(stiffness), generator=random, dtype=torch.float64)
    return draws @ torch.linalg.cholesky(torch.linalg.inv(stiffness)).t()


def _target(stiffness: torch.Tensor) -> Target:
    known = SimpleNamespace(matrices=lambda x: stiffness.expand(len(x), -1, -1), least=0.0)
    return Target("directional", 1.0, stiffness=cast("Stiffness", known))


def test_with_the_true_stiffness_the_target_of_normal_data_has_no_variance() -> None:
    random = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=random, dtype=torch.float64)
    stiffness = root @ root.t() + torch.diag(torch.tensor([1.0, 3.0, 10.0, 30.0, 100.0, 1000.0], dtype=torch.float64))
    for level in (0.0, 0.03, 0.3, 2.0):
        start = _normal(stiffness, 20_000, random)
        noise = torch.randn(start.shape, generator=random, dtype=torch.float64)
        sigma = torch.full((len(start),), level, dtype=torch.float64)
        noisy = start + level * noise
        score = -noisy @ torch.linalg.inv(torch.linalg.inv(stiffness) + level**2 * torch.eye(6, dtype=torch.float64))
        frames = (one.view(-1, 2, 3) for one in (noisy, -start @ stiffness, noise))
        target = _target(stiffness)
        found, square = target.of_frames(*frames, sigma, 6)
        assert torch.allclose(found.flatten(1), score, rtol=0.0, atol=1e-9 * float(score.abs().max()))
        assert float((found.square().sum(dim=(1, 2)) / 6 / square).mean()) == pytest.approx(1.0, rel=0.02)
        emphasis = target.emphasis(sigma, square)
        assert torch.allclose(emphasis, (level**2 * square).clamp_min(0.1))
        assert float(emphasis[0]) < (0.5 if level < 0.1 else 1.01)


def test_with_another_stiffness_the_mean_of_the_target_is_still_the_score() -> None:
    random = torch.Generator().manual_seed(1)
    true = torch.diag(torch.tensor([1.0, 4.0, 25.0], dtype=torch.float64))
    guess = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 60.0]], dtype=torch.float64)
    level = 0.3
    start = _normal(true, 400_000, random)
    noise = torch.randn(start.shape, generator=random, dtype=torch.float64)
    noisy = start + level * noise
    sigma = torch.full((len(start),), level, dtype=torch.float64)
    frames = (one.view(-1, 1, 3) for one in (noisy, -start @ true, noise))
    found = _target(guess).of_frames(*frames, sigma, 3)[0].flatten(1)
    slope = torch.linalg.lstsq(noisy, found).solution
    expected = -torch.linalg.inv(torch.linalg.inv(true) + level**2 * torch.eye(3, dtype=torch.float64))
    assert torch.allclose(slope, expected, atol=0.02)


def test_matrices_turn_with_the_structure_and_know_springs() -> None:
    stiffness = Stiffness(((0, 1, 500.0), (1, 2, 300.0), (0, 2, 40.0)), 2.0)
    places = _positions(3)
    random = torch.Generator().manual_seed(2)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=random, dtype=torch.float64))[0].contiguous()
    wide = torch.kron(torch.eye(4, dtype=torch.float64), turn)
    found = stiffness.matrices(places)
    assert torch.allclose(stiffness.matrices(places @ turn.t()), wide @ found @ wide.t(), atol=1e-9)
    assert torch.allclose(stiffness.matrices(places + 5.0), found)

    def energy(x: torch.Tensor) -> torch.Tensor:
        """Springs at rest in these places, so that the second derivatives are those of the springs alone."""
        x, rest = x.view(4, 3), places[0]
        longer = torch.stack([(x[i] - x[j]).norm() - (rest[i] - rest[j]).norm() for i, j, _ in stiffness.springs])
        return 0.5 * (x.new_tensor([k for _, _, k in stiffness.springs]) * longer.square()).sum()

    hessian = torch.func.hessian(energy)(places[0].flatten())
    assert torch.allclose(found[0], hessian + 2.0 * torch.eye(12, dtype=torch.float64), atol=1e-8)


def test_springs_of_a_network_of_springs_are_found() -> None:
    true = {(0, 1): 400.0, (1, 2): 500.0, (2, 3): 900.0, (0, 2): 60.0, (1, 3): 80.0}
    classes, hops = atom_classes(NUMBERS, BONDS), hop_counts(4, BONDS)
    places = _positions(40).numpy()
    rest = np.linalg.norm(_positions(1, 3).numpy()[0][:, None] - _positions(1, 3).numpy()[0], axis=-1)
    forces = np.zeros_like(places)
    for (i, j), k in true.items():
        vectors = places[:, i] - places[:, j]
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        pull = -k * (lengths - rest[i, j]) * vectors / lengths
        forces[:, i] += pull
        forces[:, j] -= pull
    found = {(i, j): k for i, j, k in fit_springs(places, forces, classes, hops)}
    for pair, k in true.items():
        assert found[pair] == pytest.approx(k, rel=1e-3)
    assert found.get((0, 3), 0.0) < 0.1


def test_springs_belong_to_the_directional_target() -> None:
    with pytest.raises(RecipeError, match="springs belong to the target directional, which needs them"):
        Target("directional", 1.0)
    with pytest.raises(RecipeError, match="the target is optimal"):
        Target("optimal", 1.0, stiffness=Stiffness(((0, 1, 1.0),), 1.0))
    config = {"backbone": {"name": "hegnn", "channels": 4, "n_layers": 1}, "numbers": [1, 1], "target": "directional"}
    assert build_score_model(config | {"springs": [[0, 1, 5.0]]}).target.stiffness is not None
    for wrong in ([0, 1], [0, 2, 1.0], [0, 1, -1.0], [1, 1, 1.0]):
        with pytest.raises(RecipeError, match="in a score model's configuration"):
            build_score_model(config | {"springs": [wrong]})
