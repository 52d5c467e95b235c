"""Solvers of differential equations: accuracy, independence of batch and times, gradients, and errors by name."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from mlff_calc.errors import IntegrationError, OptionError
from mlff_calc.ode import RK4, Dopri5, exact, verlet

DOUBLE = torch.float64


def springs(n: int = 8) -> Tensor:
    """A of y' = A y for x'' = -L x on a ring, y = (x, v)."""
    laplacian = 2.0 * torch.eye(n, dtype=DOUBLE)
    laplacian -= torch.roll(torch.eye(n, dtype=DOUBLE), 1, 0) + torch.roll(torch.eye(n, dtype=DOUBLE), -1, 0)
    zero, one = torch.zeros(n, n, dtype=DOUBLE), torch.eye(n, dtype=DOUBLE)
    return torch.cat([torch.cat([zero, one], 1), torch.cat([-laplacian, zero], 1)])


def linear(matrix: Tensor) -> object:
    return lambda t, y: y @ matrix.T


def bent(t: Tensor, y: Tensor) -> Tensor:
    """Van der Pol oscillators with a drive, stiffer for a larger first component of the frozen third one."""
    x, v, mu = y.unbind(1)
    return torch.stack([v, mu * (1.0 - x * x) * v - x + torch.sin(t), torch.zeros_like(x)], dim=1)


STARTS = torch.tensor([[1.0, 0.0, 0.5], [2.0, -1.0, 5.0], [0.1, 0.3, 1.0]], dtype=DOUBLE)
TIMES = torch.linspace(0.3, 2.0, 7, dtype=DOUBLE)


@pytest.mark.parametrize("problem", ["springs", "bent"])
def test_errors_follow_the_tolerance(problem: str) -> None:
    if problem == "springs":
        start = torch.randn(3, 16, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
        slope, matrix = linear(springs()), springs().numpy()
        right = lambda t, y: matrix @ y  # noqa: E731
    else:
        start, slope = STARTS, bent
        right = lambda t, y: (y[1], y[2] * (1.0 - y[0] ** 2) * y[1] - y[0] + math.sin(t), 0.0)  # noqa: E731
    reference = np.stack(
        [solve_ivp(right, (0, 2.0), y.numpy(), "DOP853", TIMES.numpy(), rtol=1e-12, atol=1e-12).y.T for y in start]
    )
    errors = {}
    for exponent in range(-7, -2):
        tolerance = 10.0**exponent
        found = Dopri5(rtol=tolerance, atol=tolerance)(slope, start, TIMES).states
        errors[exponent] = float(np.abs(found.numpy() - reference).max())
        assert errors[exponent] < 10.0 * tolerance
    assert errors[-7] < 5.0**-4 * errors[-3]  # five times smaller for each factor of ten
    fixed = RK4(step=0.01)(slope, start, TIMES).states
    assert float(np.abs(fixed.numpy() - reference).max()) < 1e-6


def test_exact_solutions_are_those_of_scipy() -> None:
    start = torch.randn(2, 16, 1, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    found = exact(springs(), start, TIMES).states[..., 0]
    fine = Dopri5(rtol=1e-10, atol=1e-10)(linear(springs()), start[..., 0], TIMES).states
    assert torch.allclose(found, fine, atol=1e-8)


@pytest.mark.parametrize("solver", [Dopri5(1e-3, 1e-3), RK4(0.11)])
def test_batch_mates_and_further_times_change_nothing(solver: Dopri5 | RK4) -> None:
    alone = solver(bent, STARTS[:1], TIMES).states[0]
    together = solver(bent, STARTS, TIMES).states[0]
    assert float((alone - together).abs().max()) < 1e-10
    more = torch.sort(torch.cat([TIMES, torch.linspace(0.0, 3.0, 40, dtype=DOUBLE)])).values
    again = solver(bent, STARTS, more).states[0][torch.searchsorted(more, TIMES)]
    assert float((alone - again).abs().max()) < 1e-10
    own = torch.stack([TIMES, 0.5 * TIMES, TIMES + 0.1])
    assert float((solver(bent, STARTS, own).states[0] - alone).abs().max()) < 1e-10
    single = solver(lambda t, y: bent(t, y), STARTS.float(), TIMES.float()).states[0]
    assert float((single - solver(bent, STARTS[:1].float(), TIMES.float()).states[0]).abs().max()) < 1e-5


def test_each_sample_has_its_own_steps() -> None:
    steps = Dopri5(1e-6, 1e-6)(bent, STARTS, TIMES).steps
    assert int(steps[1]) > 1.5 * int(steps[0])


def test_time_zero_is_the_start() -> None:
    times = torch.tensor([0.0, 0.0, 1.0], dtype=DOUBLE)
    for solver in (Dopri5(), RK4()):
        assert torch.equal(solver(bent, STARTS, times).states[:, 1], STARTS)
        assert torch.equal(solver(bent, STARTS, times[:1]).states[:, 0], STARTS)


@pytest.mark.parametrize("step", [0.1, 0.3, 0.11, 0.01])
def test_times_at_the_ends_of_equal_steps(step: float) -> None:
    times = step * torch.arange(1, 21, dtype=DOUBLE)
    after = times * (1.0 + 3e-16)
    found, later = (RK4(step)(lambda t, y: torch.ones_like(y), STARTS, each).states for each in (times, after))
    for states in (found, later):
        assert torch.allclose(states, STARTS.unsqueeze(1) + times.view(1, -1, 1), atol=1e-12)


@pytest.mark.parametrize("solver", [Dopri5(1e-8, 1e-8), RK4(0.05)])
def test_gradients_are_those_of_differences(solver: Dopri5 | RK4) -> None:
    start = STARTS[:1].clone().requires_grad_()
    weight = torch.tensor([0.3, -0.7, 0.1], dtype=DOUBLE)

    def last(y: Tensor) -> Tensor:
        return (solver(bent, y, TIMES).states @ weight).sum()

    (gradient,) = torch.autograd.grad(last(start), start)
    for k in range(3):
        step = torch.zeros(1, 3, dtype=DOUBLE)
        step[0, k] = 1e-5
        slope = float((last(STARTS[:1] + step) - last(STARTS[:1] - step)) / 2e-5)
        assert float(gradient[0, k]) == pytest.approx(slope, rel=1e-4)


def test_states_of_any_shape() -> None:
    start = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    found = Dopri5(1e-8, 1e-8)(lambda t, y: -y, start, TIMES).states
    assert torch.allclose(found, start[:, None] * torch.exp(-TIMES)[None, :, None, None], atol=1e-7)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1.0, 0.5], "time 1 of sample 0 is 0.5, which is below the one before"),
        ([-1.0], "time 0 of sample 0 is -1, which is negative"),
        ([0.5, math.nan], "time 1 of sample 0 is nan, which is not finite"),
        ([], "give at least one"),
    ],
)
def test_wrong_times_are_refused(times: list[float], message: str) -> None:
    for solver in (Dopri5(), RK4()):
        with pytest.raises(OptionError, match=message):
            solver(bent, STARTS, torch.tensor(times, dtype=DOUBLE))


