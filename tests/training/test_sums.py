"""Errors of outputs: which labels count, and the effect of outputs that are not finite."""

from __future__ import annotations

import math

import pytest
import torch

from mlff_calc.training.finite import first_not_finite
from mlff_calc.training.sums import ErrorSums

NAN = float("nan")
N_ATOMS = torch.tensor([2, 1])


def sums(outputs: dict, labels: dict) -> ErrorSums:
    total = ErrorSums()
    total.add(
        *({name: torch.tensor(x, dtype=torch.float64) for name, x in y.items()} for y in (outputs, labels)), N_ATOMS
    )
    return total


def test_a_missing_label_does_not_count() -> None:
    errors = sums({"energy": [4.0, NAN]}, {"energy": [1.0, NAN]}).errors()
    assert (errors["energy"].mae, errors["energy"].count) == (pytest.approx(3000.0), 1)
    assert errors["energy_per_atom"].rmse == pytest.approx(1500.0)
    assert sums({"energy": [4.0, 2.0]}, {"energy": [NAN, NAN]}).errors() == {}


def test_an_output_that_is_nan_is_an_error_that_is_nan() -> None:
    errors = sums({"energy": [4.0, NAN]}, {"energy": [1.0, 1.0]}).errors()
    assert errors["energy"].count == 2
    assert math.isnan(errors["energy"].mae)
    assert math.isnan(errors["energy_per_atom"].rmse)


def test_the_first_system_that_is_not_finite_is_found() -> None:
    good = {"energy": torch.zeros(2), "forces": torch.zeros(3, 3), "stress": torch.zeros(2, 3, 3)}
    assert first_not_finite(good, N_ATOMS) is None
    for name, row, system in (("energy", 1, 1), ("forces", 1, 0), ("forces", 2, 1), ("stress", 0, 0)):
        for value in (NAN, math.inf):
            bad = {key: tensor.clone() for key, tensor in good.items()}
            bad[name][row] = value
            assert first_not_finite(bad, N_ATOMS) == (system, name)
