"""Texts with units."""

from __future__ import annotations

import pytest

from mlff_calc.dynamics.quantities import parse_pressure_GPa, parse_steps, parse_time_fs
from mlff_calc.errors import OptionError


@pytest.mark.parametrize(
    ("text", "fs"),
    [("2ps", 2000.0), ("500fs", 500.0), ("0.1 ns", 1e5), ("1e-3ps", 1.0), (".5fs", 0.5), ("250as", 0.25)],
)
def test_times(text, fs):
    assert parse_time_fs(text) == pytest.approx(fs, rel=1e-14)


@pytest.mark.parametrize("text", ["2", "two ps", "2 parsec", "ps", "", "1e400ps", "2ps3"])
def test_bad_times_name_the_option_and_the_text(text):
    with pytest.raises(OptionError, match="--time") as caught:
        parse_time_fs(text, "--time")
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("text", "gpa"),
    [("1bar", 1e-4), ("1atm", 1.01325e-4), ("2", 2.0), ("-0.5GPa", -0.5), ("5kbar", 0.5), ("100MPa", 0.1)],
)
def test_pressures(text, gpa):
    assert parse_pressure_GPa(text) == pytest.approx(gpa, rel=1e-14)


def test_intervals_are_steps_or_times():
    assert parse_steps("40", 0.5, "x") == 40
    assert parse_steps("20fs", 0.5, "x") == 40
    for text in ("0", "0.1fs", "-3"):
        with pytest.raises(OptionError, match="--log-interval"):
            parse_steps(text, 0.5, "--log-interval")