def test_failures_name_sample_and_time() -> None:
    blow = STARTS.clone()
    with pytest.raises(IntegrationError, match=r"sample 1 stands at time .* more than 20 steps") as caught:
        Dopri5(1e-8, 1e-8, max_steps=20)(lambda t, y: -y * torch.tensor([[0.01], [500.0], [0.1]]), blow, TIMES)
    assert caught.value.sample == 1
    assert 0.0 < caught.value.time < 2.0
    blow[2, 0] = math.nan
    for solver in (Dopri5(), RK4()):
        with pytest.raises(IntegrationError, match=r"sample 2 .*not finite"):
            solver(bent, blow, TIMES)
    with pytest.raises(IntegrationError, match="needs 200 steps"):
        RK4(0.01, max_steps=100)(bent, STARTS, TIMES)
    for wrong in ({"rtol": 0.0}, {"max_steps": 0}, {"first_step": -1.0}):
        with pytest.raises(OptionError, match="give a positive number"):
            Dopri5(**wrong)


def test_steps_that_overflow_are_made_shorter() -> None:
    start = torch.ones(2, 1, dtype=DOUBLE)
    solver = Dopri5(1e-6, 1e-6, first_step=1e3)
    found = solver(lambda t, y: -(y**31), start, torch.tensor([1.0, 1e4], dtype=DOUBLE)).states
    exact = (1.0 + 30.0 * torch.tensor([1.0, 1e4], dtype=DOUBLE)) ** (-1.0 / 30.0)
    assert torch.allclose(found[0, :, 0], exact, atol=1e-4)
    start.requires_grad_()
    with pytest.raises(IntegrationError, match="not finite"):
        solver(lambda t, y: -(y**31), start, torch.tensor([1e4], dtype=DOUBLE))


def test_verlet_keeps_the_energy_of_springs() -> None:
    x, v = torch.tensor([1.0, 0.5], dtype=DOUBLE), torch.tensor([0.0, -1.0], dtype=DOUBLE)
    states = list(itertools.islice(verlet(lambda x: -4.0 * x, x, v, 0.01), 1001))
    energies = torch.stack([0.5 * v.square() + 2.0 * x.square() for x, v in states])
    assert float((energies / energies[0] - 1.0).abs().max()) < 1e-3
    assert torch.allclose(states[-1][0], x * math.cos(20.0) + 0.5 * v * math.sin(20.0), atol=2e-3)


def test_torchode_agrees() -> None:
    torchode = pytest.importorskip("torchode")
    start = torch.randn(3, 16, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    times = TIMES.expand(3, -1).contiguous()
    for tolerance in (1e-3, 1e-5, 1e-7):
        term = torchode.ODETerm(linear(springs()))
        control = torchode.IntegralController(atol=tolerance, rtol=tolerance, term=term)
        adjoint = torchode.AutoDiffAdjoint(torchode.Dopri5(term=term), control)
        problem = torchode.InitialValueProblem(
            y0=start, t_eval=times, t_start=torch.zeros(3, dtype=DOUBLE), t_end=times[:, -1]
        )
        theirs = adjoint.solve(problem)
        assert bool((theirs.status == 0).all())
        ours = Dopri5(rtol=tolerance, atol=tolerance)(linear(springs()), start, times).states
        assert float((ours - theirs.ys).abs().max()) < 10.0 * tolerance
