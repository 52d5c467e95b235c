"""Losses compared with values computed by hand, missing labels, and the schedule."""

from __future__ import annotations

import pytest
import torch

from mlff_calc.training.data import Batch
from mlff_calc.training.potential.objective import PotentialObjective
from mlff_calc.training.potential.recipe import LossSection
from mlff_calc.training.recipe_base import OptimizerSection
from mlff_calc.training.schedule import Budget, learning_rate

NAN = float("nan")
N_ATOMS = torch.tensor([2, 1])
OUTPUTS = {
    "energy": torch.tensor([4.0, 1.0], dtype=torch.float64),
    "forces": torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64),
}
LABELS = {name: torch.zeros_like(value) for name, value in OUTPUTS.items()}


def loss_of(section: LossSection, outputs: dict, labels: dict, weights: dict | None = None) -> torch.Tensor:
    return PotentialObjective(section).loss(outputs, Batch({}, labels, N_ATOMS, [0, 1], weights))


@pytest.mark.parametrize(
    ("form", "energy", "forces"),
    [("l2", (2.0 + 1.0) / 2, (5.0 + 0.0 + 1.0) / 3), ("mse", (4.0 + 1.0) / 2, (25.0 / 3 + 0.0 + 1.0 / 3) / 3)],
)
def test_values(form: str, energy: float, forces: float) -> None:
    for weights, expected in (((1.0, 0.0), energy), ((0.0, 1.0), forces), ((2.0, 3.0), 2 * energy + 3 * forces)):
        section = LossSection(energy=weights[0], forces=weights[1], form=form)
        assert float(loss_of(section, OUTPUTS, LABELS)) == pytest.approx(expected, abs=1e-9)


def test_huber_is_quadratic_then_linear() -> None:
    section = LossSection(energy=1.0, forces=0.0, form="huber", huber_delta=1.5)
    assert float(loss_of(section, OUTPUTS, LABELS)) == pytest.approx(0.5 * (1.5 * (2.0 - 0.75) + 0.5))


def test_a_missing_label_counts_nowhere_and_leaves_gradients_finite() -> None:
    outputs = {name: value.clone().requires_grad_() for name, value in OUTPUTS.items()}
    labels = {"energy": torch.tensor([0.0, NAN]).double(), "forces": LABELS["forces"].clone()}
    labels["forces"][2] = NAN
    value = loss_of(LossSection(energy=1.0, forces=1.0), outputs, labels)
    value.backward()
    assert value.item() == pytest.approx(2.0 + 2.5, abs=1e-9)
    assert outputs["energy"].grad.tolist() == [0.5, 0.0]
    assert bool(torch.isfinite(outputs["forces"].grad).all())
    assert outputs["forces"].grad[2].tolist() == [0.0, 0.0, 0.0]


def test_schedule() -> None:
    section = OptimizerSection(learning_rate=1.0, warmup_steps=10, floor=0.1, max_epochs=10)
    assert learning_rate(section, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(section, 9, 0.0) == pytest.approx(1.0)
    assert learning_rate(section, 50, 0.5) == pytest.approx(0.55)
    assert learning_rate(section, 99, 1.0) == pytest.approx(0.1)
    budget = Budget.of(OptimizerSection(max_epochs=10, max_minutes=1.0), 5)
    assert budget.used(25, 6.0) == 0.5
    assert budget.used(5, 45.0) == 0.75
    assert budget.used(60, 0.0) == 1.0
    budget = Budget.of(OptimizerSection(max_minutes=2.0, max_cpu_minutes=1.0), 5)
    assert budget.used(60, 30.0, 6.0) == 0.25
    assert budget.used(60, 30.0, 45.0) == 0.75


def test_weights_of_frames_multiply_their_terms() -> None:
    """Frame 0 has two atoms and frame 1 has one; means are divided by the numbers of labels, not by sums of weights."""
    weights = {"energy": torch.tensor([4.0, 0.5]), "forces": torch.tensor([3.0, 3.0, 0.25]), "stress": torch.ones(2)}
    weights = {name: value.double() for name, value in weights.items()}
    energy, forces = (4.0 * 2.0 + 0.5 * 1.0) / 2, (3.0 * 5.0 + 0.0 + 0.25 * 1.0) / 3
    section, ones = LossSection(energy=2.0, forces=7.0), {name: torch.ones_like(w) for name, w in weights.items()}
    assert float(loss_of(section, OUTPUTS, LABELS, weights)) == pytest.approx(2.0 * energy + 7.0 * forces, abs=1e-9)
    assert float(loss_of(section, OUTPUTS, LABELS, ones)) == float(loss_of(section, OUTPUTS, LABELS))
    mse = LossSection(energy=1.0, forces=0.0, stress=1.0, form="mse")
    stress = torch.stack([0.3 * torch.eye(3).double(), 0.6 * torch.eye(3).double()])
    outputs, labels = OUTPUTS | {"stress": stress}, LABELS | {"stress": torch.zeros(2, 3, 3).double()}
    weights["stress"] = torch.tensor([0.0, 5.0]).double()
    expected = (4.0 * 4.0 + 0.5 * 1.0) / 2 + (0.0 + 5.0 * 3 * 0.36 / 9) / 2
    assert float(loss_of(mse, outputs, labels, weights)) == pytest.approx(expected, abs=1e-9)


def test_a_missing_label_with_a_weight_counts_nowhere() -> None:
    outputs = {name: value.clone().requires_grad_() for name, value in OUTPUTS.items()}
    labels = {"energy": torch.tensor([0.0, NAN]).double(), "forces": LABELS["forces"]}
    weights = {"energy": torch.tensor([4.0, 100.0]).double(), "forces": torch.ones(3).double()}
    value = loss_of(LossSection(energy=1.0, forces=0.0), outputs, labels, weights)
    value.backward()
    assert value.item() == pytest.approx(4.0 * 2.0, abs=1e-9)
    assert outputs["energy"].grad.tolist() == [2.0, 0.0]
