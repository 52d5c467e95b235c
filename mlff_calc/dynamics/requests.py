"""Conversion of the arguments of a caller, such as `time="2ps"`, to the options of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mlff_calc.dynamics.ensembles import ACTS_IN, EnsembleOptions
from mlff_calc.dynamics.options import from_dict
from mlff_calc.dynamics.quantities import parse_pressure_GPa, parse_steps, parse_time_fs
from mlff_calc.errors import OptionError

DEFAULT_TIME, DEFAULT_INTERVAL = "1ps", "20fs"
Spell = Callable[[str], str]

FIELDS = {
    "timestep": ("timestep_fs", "fs"),
    "temperature": ("temperature_K", ""),
    "friction": ("friction_per_ps", ""),
    "taut": ("taut_fs", "fs"),
    "taup": ("taup_fs", "fs"),
    "pressure": ("pressure_GPa", "GPa"),
    "max_temperature": ("max_temperature_K", ""),
    "skin": ("skin_A", ""),
    "compile": ("compiled", ""),
    "keep_velocities": ("velocities", ""),
    "log_interval": ("log_interval", "steps"),
    "traj_interval": ("traj_interval", "steps"),
    "checkpoint_interval": ("checkpoint_interval", "steps"),
    **{
        name: (name, "")
        for name in ("ensemble", "seed", "threshold", "domain", "precision", "respa", "respa_evaluations", "reuse")
    },
}
"""Arguments by name: the field of `EnsembleOptions` or `RunOptions` that each sets, and the field's unit."""
_INTERVALS = ("log_interval", "traj_interval", "checkpoint_interval")
_NUMBERS = {"temperature", "friction", "max_temperature", "threshold", "skin"}


def shown_names(spell: Spell) -> dict[str, str]:
    """Return the names of fields in error texts.

    Args:
        spell: Function that writes the name of an argument the way the caller does.
    """
    shown = {field: spell(name) + (f" ({unit})" if unit else "") for name, (field, unit) in FIELDS.items()}
    return {**shown, "potential": "the potential"}


def read_arguments(arguments: Mapping[str, Any], spell: Spell) -> tuple[dict[str, Any], dict[str, Any]]:
    """Convert arguments to fields of the options. Intervals are returned apart, since their unit is a step.

    Args:
        arguments: Values by name, None for those that were not given; times and pressures are numbers (fs, GPa) or texts.
        spell: Function that writes the name of an argument, see `shown_names`.

    Returns:
        Fields by name without the intervals, and the intervals by name as they were given.

    Raises:
        OptionError: A text is not a time or a pressure, or a value that should be a number is not one.
    """
    given = {name: _plain(value) for name, value in arguments.items() if value is not None}
    for name in _NUMBERS & given.keys():
        if isinstance(given[name], bool) or not isinstance(given[name], int | float):
            raise OptionError(f"{spell(name)} is {given[name]!r}. Give a number.")
    fields: dict[str, Any] = {}
    for name, value in given.items():
        field, unit = FIELDS[name]
        if unit == "fs":
            fields[field] = parse_time_fs(str(value), spell(name), default_unit="fs")
        elif unit == "GPa":
            fields[field] = parse_pressure_GPa(str(value), spell(name))
        elif name == "keep_velocities":
            fields[field] = "keep" if value else "maxwell"
        elif name not in _INTERVALS:
            fields[field] = value
    return fields, {name: value for name, value in given.items() if name in _INTERVALS}


def ensemble_of(fields: Mapping[str, Any], spell: Spell) -> EnsembleOptions:
    """Return the ensemble of a new run.

    Raises:
        OptionError: An option has no effect in this ensemble.
    """
    if "respa_evaluations" in fields and fields.get("respa", 1) == 1:
        raise OptionError(
            f"{spell('respa_evaluations')} is an option of multiple time steps. Give {spell('respa')} as well, at least 2, "
            "or leave it out."
        )
    held = {name: value for name, value in fields.items() if name in EnsembleOptions.__dataclass_fields__}
    ensemble = EnsembleOptions(**held)
    for name in ACTS_IN.keys() & held.keys():
        if ensemble.ensemble not in ACTS_IN[name]:
            raise OptionError(
                f"{shown_names(spell)[name]} does not act in the ensemble {ensemble.ensemble}. Leave it out, or choose "
                f"{spell('ensemble')} {' or '.join(ACTS_IN[name])}."
            )
    return ensemble


def counts_of(
    step_fs: float, intervals: Mapping[str, Any], steps: int | None, time: str | None, spell: Spell
) -> dict[str, int]:
    """Return the numbers of steps of the intervals, and of the whole run where its length is given.

    Args:
        step_fs: Length of a step, fs.
        intervals: Intervals by name, as numbers of steps or texts with a unit of time.
        steps: Length of the run in steps; None where it is given by `time` or not at all.
        time: Length of the run, a text with a unit.
        spell: Function that writes the name of an argument, see `shown_names`.

    Raises:
        OptionError: A value is not a length, or is less than one step.
    """
    counts = {name: parse_steps(str(value), step_fs, spell(name)) for name, value in intervals.items()}
    if steps is not None:
        counts["steps"] = _plain(steps)
        if isinstance(counts["steps"], bool) or not isinstance(counts["steps"], int):
            raise OptionError(f"{spell('steps')} is {counts['steps']!r}. Give a whole number.")
    elif time is not None:
        counts["steps"] = round(parse_time_fs(str(time), spell("time")) / step_fs)
        if counts["steps"] < 1:
            raise OptionError(
                f"{spell('time')} {time} is less than one step of {step_fs:g} fs. Give a longer {spell('time')}."
            )
    return counts


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return a numpy scalar as a Python number, as saved options need it; other values unchanged."""
    return value.item() if isinstance(value, np.generic) else value


def step_of(saved: dict[str, Any]) -> float:
    """Return the length of a step of a saved run, fs."""
    return from_dict(saved)[0].step_fs
