"""Solvers: counts, residuals, and batches of independent systems."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mlff_calc.errors import OptionError
from mlff_calc.fixed_point import Anderson, Broyden, LowRankInverse, Picard, build_solver, inverse_of, solve
from mlff_calc.fixed_point.preconditioner import low_rank_product

NAMES = ("picard", "anderson", "broyden")


class Linear(torch.nn.Module):
    """z <- A z + b with one matrix for each row, of a spectral radius that differs from system to system."""

    def __init__(self, radii: list[float], rows: int = 3, width: int = 12, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        blocks, inject = [], []
        for radius in radii:
            for _ in range(rows):
                matrix = torch.randn(width, width, generator=generator, dtype=torch.float64)
                blocks.append(radius * matrix / torch.linalg.eigvals(matrix).abs().max())
                inject.append(torch.randn(width, generator=generator, dtype=torch.float64))
        self.matrices, self.inject = torch.stack(blocks), torch.stack(inject)
        self.index = torch.arange(len(radii)).repeat_interleave(rows)
        self.n_systems = len(radii)

    def forward(self, z: Tensor) -> Tensor:
        return torch.einsum("nij,nj->ni", self.matrices, z) + self.inject

    @property
    def solution(self) -> Tensor:
        eye = torch.eye(self.inject.shape[1], dtype=torch.float64)
        return torch.linalg.solve(eye - self.matrices, self.inject)


@pytest.mark.parametrize("name", NAMES)
def test_ten_random_starts_agree(name: str) -> None:
    problem = Linear([0.6])
    solver = build_solver(name, tolerance=1e-10, max_evaluations=100)
    for seed in range(10):
        start = torch.randn(3, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        solution = solve(problem, start, solver)
        assert bool(solution.converged)
        assert (solution.state - problem.solution).norm() < 1e-8 * problem.solution.norm()
        assert float(solution.residual) == pytest.approx(
            float((problem(solution.state) - solution.state).norm() / problem(solution.state).norm()), rel=1e-3
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_start_costs_one_evaluation(name: str) -> None:
    problem = Linear([0.9])
    solution = solve(problem, problem.solution, build_solver(name, tolerance=1e-10))
    assert solution.evaluations.tolist() == [1]
    torch.testing.assert_close(solution.state, problem.solution, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("name", NAMES)
def test_systems_of_a_batch_are_independent(name: str) -> None:
    """Counts and solutions equal those of single runs; a hard system does not cost other systems evaluations."""
    radii = [0.1, 0.9, 0.3, 0.7]
    whole = Linear(radii)
    options = {} if name == "picard" else {"history": 40}
    solver = build_solver(name, tolerance=1e-8, max_evaluations=400, **options)
    together = solve(whole, torch.zeros(12, 12, dtype=torch.float64), solver, whole.index, whole.n_systems)
    assert bool(together.converged.all())
    for i in range(len(radii)):
        rows = whole.index == i
        single = solve(
            lambda z, rows=rows: torch.einsum("nij,nj->ni", whole.matrices[rows], z) + whole.inject[rows],
            torch.zeros(3, 12, dtype=torch.float64),
            solver,
        )
        assert together.evaluations[i] == single.evaluations[0]
        torch.testing.assert_close(together.state[rows], single.state, rtol=1e-10, atol=1e-10)
    assert together.evaluations[0] < together.evaluations[3] < together.evaluations[1]


def test_acceleration_is_worth_it() -> None:
    problem = Linear([0.95], rows=1)
    start = torch.zeros(1, 12, dtype=torch.float64)
    counts = {
        name: int(solve(problem, start, build_solver(name, tolerance=1e-8, max_evaluations=1000)).evaluations)
        for name in NAMES
    }  # fmt: skip
    assert counts["anderson"] < 0.5 * counts["picard"]
    assert counts["broyden"] < 0.5 * counts["picard"]


@pytest.mark.parametrize("name", ["anderson", "broyden"])
def test_problems_on_which_picard_diverges_converge(name: str) -> None:
    problem = Linear([1.5], rows=1)
    start = torch.zeros(1, 12, dtype=torch.float64)
    assert not bool(solve(problem, start, Picard(max_evaluations=100)).converged)
    options = {"history": 12} if name == "anderson" else {}
    assert bool(solve(problem, start, build_solver(name, tolerance=1e-8, max_evaluations=100, **options)).converged)


def test_the_ridge_does_not_stop_convergence() -> None:
    """Residuals fall by ten orders of magnitude at a constant rate; an absolute ridge of 1e-4 would stop them."""
    problem = Linear([0.95], rows=1)
    solution = solve(
        problem, torch.zeros(1, 12, dtype=torch.float64), Anderson(tolerance=1e-13, max_evaluations=60, history=8)
    )
    assert bool(solution.converged)


def test_the_best_state_is_kept() -> None:
    problem = Linear([1.5])
    solution = solve(problem, torch.zeros(3, 12, dtype=torch.float64), Picard(max_evaluations=30))
    residuals = torch.stack(solution.residual_history)
    assert float(solution.residual) == float(residuals.min())
    assert float(residuals[-1]) > float(residuals.min())


def test_absolute_residual_is_a_root_mean_square() -> None:
    problem = Linear([0.5])
    one = solve(problem, torch.zeros(3, 12, dtype=torch.float64), Picard(relative=False, max_evaluations=1))
    assert float(one.residual) == pytest.approx(float((problem.inject**2).mean().sqrt()))


def test_carried_secants_save_evaluations() -> None:
    problem = Linear([0.95], rows=1)
    solver = Anderson(tolerance=1e-8, max_evaluations=100, history=12)
    first = solve(problem, torch.zeros(1, 12, dtype=torch.float64), solver)
    problem.inject = problem.inject + 0.05
    start = first.state
    cold = solve(problem, start, solver)
    known = replace(solver.begin(start, problem.index, 1), secants=first.known.secants)
    warm = solve(problem, start, solver, known=known)
    assert bool(warm.converged)
    assert int(warm.evaluations) < 0.6 * int(cold.evaluations)


def test_broyden_gives_an_inverse_jacobian() -> None:
    """The inverse and its transpose map the last change of g to the last step, and speed up the next solve."""
    problem = Linear([0.9], rows=1)
    solver = Broyden(tolerance=1e-8, max_evaluations=60, history=40)
    start = torch.zeros(1, 12, dtype=torch.float64)
    states = []
    known = solver.begin(start, problem.index, 1)
    while not bool(known.done.all()):
        states.append(known.z)
        known = solver.tell(known, problem(known.z))
    (left, right), index = inverse_of(known), known.system_index
    step = states[-1] - states[-2]
    change = (problem(states[-1]) - states[-1]) - (problem(states[-2]) - states[-2])
    torch.testing.assert_close(low_rank_product(left, right, change, index, 1), step, rtol=1e-8, atol=1e-12)
    vector = torch.randn(1, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    turned = low_rank_product(right, left, vector, index, 1)
    torch.testing.assert_close((turned * change).sum(), (vector * step).sum(), rtol=1e-8, atol=1e-12)
    cold = int(known.evaluations)
    problem.inject = problem.inject + 0.05
    begun = solver.begin(known.best, index, 1, preconditioner=LowRankInverse(left, right))
    assert int(solve(problem, start, solver, known=begun).evaluations) < 0.6 * cold


def test_rare_checks_change_nothing() -> None:
    problem = Linear([0.3, 0.8])
    start = torch.zeros(6, 12, dtype=torch.float64)
    solver = Anderson(tolerance=1e-8)
    one = solve(problem, start, solver, problem.index, 2)
    other = solve(problem, start, solver, problem.index, 2, look_every=7)
    assert one.evaluations.tolist() == other.evaluations.tolist()
    torch.testing.assert_close(one.state, other.state, rtol=0.0, atol=0.0)


def test_options_out_of_range() -> None:
    for options, words in (
        ({"tolerance": 0.0}, "tolerance = 0.0 .* positive"),
        ({"max_evaluations": 0}, "max_evaluations = 0 .* at least 1"),
        ({"damping": 1.5}, "damping = 1.5 .* at most 1"),
        ({"history": 0}, "history = 0 .* at least 1"),
    ):
        with pytest.raises(OptionError, match=words):
            build_solver("anderson", **options)
    with pytest.raises(OptionError, match="unknown solver 'newton'; choose one of picard, anderson, broyden"):
        build_solver("newton")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (0, 4, 2)])
def test_no_rows_are_solved_at_once(name: str, shape: tuple[int, ...]) -> None:
    start = torch.zeros(shape, dtype=torch.float64)
    found = solve(lambda z: 0.5 * z + 1.0, start, build_solver(name), n_systems=2)
    assert found.state.shape == shape
    assert found.converged.all()
    assert found.evaluations.tolist() == [1, 1]


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_single_numbers(name: str) -> None:
    found = solve(lambda z: 0.5 * z + 1.0, torch.zeros(3, dtype=torch.float64), build_solver(name, tolerance=1e-10))
    assert torch.allclose(found.state, torch.full((3,), 2.0, dtype=torch.float64), atol=1e-8)
