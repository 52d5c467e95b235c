"""The policy of warm starts: which residuals justify another call, and which options are refused."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from mlff_calc.errors import OptionError
from mlff_calc.fixed_point.warm_start import WarmStart


@pytest.mark.parametrize(
    ("residuals", "warm", "cold"),
    [
        ([1.0], True, True),
        ([1.0, 2.0], True, True),  # the first two calls are never judged
        ([1.0, 0.8, 0.7], True, True),
        ([1.0, 0.8, 0.75], False, True),
        ([1.0, 2.0, 1.0], False, True),
        ([1.0, 0.95, 0.95, 0.95, 0.95, 0.89], False, True),
        ([1.0, 0.95, 0.95, 0.95, 0.95, 0.91], False, False),
        ([1.0, 0.5, 0.95, 0.95, 0.95, 0.95], False, True),
        ([float("nan")], False, False),
        ([1.0, float("nan")], False, False),
    ],
)
def test_a_call_has_to_lower_the_residual(residuals: list[float], warm: bool, cold: bool) -> None:
    policy = WarmStart()
    assert policy.goes_on(residuals, cold=False) is warm
    assert policy.goes_on(residuals, cold=True) is cold


def test_patience_and_factor_are_options() -> None:
    policy = WarmStart(factor=0.5, warm_patience=2)
    assert policy.goes_on([1.0, 0.4, 0.6], cold=False)
    assert not policy.goes_on([1.0, 0.6, 0.6], cold=False)


def test_records_give_the_policy_back() -> None:
    policy = WarmStart(reach=0.2, factor=0.5, warm_patience=3, cold_patience=7)
    assert WarmStart.of_record({"width": 8, **asdict(policy)}) == policy
    assert WarmStart.of_record({"width": 8}) == WarmStart()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("reach", 0.0), ("reach", float("nan")), ("reach", float("inf")), ("reach", "0.5"), ("factor", 1.1),
        ("factor", True), ("warm_patience", 0), ("warm_patience", 1.0), ("cold_patience", -1), ("cold_patience", 10**9),
    ],
)  # fmt: skip
def test_options_out_of_range(option: str, value: object) -> None:
    with pytest.raises(OptionError, match=rf"{option} = .* of warm starts; it must be a (whole )?number above 0"):
        WarmStart(**{option: value})
