"""Predictors: motions for which they are exact, published coefficients, reversibility, and errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mlff_calc.errors import OptionError
from mlff_calc.fixed_point.predictors import (
    DISSIPATION,
    PREDICTORS,
    LeastSquares,
    Past,
    Predictor,
    TimeReversible,
    always_stable,
    build_predictor,
    polynomial,
)
from mlff_calc.fixed_point.unrolled import least_squares_mix

OMEGA = 0.1
"""Angle of a harmonic motion per step."""


def history(solution: Callable[[int], float], steps: int, predictor: Predictor) -> Past:
    """The past after steps 0 to steps - 1 of a motion."""
    past = Past()
    for t in range(steps):
        value = torch.full((2, 1, 1), solution(t), dtype=torch.float64)
        predictor.remember(past, value, value[0], None)
    return past


def predicted(predictor: Predictor, past: Past) -> float:
    weights = predictor.weights(past)
    assert weights is not None
    assert len(weights) <= len(past.solutions)
    return sum(w * float(solution[0]) for w, solution in zip(weights, past.solutions, strict=False))


@pytest.mark.parametrize("order", range(7))
def test_polynomials_are_exact_up_to_their_order(order: int) -> None:
    predictor = polynomial(order)
    for degree in range(order + 2):
        past = history(lambda t, degree=degree: (0.3 * t - 1.0) ** degree, 12, predictor)
        error = predicted(predictor, past) - (0.3 * 12 - 1.0) ** degree
        if degree <= order:
            assert abs(error) < 1e-11
        else:
            assert abs(error) > 1e-6


@pytest.mark.parametrize("available", [1, 2, 3])
def test_a_short_past_is_extrapolated_by_a_lower_order(available: int) -> None:
    predictor = polynomial(3)
    past = history(lambda t: 1.5 * t ** (available - 1) - 2.0, available, predictor)
    assert predicted(predictor, past) == pytest.approx(1.5 * available ** (available - 1) - 2.0, abs=1e-12)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (0, [2.0, -1.0]),
        (1, [5 / 2, -2.0, 1 / 2]),
        (2, [14 / 5, -14 / 5, 6 / 5, -1 / 5]),
        (3, [3.0, -24 / 7, 27 / 14, -4 / 7, 1 / 14]),
    ],
)
def test_kolafas_coefficients(order: int, expected: list[float]) -> None:
    """Coefficients are those of Kolafa (2004), Table 1."""
    assert always_stable(order).coefficients[-1] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("name", [name for name in PREDICTORS if build_predictor(name).weights(Past()) is not None])
def test_weights_sum_to_one(name: str) -> None:
    """For any number of earlier steps the weights sum to one, so that a state at rest is predicted exactly."""
    predictor = build_predictor(name)
    for steps in range(1, 9):
        assert predicted(predictor, history(lambda t: 3.7, steps, predictor)) == pytest.approx(3.7, rel=1e-13)


@pytest.mark.parametrize("order", range(7))
def test_always_stable_is_exact_for_straight_lines_and_damps_noise(order: int) -> None:
    predictor = always_stable(order)
    assert predictor.window == order + 2
    past = history(lambda t: 0.5 * t + 2.0, 12, predictor)
    assert predicted(predictor, past) == pytest.approx(8.0, abs=1e-12)
    if 0 < order < 6:
        noisy = sum(abs(w) for w in polynomial(order + 1).coefficients[-1])
        assert sum(abs(w) for w in predictor.coefficients[-1]) < noisy


def follow(
    predictor: TimeReversible, steps: int, solve: Callable[[int, Tensor | None], Tensor], past: Past | None = None
) -> tuple[Past, list[Tensor]]:
    """Run a time-reversible predictor, and return the starts of all steps that had one."""
    past = Past() if past is None else past
    starts = []
    for t in range(steps):
        start = predictor.replaced(past)
        solution = solve(t, start)
        predictor.remember(past, solution, solution[0], start)
        if start is not None:
            starts.append(start)
    return past, starts


def harmonic(t: float) -> Tensor:
    phase = torch.tensor([0.0, 1.0, 2.5, 4.0], dtype=torch.float64).view(2, 2, 1)
    return torch.cos(OMEGA * t + phase)


@pytest.mark.parametrize("dissipation", [0, *DISSIPATION])
def test_time_reversible_follows_harmonic_motion(dissipation: int) -> None:
    """The error is of second order in the step during the whole run; that of the previous solution is of first order."""
    predictor = TimeReversible(dissipation)
    assert predictor.weights(Past()) == [1.0]
    _, starts = follow(predictor, 2000, lambda t, _: harmonic(t))
    begun = 2000 - len(starts)
    assert begun == max(2, dissipation + 1)
    errors = [float((start - harmonic(begun + i)).abs().max()) for i, start in enumerate(starts)]
    assert max(errors) < 2.0 * OMEGA**2
    assert float((harmonic(1) - harmonic(0)).abs().max()) > 0.05


@pytest.mark.parametrize("dissipation", [0, *DISSIPATION])
def test_friction_forgets_a_disturbance(dissipation: int) -> None:
    """With friction a disturbance decays, and without it persists."""
    predictor = TimeReversible(dissipation)
    steps = {0: 400, 3: 400, 4: 800, 5: 2000, 6: 6000, 7: 20000}[dissipation]
    disturbed = follow(predictor, steps, lambda t, _: harmonic(t) + (0.1 if t == 50 else 0.0))[1][-20:]
    clean = follow(predictor, steps, lambda t, _: harmonic(t))[1][-20:]
    left = max(float((a - b).abs().max()) for a, b in zip(disturbed, clean, strict=True))
    if dissipation:
        assert left < 1e-3
    else:
        assert left > 0.1


def loose(t: int, start: Tensor | None) -> Tensor:
    """Return the result of a solve that stops early and leaves a part of the error of its start."""
    exact = harmonic(t)
    return exact if start is None else exact + 0.3 * (start - exact)


def returned(dissipation: int, steps: int = 300) -> float:
    """Run forward, exchange the last two steps and run back; return the deviation from the first auxiliary variables."""
    predictor = TimeReversible(dissipation)
    forward: list[Tensor] = []
    past = Past()
    for t in range(steps):
        start = predictor.replaced(past)
        solution = loose(t, start)
        forward.append(solution if start is None else start)
        predictor.remember(past, solution, solution[0], start)
    turn = steps - predictor.depth
    back = Past([loose(turn, forward[turn])], [], forward[turn:])
    for t in reversed(range(turn)):
        start = predictor.replaced(back)
        assert start is not None
        predictor.remember(back, loose(t, start), start[0], start)
    return max(float((a - b).abs().max()) for a, b in zip(back.auxiliary, forward, strict=False))


def test_without_friction_motion_is_exactly_reversible() -> None:
    """Reversibility holds even if solves are loose and depend on their start."""
    assert returned(0) < 1e-12
    assert returned(5) > 1e-5


def test_least_squares_finds_an_affine_combination() -> None:
    generator = torch.Generator().manual_seed(0)
    past = torch.randn(4, 5, 3, generator=generator, dtype=torch.float64)
    weights = torch.tensor([1.9, -1.2, 0.5, -0.2], dtype=torch.float64)
    present = torch.einsum("k,k...->...", weights, past)
    torch.testing.assert_close(least_squares_mix(past, present, 0.0), weights, rtol=1e-11, atol=1e-12)
    # Embeddings of successive steps lie far from the origin. Since weights sum to one, the origin has no influence.
    torch.testing.assert_close(least_squares_mix(past + 100.0, present + 100.0, 0.0), weights, rtol=1e-8, atol=1e-9)


def test_least_squares_is_the_nearest_combination_of_sum_one() -> None:
    generator = torch.Generator().manual_seed(1)
    past = torch.randn(3, 6, 2, generator=generator, dtype=torch.float64)
    present = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    found = least_squares_mix(past, present, 0.0)
    assert float(found.sum()) == pytest.approx(1.0, rel=1e-14)

    def distance(weights: Tensor) -> float:
        return float((torch.einsum("k,k...->...", weights, past) - present).norm())

    for direction in ([1.0, -1.0, 0.0], [0.0, 1.0, -1.0], [1.0, 0.0, -1.0]):
        for size in (-1e-3, 1e-3):
            assert distance(found + size * torch.tensor(direction, dtype=torch.float64)) > distance(found)


def test_rows_equal_to_the_newest_take_no_part() -> None:
    """A short past is padded with copies of its newest row, which must have no influence."""
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    present = 1.7 * rows[0] - 0.7 * rows[1]
    found = least_squares_mix(torch.stack([rows[0], rows[1], rows[0], rows[0]]), present, 1e-14)
    torch.testing.assert_close(found[:2] + torch.stack([found[2:].sum(), found.new_zeros(())]),
                               torch.tensor([1.7, -0.7], dtype=torch.float64), rtol=1e-9, atol=1e-9)  # fmt: skip
    alone = least_squares_mix(rows[:1].expand(4, -1), present, 1e-10)
    torch.testing.assert_close(alone, torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64), rtol=0.0, atol=0.0)
    assert least_squares_mix(rows[:1], present, 1e-10).tolist() == [1.0]


def test_least_squares_keeps_as_many_steps_as_it_looks_back() -> None:
    predictor = LeastSquares(3)
    past = history(float, 7, predictor)
    assert [float(solution[0]) for solution in past.solutions] == [6.0, 5.0, 4.0]
    assert [float(embedding) for embedding in past.embeddings] == [6.0, 5.0, 4.0]
    assert predictor.weights(past) is None
    assert predictor.replaced(past) is None


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LeastSquares(-1), "window = -1 of a predictor; it must be between 0 and 12"),
        (lambda: LeastSquares(13), "window = 13"),
        (lambda: polynomial(-1), "order = -1 of a predictor; it must be between 0 and 6"),
        (lambda: polynomial(7), "order = 7"),
        (lambda: always_stable(7), "order = 7"),
        (lambda: TimeReversible(2), "dissipation = 2 of a time-reversible predictor; choose one of 0, 3, 4, 5, 6, 7"),
        (lambda: build_predictor("kubic"), "unknown predictor 'kubic'; choose one of none, previous, linear"),
    ],
)
def test_options_out_of_range_are_refused(build: Callable[[], Predictor], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        build()
    assert message in str(caught.value)
