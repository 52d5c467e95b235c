"""Conversion of texts with units, such as those of a command line, to numbers."""

from __future__ import annotations

import math
import re

from ase import units

from mlff_calc.errors import OptionError

# Units of time in fs, and of pressure in GPa.
_TIMES_FS = {"as": 1e-3, "fs": 1.0, "ps": 1e3, "ns": 1e6, "us": 1e9}
_PRESSURES_GPA = {"Pa": 1e-9, "kPa": 1e-6, "MPa": 1e-3, "GPa": 1.0, "bar": 1e-4, "kbar": 0.1, "atm": 1.01325e-4}
_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-z]*)\s*")

GPA_IN_EV_PER_A3 = units.GPa


def _parse(text: str, table: dict[str, float], default_unit: str | None, option: str) -> float:
    match = _QUANTITY.fullmatch(text)
    known = ", ".join(table)
    if match is None:
        raise OptionError(
            f"{option}: '{text}' is not a number with a unit. Write a number and one of {known}, like 2{_example(table)}."
        )
    number, unit = match.groups()
    unit = unit or default_unit or ""
    if unit not in table:
        what = f"unknown unit '{unit}'" if unit else "the unit is missing"
        raise OptionError(f"{option}: {what} in '{text}'. Units: {known}; for example {number}{_example(table)}.")
    value = float(number) * table[unit]
    if not math.isfinite(value):
        raise OptionError(f"{option}: '{text}' is not finite. Give a finite value.")
    return value


def _example(table: dict[str, float]) -> str:
    return "ps" if "ps" in table else "GPa"


def parse_time_fs(text: str, option: str = "time", default_unit: str | None = None) -> float:
    """Read a time such as `2ps`, `500fs` or `0.1 ns`.

    Args:
        text: Number and unit (as, fs, ps, ns, us).
        option: Name of the option, for the error text.
        default_unit: Unit of a bare number; None refuses bare numbers.

    Returns:
        The time in femtoseconds.

    Raises:
        OptionError: The number or the unit is missing, or the unit is unknown.
    """
    return _parse(text, _TIMES_FS, default_unit, option)


def parse_pressure_GPa(text: str, option: str = "pressure") -> float:  # noqa: N802  (GPa is the unit)
    """Read a pressure such as `1bar` or `0.5GPa`; a bare number is in GPa.

    Args:
        text: Number and unit (Pa, kPa, MPa, GPa, bar, kbar, atm).
        option: Name of the option, for the error text.

    Returns:
        The pressure in GPa, compression positive.

    Raises:
        OptionError: The number is missing, or the unit is unknown.
    """
    return _parse(text, _PRESSURES_GPA, "GPa", option)


def parse_steps(text: str, timestep_fs: float, option: str) -> int:
    """Read an interval as a number of steps (`40`) or as a time (`20fs`).

    Args:
        text: An integer, or a time with a unit.
        timestep_fs: Length of a step, fs.
        option: Name of the option, for the error text.

    Returns:
        The number of steps, at least one.

    Raises:
        OptionError: The text is neither a positive integer nor a time of at least half a step.
    """
    if re.fullmatch(r"\s*\d+\s*", text):
        steps = int(text)
    else:
        steps = round(parse_time_fs(text, option) / timestep_fs)
    if steps < 1:
        raise OptionError(f"{option}: '{text}' is less than one step of {timestep_fs:g} fs. Give at least one step.")
    return steps
