"""Kolafa's predictor and its use for densities and differences of Fock matrices."""

from __future__ import annotations

import numpy as np
import pytest

from mlff_calc.electronic.scf.extrapolation import (
    Aspc,
    DensityExtrapolation,
    DifferenceExtrapolation,
    PreviousDensity,
    aspc_coefficients,
    aspc_omega,
    purified,
    reorthogonalised,
)
from mlff_calc.electronic.scf.properties import power
from mlff_calc.errors import OptionError

RNG = np.random.default_rng(0)


def overlap_of(n: int, size: float = 0.1) -> np.ndarray:
    noise = size * RNG.normal(size=(n, n))
    return np.eye(n) + noise @ noise.T


def test_coefficients_are_those_of_the_paper():
    np.testing.assert_allclose(aspc_coefficients(0), [2.0, -1.0])
    np.testing.assert_allclose(aspc_coefficients(1), [2.5, -2.0, 0.5])
    np.testing.assert_allclose(aspc_coefficients(2), [2.8, -2.8, 1.2, -0.2])
    np.testing.assert_allclose(aspc_coefficients(3), [3.0, -24 / 7, 27 / 14, -4 / 7, 1 / 14])
    assert [aspc_omega(k) for k in range(5)] == pytest.approx([2 / 3, 3 / 5, 4 / 7, 5 / 9, 6 / 11])
    assert aspc_coefficients(-1).tolist() == [1.0]


@pytest.mark.parametrize("order", range(5))
def test_a_harmonic_signal_is_predicted_to_second_order_and_reversible_to_a_high_one(order):
    def error(step: float) -> complex:
        memory = Aspc(order)
        for k in range(order + 2):
            memory.add(np.array([np.cos(step * (k - order - 2)), np.sin(step * (k - order - 2))]))
        assert len(memory) == order + 2
        real, imaginary = memory.predict()
        return complex(real, imaginary) - 1.0  # the next value is cos 0 + i sin 0

    one, half = error(0.4), error(0.2)
    assert np.log2(abs(one.real / half.real)) == pytest.approx(2.0, abs=0.2)
    assert np.log2(abs(one.imag / half.imag)) == pytest.approx(2 * order + 3, abs=0.35)


def test_the_corrector_follows_a_signal_with_one_iteration_a_step():
    """With iterations that leave a tenth of the error, the error stays small for hundreds of steps."""
    memory, largest = Aspc(2), 0.0
    for k in range(400):
        true = np.array([np.sin(0.1 * k)])
        predicted = memory.predict()
        value = true if predicted is None else memory.correct(predicted, true + 0.1 * (predicted - true))
        memory.add(value)
        if k > 100:  # the first steps have no history, and their errors fade out
            largest = max(largest, abs(value - true)[0])
    assert 0.0 < largest < 0.005


def test_a_constant_density_comes_back_and_is_idempotent_in_a_new_overlap():
    old, new = overlap_of(8), overlap_of(8)
    filled = reorthogonalised(RNG.normal(size=(8, 3)), old)
    np.testing.assert_allclose(filled.T @ old @ filled, np.eye(3), atol=1e-12)
    for memory in (PreviousDensity(), DensityExtrapolation(2)):
        assert memory.predict(old) is None
        for _ in range(5):
            memory.add(filled, old)
        same, other = memory.predict(old), memory.predict(new)
        np.testing.assert_allclose(same @ same.T, filled @ filled.T, atol=1e-10)
        np.testing.assert_allclose(other.T @ new @ other, np.eye(3), atol=1e-10)


def test_purification_finds_the_nearest_density():
    overlap = overlap_of(8)
    filled = reorthogonalised(RNG.normal(size=(8, 3)), overlap)
    exact = filled @ filled.T @ overlap
    found = purified(exact + 1e-5 * RNG.normal(size=(8, 8)), overlap, 3)
    np.testing.assert_allclose(found @ found.T, filled @ filled.T, atol=1e-4)


def test_extrapolated_densities_of_a_turning_state_are_nearer_than_the_last_one():
    def state(time: float) -> np.ndarray:
        return np.array([[np.cos(time)], [np.sin(time)], [0.0]])

    errors = {}
    for name, memory in (("last", PreviousDensity()), ("aspc", DensityExtrapolation(3))):
        for k in range(6):
            memory.add(state(0.05 * k), np.eye(3))
        found, true = memory.predict(np.eye(3)), state(0.05 * 6)
        errors[name] = np.abs(found @ found.T - true @ true.T).max()
    assert errors["aspc"] < 0.1 * errors["last"]


def test_a_constant_error_of_a_model_is_removed():
    memory, shift = DifferenceExtrapolation(1), np.diag([0.1, -0.2, 0.3])
    first = overlap_of(3)
    assert memory.predict(shift, first) is shift
    for _ in range(3):
        overlap = overlap_of(3)
        root = power(overlap, 0.5)
        memory.add(root @ shift @ root, np.zeros((3, 3)), overlap)
    new = overlap_of(3)
    root = power(new, 0.5)
    np.testing.assert_allclose(memory.predict(np.eye(3), new), np.eye(3) + root @ shift @ root, atol=1e-10)


@pytest.mark.parametrize("make", [PreviousDensity, DensityExtrapolation, DifferenceExtrapolation])
def test_states_come_back_and_damage_is_noticed(make):
    memory, overlap = make(), overlap_of(4)
    filled = reorthogonalised(RNG.normal(size=(4, 2)), overlap)
    values = (filled, overlap) if make is not DifferenceExtrapolation else (overlap, np.eye(4), overlap)
    memory.add(*values)
    memory.add(*values)
    other = make()
    other.load(memory.state())
    ask = (overlap,) if make is not DifferenceExtrapolation else (np.eye(4), overlap)
    np.testing.assert_array_equal(other.predict(*ask), memory.predict(*ask))
    assert len(other) == len(memory) > 0
    broken = memory.state()
    key = "coefficients" if make is PreviousDensity else "values"
    broken[key] = np.full((2, 2), np.nan) if make is PreviousDensity else [np.zeros(2), np.full(2, np.nan)]
    with pytest.raises(ValueError, match="finite"):
        make().load(broken)
    memory.clear()
    assert len(memory) == 0


def test_orders_beyond_the_table_are_refused():
    for order in (-1, 5):
        with pytest.raises(OptionError, match="0 to 4"):
            Aspc(order)
    with pytest.raises(ValueError, match="order"):
        Aspc(2).load(Aspc(3).state())
