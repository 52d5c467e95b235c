"""The options of a run, and the check of those that may change when it is resumed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from mlff_calc.bounded import shorten
from mlff_calc.dynamics.domain import ACTIONS
from mlff_calc.dynamics.ensembles import EnsembleOptions
from mlff_calc.errors import OptionError


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Length, output and limits of a run.

    The options `precision`, `compiled`, `skin_A` and `reuse` describe the calculator. They are only saved, so that a
    resumed run can make the same calculator.

    Attributes:
        steps: Number of steps of the whole run, counted from its start; a resumed run makes the remaining ones.
        log_interval: Steps between rows of the log.
        traj_interval: Steps between frames of the trajectory.
        checkpoint_interval: Steps between saved states; None saves one with every frame.
        max_temperature_K: Temperature at which the run stops because it explodes; None means ten times the larger of the
            target and 300 K.
        threshold: Spread of a force (`forces_std`), eV/Angstrom, above which the run stops; None means no limit.
        potential: Identity of the potential, see `mlff_calc.dynamics.identity`.
        precision: Precision of the calculator.
        compiled: Whether the potential is compiled.
        skin_A: Skin of the neighbour list, Angstrom; None is the default of the calculator.
        reuse: Use of the fixed points of earlier steps.
        velocities: Origin of the initial velocities: "maxwell" draws new ones; "keep" takes those of the structure, and
            removes the drift and (without periodic directions) the rotation of the whole system where the ensemble
            conserves them.
        domain: Reaction to distances or numbers of neighbours outside the training data: "warn" warns once and in the
            report, "stop" ends the run and saves the frame, "off" skips the check.
    """

    steps: int
    log_interval: int = 40
    traj_interval: int = 40
    checkpoint_interval: int | None = None
    max_temperature_K: float | None = None
    threshold: float | None = None
    potential: str = ""
    precision: str = ""
    compiled: bool = False
    skin_A: float | None = None
    velocities: str = "maxwell"
    reuse: str = "auto"
    domain: str = "warn"

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise OptionError(f"steps = {self.steps}: must not be negative. Give the number of steps of the whole run.")
        for name in ("log_interval", "traj_interval", "checkpoint_interval"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"{name} = {value}: must be at least one step. Give a positive integer.")
        for name in ("max_temperature_K", "threshold"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0.0):
                raise OptionError(
                    f"{name} = {value}: must be a positive number. Give a value above zero, or leave it out."
                )
        if self.velocities not in ("maxwell", "keep"):
            raise OptionError(f"velocities = '{self.velocities}' is not known. Choose maxwell or keep.")
        if self.domain not in ACTIONS:
            raise OptionError(f"domain = '{self.domain}' is not known. Choose {', '.join(ACTIONS[:-1])} or {ACTIONS[-1]}.")

    @property
    def checkpoint_steps(self) -> int:
        """Steps between saved states."""
        return self.checkpoint_interval or self.traj_interval

    def temperature_limit(self, target_K: float) -> float:
        """Return the temperature at which the run stops, K."""
        return self.max_temperature_K or 10.0 * max(target_K, 300.0)


_ADDED: dict[str, Any] = {"reuse": "auto", "respa": 1, "respa_evaluations": 2, "domain": "warn"}
"""Options that are missing in runs saved by older versions, with the values that these versions used implicitly."""


def to_dict(ensemble: EnsembleOptions, run: RunOptions) -> dict[str, Any]:
    """Return all options by name, as a plain dict."""
    return {**asdict(ensemble), **asdict(run)}


def from_dict(options: dict[str, Any]) -> tuple[EnsembleOptions, RunOptions]:
    """Return the two dataclasses from a plain dict.

    Args:
        options: Result of `to_dict`.

    Returns:
        Ensemble and run options.

    Raises:
        OptionError: An option is missing, unknown or of the wrong type.
    """
    options = {**_ADDED, **options}
    names = {field.name for field in fields(EnsembleOptions)} | {field.name for field in fields(RunOptions)}
    if set(options) != names:
        odd = ", ".join(sorted(set(options) ^ names))
        raise OptionError(f"the saved options do not fit this version: {odd}. Start over with --overwrite.")
    for field in (*fields(EnsembleOptions), *fields(RunOptions)):
        if not _is_of_type(options[field.name], str(field.type)):
            raise OptionError(
                f"the saved option {field.name} is {shorten(options[field.name])}, and not of type {field.type}: the state "
                "is damaged. Start over with --overwrite."
            )
    ensemble = {field.name: options[field.name] for field in fields(EnsembleOptions)}
    return EnsembleOptions(**ensemble), RunOptions(**{key: options[key] for key in names - set(ensemble)})


_TYPES = {"int": int, "str": str, "bool": bool, "None": type(None)}


def _is_of_type(value: object, written: str) -> bool:
    """Whether a value fits an annotation such as `float | None`. Integers fit `float`; booleans fit only `bool`."""
    names = written.split(" | ")
    if type(value) is int and abs(value) >= 1 << 60:
        return False
    if type(value) in (int, float) and "float" in names:
        return math.isfinite(value)  # type: ignore[arg-type]
    return type(value) in [_TYPES[name] for name in names if name in _TYPES]


def check_unchanged(saved: dict[str, Any], given: dict[str, Any], shown_as: Mapping[str, str] | None = None) -> None:
    """Refuse options that differ from those of the start of a run; only `steps` and `domain` may differ.

    Args:
        saved: Options with which the run was started.
        given: Some or all options as they are given now.
        shown_as: Names of options in the error text; an option that is missing here keeps its own name.

    Raises:
        OptionError: Names the first option that differs.
    """
    saved = {**_ADDED, **saved}
    for name, value in given.items():
        if name not in saved:
            raise OptionError(f"{name} is not an option of a run. Options: {', '.join(saved)}.")
        if name not in ("steps", "domain") and saved[name] != value:
            shown = (shown_as or {}).get(name, name)
            cure = "Name that one" if name == "potential" else f"Leave {shown} out"
            raise OptionError(
                f"{shown} = {value!r} differs from {saved[name]!r}, with which this run was started. "
                f"{cure} to go on, or start a new run in another folder."
            )


def with_steps(run: RunOptions, steps: int | None, step: int) -> RunOptions:
    """Return the run options with a new total number of steps, which must not be below the step already reached.

    Args:
        run: Options.
        steps: New total number of steps; None keeps the old one.
        step: Number of steps already made.

    Returns:
        New options.

    Raises:
        OptionError: The total is less than the number of steps already made.
    """
    if steps is None:
        return run
    if steps < step:
        raise OptionError(
            f"steps = {steps}: this run has made {step} already, and steps count from its start. "
            f"Give at least {step}, or start a new run in another folder."
        )
    return replace(run, steps=steps)
