"""Broyden's inverse Jacobian as data: evaluations saved in the next solve, forward and transposed, also in batches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mlff_calc.errors import OptionError
from mlff_calc.fixed_point import (
    Broyden,
    LowRankInverse,
    Picard,
    Solver,
    apply_inverse,
    build_solver,
    inverse_of,
    solve,
    spectral_radius,
    transposed,
)

NAMES = ("picard", "anderson", "broyden")
ROWS, WIDTH, RADIUS = 3, 8, 0.95


class Coupled(torch.nn.Module):
    """z <- A z + b + c sin(z), with the rows of each system coupled; c = 0 is linear."""

    def __init__(self, n_systems: int = 1, bend: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        matrix = torch.randn(n_systems, ROWS * WIDTH, ROWS * WIDTH, generator=generator, dtype=torch.float64)
        radius = torch.linalg.eigvals(matrix).abs().amax(dim=1).view(-1, 1, 1)
        self.register_buffer("matrix", (RADIUS - bend) * matrix / radius)
        self.register_buffer("inject", torch.randn(n_systems, ROWS * WIDTH, generator=generator, dtype=torch.float64))
        self.register_buffer("index", torch.arange(n_systems).repeat_interleave(ROWS))
        self.bend = bend
        self.n_systems = n_systems

    def forward(self, z: Tensor) -> Tensor:
        flat = z.reshape(self.n_systems, -1)
        value = torch.einsum("sij,sj->si", self.matrix, flat) + self.inject + self.bend * torch.sin(flat)
        return value.reshape(-1, z.shape[1])

    def moved(self) -> Coupled:
        """Return a nearby problem, like that of the next step of a trajectory."""
        other = Coupled(self.n_systems, self.bend)
        other.matrix.copy_(self.matrix * 0.998)
        other.inject.copy_(self.inject + 0.02 * torch.cos(torch.arange(self.inject.shape[1])))
        return other

    def pulled_back(self, state: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the product with the transposed Jacobian at a state."""
        here = state.detach().requires_grad_()
        value = self(here)
        return lambda vector: torch.autograd.grad(value, here, vector, retain_graph=True)[0]


def zeros(n_systems: int = 1) -> Tensor:
    return torch.zeros(n_systems * ROWS, WIDTH, dtype=torch.float64)


def solver_of(name: str) -> Solver:
    return build_solver(name, tolerance=1e-8, max_evaluations=2000, **({} if name == "picard" else {"history": 60}))


def solved(
    problem: Coupled, solver: Solver, start: Tensor, inverse: LowRankInverse | None = None
) -> tuple[Tensor, int]:
    found = solve(problem, start, solver, problem.index, problem.n_systems, preconditioner=inverse)
    assert bool(found.converged.all())
    return found.state, int(found.evaluations.max())


@pytest.mark.parametrize("bend", [0.0, 0.05], ids=["linear", "bent"])
@pytest.mark.parametrize("name", NAMES)
def test_the_next_solve_takes_fewer_evaluations(name: str, bend: float) -> None:
    problem = Coupled(bend=bend)
    first = solve(problem, zeros(), solver_of("broyden"))
    assert float(spectral_radius(problem, first.state, iterations=200)) == pytest.approx(RADIUS, abs=0.06)
    inverse, nearby = inverse_of(first.known), problem.moved()
    expected, cold = solved(nearby, solver_of(name), first.state)
    found, warm = solved(nearby, solver_of(name), first.state, inverse)
    assert warm < 0.65 * cold
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("bend", [0.0, 0.05], ids=["linear", "bent"])
@pytest.mark.parametrize("name", NAMES)
def test_its_transpose_serves_the_adjoint(name: str, bend: float) -> None:
    problem = Coupled(bend=bend)
    first = solve(problem, zeros(), solver_of("broyden"))
    inverse, pull = inverse_of(first.known), problem.pulled_back(first.state)
    cotangent = torch.sin(torch.arange(ROWS * WIDTH, dtype=torch.float64)).view(ROWS, WIDTH)

    def adjoint(guess: Tensor) -> Tensor:
        return cotangent + pull(guess)

    cold = solve(adjoint, cotangent, solver_of(name))
    counts = {
        turned: int(solve(adjoint, cotangent, solver_of(name), preconditioner=given).evaluations)
        for turned, given in ((True, transposed(inverse)), (False, inverse))
    }
    assert counts[True] < 0.7 * int(cold.evaluations)
    assert counts[True] < counts[False]  # the inverse must be transposed


