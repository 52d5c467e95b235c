"""Spectral radius by power iteration, compared with eigenvalues."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mlff_calc.fixed_point import spectral_radius


def linear(matrix: Tensor, rows: int) -> Tensor:
    """A state [rows, width] and the map of its flattened numbers by `matrix`."""
    return torch.zeros(rows, matrix.shape[0] // rows, dtype=matrix.dtype)


def radius(matrix: Tensor, iterations: int = 40, rows: int = 1, seed: int = 0) -> float:
    state = linear(matrix, rows)
    found = spectral_radius(lambda z: (matrix @ z.flatten() + 1.0).view_as(z), state, iterations=iterations, seed=seed)
    assert found.shape == (1,)
    return float(found)


def turned(diagonal: Tensor, seed: int = 0) -> Tensor:
    """Return a matrix with these eigenvalues or blocks in a random orthogonal basis."""
    size = diagonal.shape[0]
    frame = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    frame = torch.linalg.qr(frame)[0]
    return frame @ diagonal @ frame.T


@pytest.mark.parametrize("largest", [0.7, -0.7, 1.8])
def test_symmetric_matrix(largest: float) -> None:
    matrix = turned(torch.diag(torch.tensor([largest, 0.2, -0.1, 0.05, 0.0, 0.3], dtype=torch.float64)))
    assert radius(matrix, rows=2) == pytest.approx(abs(largest), rel=1e-6)


def test_a_complex_pair() -> None:
    """The direction of the iteration does not converge, but its growth equals the absolute value of the pair."""
    blocks = torch.diag(torch.tensor([0.0, 0.0, 0.3, -0.2], dtype=torch.float64))
    angle, size = 1.1, 0.8
    blocks[:2, :2] = size * torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64
    )
    assert radius(turned(blocks)) == pytest.approx(size, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_matrix_that_is_not_normal(seed: int) -> None:
    """The norm of such a matrix is far above its spectral radius."""
    matrix = torch.triu(torch.randn(8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), 1)
    matrix += torch.diag(torch.tensor([0.8, -0.5, 0.4, 0.3, 0.2, 0.1, 0.0, -0.3], dtype=torch.float64))
    assert float(torch.linalg.matrix_norm(matrix, 2)) > 2.0
    assert radius(matrix, iterations=100, seed=seed) == pytest.approx(0.8, rel=1e-3)


def test_systems_of_a_batch_have_their_own() -> None:
    """Rows of the systems may be mixed; each system gets the same result as alone."""
    radii = torch.tensor([0.9, 0.1, 0.5], dtype=torch.float64)
    index = torch.tensor([2, 0, 1, 0, 2, 1, 1])
    width = 4
    base = turned(torch.diag(torch.tensor([1.0, -0.3, 0.2, 0.1], dtype=torch.float64)))

    def function(z: Tensor) -> Tensor:
        return radii[index].unsqueeze(1) * (z @ base.T)

    found = spectral_radius(function, torch.zeros(7, width, dtype=torch.float64), index, 3)
    torch.testing.assert_close(found, radii, rtol=1e-6, atol=0.0)


def test_it_is_taken_at_the_state() -> None:
    """For a nonlinear map, the radius is that of the Jacobian at the given state."""
    matrix = turned(torch.diag(torch.tensor([1.2, 0.4, -0.2], dtype=torch.float64)))

    def function(z: Tensor) -> Tensor:
        return torch.tanh(z @ matrix.T)

    state = torch.tensor([[1.5, -2.0, 1.2]], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda z: function(z.unsqueeze(0))[0], state[0])
    expected = torch.linalg.eigvals(jacobian).abs().max()
    torch.testing.assert_close(spectral_radius(function, state)[0], expected, rtol=1e-5, atol=0.0)
    assert float(expected) < 1.0 < float(spectral_radius(function, torch.zeros_like(state)))


def test_features_of_any_shape_and_global_seed_left_alone() -> None:
    state = torch.zeros(2, 3, 4, dtype=torch.float32)
    before = torch.get_rng_state()
    found = spectral_radius(lambda z: 0.6 * z.flip(1), state)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.dtype == torch.float64
    assert float(found) == pytest.approx(0.6, rel=1e-5)


def test_works_where_gradients_are_off() -> None:
    with torch.no_grad():
        assert float(spectral_radius(lambda z: 0.5 * z, torch.ones(1, 3))) == pytest.approx(0.5, rel=1e-6)
