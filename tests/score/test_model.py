"""Score models: symmetries, scales, files, and structures drawn from exact and from trained scores."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mlff_calc.backbones import available_backbones
from mlff_calc.errors import RecipeError
from mlff_calc.sampling.diffusion import ExactForce, ModelScore, Space, accepted_langevin, draw, langevin
from mlff_calc.sampling.evaluators import Evaluation, Evaluator
from mlff_calc.sampling.reweighting import effective_sample_size, normalized
from mlff_calc.sampling.systems import FloatArray, Systems
from mlff_calc.score import Schedule, ScoreModel, build_score_model, load_score_model

NUMBERS = [6, 8, 1, 1]
BONDS = [[0, 1], [0, 2], [0, 3]]


def small(backbone: str = "hegnn", **options: object) -> ScoreModel:
    chosen = {"name": backbone, "channels": 8, "cutoff": 6.0}
    chosen |= {"l_max": 1} if backbone != "cg_egnn" else {}
    chosen |= {"n_layers": 1} if backbone != "deq" else {}
    config = {"backbone": chosen, "numbers": NUMBERS, "bonds": BONDS, "kT": 0.025, "spread": 0.8, "information": 50.0}
    return build_score_model(config | options, seed=1).to_precision("float64").eval()


def frames(n: int = 3) -> Tensor:
    places = torch.tensor([[0.0, 0.0, 0.0], [1.2, 0.0, 0.1], [-0.5, 0.9, 0.0], [-0.5, -0.9, 0.2]], dtype=torch.float64)
    return places + 0.1 * torch.randn(n, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("backbone", available_backbones())
def test_scores_turn_with_the_structure_and_do_not_shift(backbone: str) -> None:
    score = ModelScore(small(backbone))
    positions = frames()
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    turn = -turn * torch.sign(torch.linalg.det(turn))  # a rotation and a mirror
    for sigma in (0.0, 0.1, 2.0):
        found = score(positions, sigma)
        assert torch.isfinite(found).all()
        assert torch.allclose(score(positions @ turn.T + 3.0, sigma), found @ turn.T, atol=1e-9)
        assert torch.allclose(found.sum(dim=1), torch.zeros(3, 3).double(), atol=1e-9)
    swapped = positions[:, [0, 1, 3, 2]]  # the hydrogens are alike
    assert torch.allclose(score(swapped, 0.1)[:, [0, 1, 3, 2]], score(positions, 0.1), atol=1e-9)


def test_large_noise_gives_the_score_of_normal_positions() -> None:
    score = ModelScore(small())
    positions = 50.0 * Space(4).noise(64, torch.Generator().manual_seed(1))
    found = score(positions, 50.0)
    assert 50.0 * float((found + positions / (0.8**2 + 50.0**2)).square().mean().sqrt()) < 0.3  # of a target of 1


def test_planes_stay_planes() -> None:
    positions = frames()
    positions[..., 2] = 0.0
    assert ModelScore(small(dimensions=2))(positions, 0.3)[..., 2].abs().max() == 0.0


def test_models_are_saved_and_loaded(tmp_path: Path) -> None:
    model = small(sigma_min=0.02, target="piecewise", window=0.2)
    model.save(tmp_path / "score")
    again = load_score_model(tmp_path / "score").to_precision("float64")
    assert again.config == model.config
    assert torch.allclose(ModelScore(again)(frames(), 0.1), ModelScore(model)(frames(), 0.1), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"numbers": [6]}, "has one atom"),
        ({"numbers": [6, 200]}, "numbers holds 200"),
        ({"bonds": [[0, 9]]}, r"bonds holds \[0, 9\]"),
        ({"kT": 0.0}, "kT of a score model is 0.0"),
        ({"dimensions": 1}, "give 2 or 3"),
        ({"target": "force"}, "target is 'force'"),
        ({"sigma_max": 0.001}, "the larger one as sigma_max"),
        ({"sigmamin": 1.0}, "sigma_min"),
    ],
)
def test_configurations_are_checked(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        small(**change)


class Springs(Evaluator):
    """Energy |x|^2 / (2 D^2) of positions without their mean; kT = 1."""

    def __init__(self, spread: float) -> None:
        self.spread = spread

    def __call__(self, systems: Systems, positions: FloatArray) -> Evaluation:
        places = positions.reshape(len(systems), -1, 3)
        places = places - places.mean(axis=1, keepdims=True)
        return Evaluation(0.5 * (places**2).sum(axis=(1, 2)) / self.spread**2, (-places / self.spread**2).reshape(-1, 3))


def test_an_exact_score_draws_its_distribution_with_equal_weights() -> None:
    """For normal data the score is known at every noise, and so is the normalization, which is the mean weight."""
    spread, space, random = 0.5, Space(4), torch.Generator().manual_seed(0)
    drawn = draw(
        lambda x, s: -x / (spread**2 + s**2), Schedule(0.02, 3.0), space, spread, 4000, steps=300, random=random
    )
    assert float(drawn.positions.square().sum(dim=(1, 2)).mean()) == pytest.approx(space.degrees * spread**2, rel=0.03)
    log_weights = drawn.log_ratio - drawn.positions.square().sum(dim=(1, 2)) / (2.0 * spread**2)
    exact = 0.5 * space.degrees * math.log(2.0 * math.pi * spread**2)
    assert float(torch.logsumexp(log_weights, 0)) - math.log(4000) == pytest.approx(exact, abs=0.05)
    assert effective_sample_size(normalized(log_weights.numpy())) > 3990
    assert all(0.0 < factor <= 1.0 for factor in drawn.narrowing)


def test_weights_repair_a_score_that_is_wrong() -> None:
    spread, wrong, space, random = 0.5, 0.6, Space(4), torch.Generator().manual_seed(0)
    drawn = draw(lambda x, s: -x / (wrong**2 + s**2), Schedule(0.02, 3.0), space, wrong, 4000, steps=300, random=random)
    squares = drawn.positions.square().sum(dim=(1, 2))
    assert float(squares.mean()) > 1.3 * space.degrees * spread**2
    weights = normalized((drawn.log_ratio - squares / (2.0 * spread**2)).numpy())
    assert float((weights * squares.numpy()).sum()) == pytest.approx(space.degrees * spread**2, rel=0.05)


def test_langevin_steps_reach_equilibrium() -> None:
    spread, space, random = 0.5, Space(4), torch.Generator().manual_seed(0)
    from ase import Atoms

    start = 0.1 * space.noise(1000, random)
    found = langevin(lambda x: -x / spread**2, start, space, step=0.1, steps=60, random=random)
    squares = found.square().sum(dim=(1, 2))  # with independent noise, 1.25 of this
    assert float(squares.mean()) == pytest.approx(space.degrees * spread**2, rel=0.06)
    systems, _ = Systems.of([Atoms("H4", np.zeros((4, 3)))] * 1000)
    walked = accepted_langevin(
        ExactForce(Springs(spread), systems, 1.0), start, space, step=0.05, steps=120, random=random
    )
    assert float(walked.positions.square().sum(dim=(1, 2)).mean()) == pytest.approx(space.degrees * spread**2, rel=0.04)
    assert walked.calls == 121_000
    assert 0.5 < walked.acceptance < 1.0
    assert walked.energies.mean() == pytest.approx(0.5 * space.degrees, rel=0.04)
