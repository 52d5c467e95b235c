"""First and second derivatives of fixed points, compared with unrolled iterations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mlff_calc.fixed_point import Anderson, attach, solve, unroll

WIDTH = 6


def _map(z: Tensor, weight: Tensor, inject: Tensor) -> Tensor:
    """A contraction in each row, coupled to the other rows."""
    return torch.tanh(z @ weight + 0.2 * z.mean(dim=0) + inject)


def _tensors(width: int = WIDTH, rows: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(width, width, generator=generator, dtype=torch.float64)
    weight = 0.6 * weight / torch.linalg.matrix_norm(weight, 2)
    return weight.requires_grad_(), torch.randn(rows, width, generator=generator, dtype=torch.float64).requires_grad_()


def _solve(function: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    solution = solve(function, start, Anderson(tolerance=1e-13, max_evaluations=200))
    assert bool(solution.converged.all())
    return solution.state


def _fixed_point(weight: Tensor, inject: Tensor) -> Tensor:
    with torch.no_grad():
        state = _solve(lambda z: _map(z, weight, inject), torch.zeros_like(inject))
    return attach(_map, state, (weight, inject), _solve)


def _unrolled(weight: Tensor, inject: Tensor) -> Tensor:
    return unroll(_map, torch.zeros_like(inject), (weight, inject), 200)


def _energy(z: Tensor) -> Tensor:
    return (z**3).sum() + torch.cos(z).sum()


def test_gradient_is_that_of_200_unrolled_iterations() -> None:
    tensors = _tensors()
    expected = torch.autograd.grad(_energy(_unrolled(*tensors)), tensors)
    found = torch.autograd.grad(_energy(_fixed_point(*tensors)), tensors)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < 1e-9 * other.norm()


def test_second_derivatives_are_those_of_unrolled_iterations() -> None:
    """Second derivatives are needed for losses on forces, which differentiate a first derivative."""

    def loss(state: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        weight, inject = _tensors()
        (force,) = torch.autograd.grad(_energy(state(weight, inject)), inject, create_graph=True)
        return torch.autograd.grad((force**2).sum() + _energy(force), (weight, inject))

    for one, other in zip(loss(_fixed_point), loss(_unrolled), strict=True):
        assert (one - other).norm() < 1e-9 * other.norm()


def test_derivatives_against_finite_differences() -> None:
    tensors = _tensors(width=3, rows=2)  # the time grows with the square of the number of their elements
    torch.autograd.gradcheck(_fixed_point, tensors)
    torch.autograd.gradgradcheck(_fixed_point, tensors)


def test_only_requested_tensors_get_a_gradient() -> None:
    weight, inject = _tensors()
    state = _fixed_point(weight, inject.detach())
    (found,) = torch.autograd.grad(_energy(state), [weight])
    (expected,) = torch.autograd.grad(_energy(_unrolled(weight, inject.detach())), [weight])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_phantom_gradient_nears_the_true_one(steps: int) -> None:
    tensors = _tensors()
    state = _fixed_point(*tensors).detach()
    true = torch.autograd.grad(_energy(_fixed_point(*tensors)), tensors)
    phantom = torch.autograd.grad(_energy(unroll(_map, state, tensors, steps)), tensors)
    errors = [float((one - other).norm() / other.norm()) for one, other in zip(phantom, true, strict=True)]
    assert max(errors) < 0.7**steps
    assert max(errors) > 1e-9  # so the truncation is visible
