"""Fixed numbers of accelerated evaluations, compared with linear algebra."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mlff_calc.fixed_point.unrolled import Unrolled, dot, propose, solve_positive, unrolled

ROWS, WIDTH = 2, 3
SIZE = ROWS * WIDTH


class Linear:
    """z <- A z + b on [ROWS, WIDTH]."""

    def __init__(self, radius: float, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        matrix = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
        self.matrix = radius * matrix / torch.linalg.eigvals(matrix).abs().max()
        self.inject = torch.randn(SIZE, generator=generator, dtype=torch.float64)
        self.calls = 0

    def __call__(self, z: Tensor) -> Tensor:
        self.calls += 1
        return (self.matrix @ z.flatten() + self.inject).view(ROWS, WIDTH)

    @property
    def solution(self) -> Tensor:
        return torch.linalg.solve(torch.eye(SIZE, dtype=torch.float64) - self.matrix, self.inject).view(ROWS, WIDTH)


def nothing() -> Tensor:
    return torch.zeros(0, ROWS, WIDTH, dtype=torch.float64)


def start() -> Tensor:
    return torch.zeros(ROWS, WIDTH, dtype=torch.float64)


def run(problem: Linear, count: int, ridge: float = 1e-8, begin: Tensor | None = None) -> Unrolled:
    return unrolled(problem, start() if begin is None else begin, count, nothing(), nothing(), ridge)


@pytest.mark.parametrize("radius", [0.5, 0.95, 1.5])
def test_a_linear_problem_is_solved_when_secants_span_it(radius: float) -> None:
    """In six dimensions, six secants and seven evaluations suffice, even if plain iteration diverges."""
    problem = Linear(radius)
    before, done = run(problem, SIZE - 1, ridge=1e-15), run(problem, SIZE + 1, ridge=1e-15)
    assert (done.proposal - problem.solution).norm() < 1e-8 * problem.solution.norm()
    assert (before.proposal - problem.solution).norm() > 1e-6 * problem.solution.norm()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_returned_residuals_are_those_of_the_returned_state(count: int) -> None:
    problem = Linear(0.9)
    found = run(problem, count)
    assert problem.calls == count
    torch.testing.assert_close(found.value, problem(found.state), rtol=0.0, atol=0.0)
    gap = found.value - found.state
    assert float(found.residual) == pytest.approx(float(gap.norm() / found.value.norm()), rel=1e-14)
    assert found.residual.dtype == torch.float64
    assert found.secants_z.shape == found.secants_g.shape == (count - 1, ROWS, WIDTH)
    eye = torch.eye(SIZE, dtype=torch.float64)
    expected = found.secants_z.flatten(1) @ (problem.matrix - eye).T  # changes of f(z) - z along changes of z
    torch.testing.assert_close(found.secants_g.flatten(1), expected, rtol=1e-10, atol=1e-12)


def test_one_evaluation_is_a_plain_step() -> None:
    problem = Linear(0.9)
    found = run(problem, 1)
    torch.testing.assert_close(found.state, start(), rtol=0.0, atol=0.0)
    torch.testing.assert_close(found.proposal, found.value, rtol=0.0, atol=1e-15)


def test_the_proposal_is_where_the_next_evaluation_would_be() -> None:
    problem = Linear(0.9)
    torch.testing.assert_close(run(problem, 3).proposal, run(problem, 4).state, rtol=1e-12, atol=1e-12)


def test_the_residual_falls_with_the_number_of_evaluations() -> None:
    problem = Linear(0.9)
    residuals = [float(run(problem, count).residual) for count in (1, 3, 5, SIZE + 2)]
    assert residuals == sorted(residuals, reverse=True)
    assert residuals[-1] < 1e-4 * residuals[0]


def test_carried_secants_accelerate_from_the_first_evaluation_on() -> None:
    """If only the right-hand side changes, the secants still describe the matrix."""
    problem = Linear(0.9)
    first = run(problem, SIZE + 1)
    problem.inject = problem.inject + 0.05 * torch.arange(SIZE, dtype=torch.float64)
    cold = run(problem, 2, begin=first.proposal)
    warm = unrolled(problem, first.proposal, 2, first.secants_z, first.secants_g, 1e-14)
    assert float(warm.residual) < 1e-6 * float(cold.residual)
    assert warm.secants_z.shape[0] == 1  # only new secants are returned
    torch.testing.assert_close(warm.secants_z[0], warm.state - first.proposal, rtol=1e-12, atol=1e-12)


def test_rows_of_zeros_take_no_part() -> None:
    problem = Linear(0.9)
    zeros = torch.zeros(3, ROWS, WIDTH, dtype=torch.float64)
    plain, padded = run(problem, 4), unrolled(problem, start(), 4, zeros, zeros, 1e-8)
    torch.testing.assert_close(padded.proposal, plain.proposal, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(padded.secants_z, plain.secants_z, rtol=1e-13, atol=1e-13)


def test_a_secant_removes_the_gap_along_itself_and_leaves_the_rest() -> None:
    z = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    secant_z = torch.tensor([[[0.5, 0.0]]], dtype=torch.float64)
    secant_g = torch.tensor([[[-0.25, 0.0]]], dtype=torch.float64)  # f = 0.5 z + const along x
    gap = torch.tensor([[0.1, 0.3]], dtype=torch.float64)
    found = propose(z, gap, secant_z, secant_g, 0.0)
    torch.testing.assert_close(found, torch.tensor([[1.2, 2.3]], dtype=torch.float64), rtol=0.0, atol=1e-14)


def test_the_tape_of_the_last_evaluation_is_kept() -> None:
    problem = Linear(0.9)
    last: list[Tensor] = []

    def taped(z: Tensor) -> Tensor:
        last[:] = [z.detach().requires_grad_()]
        return problem(last[0])

    found = unrolled(taped, start(), 3, nothing(), nothing())
    (derivative,) = torch.autograd.grad(found.value[0, 0], last[0])
    torch.testing.assert_close(derivative.flatten(), problem.matrix[0], rtol=1e-14, atol=1e-14)
    assert not found.proposal.requires_grad


@pytest.mark.parametrize("size", range(1, 9))
def test_elimination_against_a_library(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    factor = torch.randn(size, size + 2, generator=generator, dtype=torch.float64)
    matrix, right = factor @ factor.T, torch.randn(size, generator=generator, dtype=torch.float64)
    kept = matrix.clone(), right.clone()
    expected = torch.linalg.solve(matrix, right)
    torch.testing.assert_close(solve_positive(matrix, right), expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(matrix, kept[0])
    assert torch.equal(right, kept[1])


def test_inner_products_are_taken_in_double() -> None:
    a = torch.full((1000, 100), 0.1, dtype=torch.float32)
    assert dot(a, a).dtype == torch.float64
    assert float(dot(a, a)) == pytest.approx(1e5 * float(a[0, 0]) ** 2, rel=1e-13)