def test_it_is_an_inverse_where_broyden_has_been() -> None:
    """The inverse maps the last change of the residual to that of the state, and its transpose is consistent with it."""
    problem = Coupled()
    states, solver = [], Broyden(tolerance=1e-10, max_evaluations=200, history=200)
    known = solver.begin(zeros(), problem.index, 1)
    while not bool(known.done.all()):
        states.append(known.z)
        known = solver.tell(known, problem(known.z))
    inverse, index = inverse_of(known), problem.index
    step = states[-1] - states[-2]
    change = (problem(states[-1]) - states[-1]) - (problem(states[-2]) - states[-2])
    torch.testing.assert_close(apply_inverse(inverse, change, index, 1), step, rtol=1e-6, atol=1e-13)
    one, other = (torch.randn(zeros().shape, generator=torch.Generator().manual_seed(i)).double() for i in (1, 2))
    left = (other * apply_inverse(inverse, one, index, 1)).sum()
    torch.testing.assert_close((one * apply_inverse(transposed(inverse), other, index, 1)).sum(), left)


@pytest.mark.parametrize("name", NAMES)
def test_systems_of_a_batch_keep_their_own(name: str) -> None:
    """Evaluation counts of a batch with an inverse equal those of single runs."""
    whole = Coupled(n_systems=3, bend=0.03)
    first = solve(whole, zeros(3), solver_of("broyden"), whole.index, 3)
    inverse, nearby = inverse_of(first.known), whole.moved()
    together = solve(nearby, first.state, solver_of(name), whole.index, 3, preconditioner=inverse)
    for i in range(3):
        single, rows = Coupled(bend=0.03), whole.index == i
        single.matrix.copy_(nearby.matrix[i : i + 1])
        single.inject.copy_(nearby.inject[i : i + 1])
        own = LowRankInverse(inverse.left[:, rows], inverse.right[:, rows])
        alone = solve(single, first.state[rows], solver_of(name), preconditioner=own)
        assert int(alone.evaluations) == int(together.evaluations[i])
        torch.testing.assert_close(together.state[rows], alone.state, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_minus_the_identity_equals_no_preconditioner(name: str) -> None:
    problem, nothing = Coupled(bend=0.03), zeros().new_zeros(0, ROWS, WIDTH)
    given = LowRankInverse(nothing, nothing)
    found, evaluations = solved(problem, solver_of(name), zeros(), given)
    expected, count = solved(problem, solver_of(name), zeros())
    assert evaluations == count
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-9)


def test_the_inverse_has_the_precision_of_the_start() -> None:
    problem = Coupled()
    inverse = inverse_of(solve(problem, zeros(), solver_of("broyden")).known)
    known = Picard().begin(zeros().float(), problem.index, 1, preconditioner=inverse)
    assert known.inverse.left.dtype == known.inverse.right.dtype == torch.float32


@pytest.mark.parametrize(
    "shapes", [((4, 2, WIDTH), (4, 2, WIDTH)), ((4, ROWS, WIDTH), (3, ROWS, WIDTH)), ((WIDTH,),) * 2]
)
def test_other_rows_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    problem, wrong = Coupled(), LowRankInverse(*(torch.zeros(shape, dtype=torch.float64) for shape in shapes))
    said = rf"u \[{', '.join(map(str, shapes[0]))}\] and v .* for rows \[3, 8\]; .* solve of the same systems"
    for name in NAMES:
        with pytest.raises(OptionError, match=said):
            solve(problem, zeros(), build_solver(name), preconditioner=wrong)
    with pytest.raises(OptionError, match=said):
        apply_inverse(wrong, zeros(), problem.index, 1)


def test_where_there_is_none() -> None:
    problem, solver = Coupled(), Picard()
    found = solve(problem, zeros(), solver)
    with pytest.raises(OptionError, match=r"kept no inverse Jacobian; solve with the solver 'broyden' once"):
        inverse_of(found.known)
    nothing = zeros().new_zeros(0, ROWS, WIDTH)
    with pytest.raises(OptionError, match="`known` and `preconditioner` are both given"):
        solve(problem, zeros(), solver, known=found.known, preconditioner=LowRankInverse(nothing, nothing))


@pytest.mark.parametrize("name", NAMES)
def test_states_on_the_way(name: str) -> None:
    """States are recorded after given numbers of evaluations; for a system that ended sooner it is the solution."""
    problem, solver = Coupled(n_systems=2), build_solver(name, tolerance=1e-6, max_evaluations=12)
    start = zeros(2)
    perfect = torch.linalg.solve(torch.eye(ROWS * WIDTH).double() - problem.matrix[1], problem.inject[1])
    start[ROWS:] = perfect.view(ROWS, WIDTH)
    tried = []

    def noted(z: Tensor) -> Tensor:
        tried.append(z)
        return problem(z)

    found = solve(noted, start, solver, problem.index, 2, counts=(0, 3, 11, 40))
    assert found.evaluations.tolist() == [12, 1]
    for state, expected in zip(found.path, (start, tried[3], tried[11], found.state), strict=True):
        assert torch.equal(state, expected)
        assert torch.equal(state[ROWS:], start[ROWS:])
