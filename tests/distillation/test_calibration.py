"""From spread to error: shares within the bound, rising functions, thresholds; and the choice of frames."""

from __future__ import annotations

import numpy as np
import pytest

from mlff_calc.distillation.calibration import Calibration, calibrate, rising
from mlff_calc.distillation.choice import at_random, farthest_points
from mlff_calc.errors import SimulationError


@pytest.mark.parametrize("n", [30, 400])
def test_ninety_of_a_hundred_new_errors_are_below_their_bound(n: int) -> None:
    random = np.random.default_rng(0)

    def draw(k: int) -> tuple[np.ndarray, np.ndarray]:
        spread = random.lognormal(-3.0, 0.8, size=k)
        return spread, 3.0 * spread * np.abs(random.normal(size=k))

    shares = []
    for _ in range(20):
        calibration = calibrate(*draw(n))
        spread, error = draw(500)
        shares.append((error <= calibration.bound(spread)).mean())
    assert 0.85 < np.mean(shares) < 0.96


def test_spreads_that_saturate_still_give_rising_bounds() -> None:
    random = np.random.default_rng(1)
    spread = random.uniform(0.01, 1.0, size=300)
    calibration = calibrate(spread, np.minimum(spread, 0.3) * random.uniform(0.5, 1.5, size=300))
    bounds = calibration.bound(np.linspace(0.0, 3.0, 200))
    assert (np.diff(bounds) >= -1e-12).all()
    assert bounds[0] == 0.0


def test_the_threshold_is_where_the_bound_is_the_tolerance() -> None:
    calibration = Calibration((0.1, 0.2, 0.4), (0.2, 0.2, 1.0), 100)
    for tolerance in (0.1, 0.5, 0.9, 3.0):
        threshold = calibration.threshold(tolerance)
        assert float(calibration.bound(np.array([threshold]))[0]) == pytest.approx(tolerance, rel=1e-6)
    assert Calibration.of_plain(calibration.plain()) == calibration


def test_without_finite_errors_there_is_no_calibration() -> None:
    with pytest.raises(SimulationError, match="no frames to calibrate on"):
        calibrate([np.nan, 0.1], [1.0, np.inf])


def test_the_nearest_rising_sequence() -> None:
    assert rising([1.0, 3.0, 2.0, 2.0, 5.0], [1, 1, 1, 1, 1]) == pytest.approx([1.0, 7 / 3, 7 / 3, 7 / 3, 5.0])
    assert rising([3.0, 1.0], [3, 1]) == [2.5, 2.5]


def test_farthest_points_take_one_of_each_group_first() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.eye(5), 20, axis=0) + 0.01 * random.normal(size=(100, 5))
    chosen = farthest_points(groups, np.zeros((0, 5)), 5)
    assert {k // 20 for k in chosen} == set(range(5))
    others = farthest_points(groups, groups[:40], 3)
    assert {k // 20 for k in others} == {2, 3, 4}
    assert farthest_points(np.ones((4, 2)), np.ones((1, 2)), 3) == []
    assert len(farthest_points(groups, groups[:1], 1000)) <= 100


def test_random_frames_are_distinct_and_repeat_with_the_seed() -> None:
    drawn = at_random(50, 10, np.random.default_rng(3))
    assert len(set(drawn)) == 10
    assert drawn == at_random(50, 10, np.random.default_rng(3))
    assert at_random(3, 10, np.random.default_rng(3)) == [0, 1, 2]
