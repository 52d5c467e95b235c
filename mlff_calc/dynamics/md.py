"""Molecular dynamics in one call: from a structure and a potential to a folder with trajectory, log and report."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from mlff_calc.dynamics.folder import TRAJECTORY, has_state, load_newest, look, refuse_other_run
from mlff_calc.dynamics.identity import identity, identity_of
from mlff_calc.dynamics.options import RunOptions, check_unchanged
from mlff_calc.dynamics.report import write_report
from mlff_calc.dynamics.requests import (
    DEFAULT_INTERVAL,
    DEFAULT_TIME,
    Spell,
    counts_of,
    ensemble_of,
    read_arguments,
    shown_names,
    step_of,
)
from mlff_calc.dynamics.run import MDRun, RunResult
from mlff_calc.dynamics.structures import example_of, read_structure, structure_to_start
from mlff_calc.errors import MLFFError, OptionError, SimulationError

if TYPE_CHECKING:
    from rich.console import Console

logger = logging.getLogger(__name__)
_OF_THE_CALCULATOR = ("skin", "precision", "compile", "reuse", "device", "trust")


def run_md(
    atoms: Atoms | str | Path | None,
    potential: str | Path | Sequence[str | Path] | Calculator,
    *,
    output: str | Path = "md",
    ensemble: str | None = None,
    temperature: float | None = None,
    time: str | None = None,
    steps: int | None = None,
    timestep: float | str | None = None,
    pressure: float | str | None = None,
    friction: float | None = None,
    taut: float | str | None = None,
    taup: float | str | None = None,
    respa: int | None = None,
    respa_evaluations: int | None = None,
    log_interval: int | str | None = None,
    traj_interval: int | str | None = None,
    checkpoint_interval: int | str | None = None,
    seed: int | None = None,
    keep_velocities: bool | None = None,
    max_temperature: float | None = None,
    threshold: float | None = None,
    domain: str | None = None,
    skin: float | None = None,
    precision: str | None = None,
    device: str | None = None,
    compile: bool | None = None,
    reuse: str | None = None,
    trust: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    show: bool = False,
    spell: Spell = str,
) -> RunResult:
    """Run molecular dynamics, and write all results into a folder. `mlff md` calls this function.

    The defaults of options are given in brackets. With `resume` the defaults are the options of the run that is continued.

    Args:
        atoms: Structure, which is copied; or a file that ASE reads (its last frame), or the name of a molecule of ASE's g2
            set. None is the example structure of the potential, and with `resume` the structure of the run.
        potential: Name of a shipped potential, a folder or an exported file; a list of them makes a committee. An ASE
            calculator is used as it is.
        output: Folder for all files.
        ensemble: Name: ``nve``, ``langevin``, ``bussi``, ``nose-hoover``, ``npt-iso`` or ``npt``. [nve]
        temperature: Target temperature, which is also that of the initial velocities, K. [300]
        time: Length of the whole run, such as ``2ps``. Give either `time` or `steps`. [1ps]
        steps: Number of steps of the whole run.
        timestep: Length of a time step, fs or a text with a unit. [0.5]
        pressure: Target pressure, GPa or a text such as ``1bar``; compression is positive. [0]
        friction: Friction of Langevin dynamics, 1/ps. [5]
        taut: Time constant of the thermostat, fs or a text with a unit. [100]
        taup: Time constant of the barostat, fs or a text with a unit. [1000]
        respa: Number of inner steps in an outer step, see `EnsembleOptions`. [1]
        respa_evaluations: Number of evaluations in the truncated potential, see `EnsembleOptions`. [2]
        log_interval: Steps between rows of the log, or a text such as ``20fs``. [20fs]
        traj_interval: Steps between frames, or a text. [20fs]
        checkpoint_interval: Steps between saved states, or a text. [every frame]
        seed: Seed of velocities and thermostat. [0]
        keep_velocities: Whether to start with the velocities of the structure. [False]
        max_temperature: Temperature at which the run stops, K. [ten times the target]
        threshold: Spread of a force at which the run stops, eV/Angstrom, for committees and potentials with heads of errors.
            [none]
        domain: Reaction to a structure outside the training data: ``warn``, ``stop`` or ``off``. [warn]
        skin: Skin of the neighbour list. See `MLFFCalculator` for this argument and the next five, which are for potentials
            given by name, folder or file. [the calculator's default]
        precision: Precision of the network. [float32, or that of an exported file]
        device: Device of the network. [auto]
        compile: Whether to run compiled code. [False]
        reuse: Use of the fixed points of earlier steps. [auto]
        trust: Whether to open exported files made by others. [False]
        resume: Whether to continue the run in the folder, or start it where there is none. [False]
        overwrite: Whether to replace the run in the folder. [False]
        show: Whether to show the progress on stdout: as a live table on a terminal, otherwise as a line every few
            seconds. [False]
        spell: Function that writes the name of an argument in error texts.

    Returns:
        The outcome of the run. Where a signal (SIGINT, SIGTERM) stopped the run, `interrupted` is its name, and all data are
        saved.

    Raises:
        OptionError, StructureError, PotentialFileError: An option, the structure or the potential cannot be used. Nothing
            has been written.
        SimulationError: The run was stopped, see `MDRun.run`. The report has been written.
    """
    if steps is not None and time is not None:
        raise OptionError(f"{spell('steps')} and {spell('time')} both set the length of the run. Give one of them.")
    if resume and overwrite:
        raise OptionError(
            f"{spell('resume')} goes on with a run and {spell('overwrite')} replaces it. Give one of them."
        )
    arguments = {
        "ensemble": ensemble, "timestep": timestep, "temperature": temperature, "friction": friction, "taut": taut,
        "taup": taup, "pressure": pressure, "seed": seed, "respa": respa, "respa_evaluations": respa_evaluations,
        "max_temperature": max_temperature, "threshold": threshold, "domain": domain, "skin": skin,
        "precision": precision, "compile": compile, "reuse": reuse, "keep_velocities": keep_velocities,
        "log_interval": log_interval, "traj_interval": traj_interval, "checkpoint_interval": checkpoint_interval,
    }  # fmt: skip
    source = Source(potential, device, trust, spell)
    source.refuse(arguments)
    fields, intervals = read_arguments(arguments, spell)
    folder = Path(output)
    if resume and has_state(folder):
        run = _resume(atoms, source, folder, fields, intervals, steps, time)
    else:
        seen = refuse_other_run(folder, overwrite=overwrite)
        held = ensemble_of(fields, spell)
        intervals = {"log_interval": DEFAULT_INTERVAL, "traj_interval": DEFAULT_INTERVAL, **intervals}
        length = DEFAULT_TIME if steps is None and time is None else time
        counts = counts_of(held.step_fs, intervals, steps, length, spell)
        made = {name: value for name, value in fields.items() if name in RunOptions.__dataclass_fields__}
        made = {**source.watched(), **made, **counts}
        made |= {"precision": source.precision(precision), "potential": source.identity()}
        options = RunOptions(**made)
        moving = source.structure(atoms)
        moving.calc = source.calculator(vars(options))
        run = MDRun.start(moving, folder, held, options, overwrite=overwrite, seen=seen)
    return _carry_out(run, show=show)


@dataclass(frozen=True)
class Source:
    """Potential of a run, as the caller gave it.

    Attributes:
        potential, device, trust, spell: Arguments of `run_md`.
    """

    potential: str | Path | Sequence[str | Path] | Calculator
    device: str | None
    trust: bool
    spell: Spell

    @property
    def names(self) -> list[str]:
        """Names of the potentials; empty for a calculator."""
        if isinstance(self.potential, str | Path):
            return [str(self.potential)]
        return [] if isinstance(self.potential, Calculator) else [str(one) for one in self.potential]

    def refuse(self, arguments: Mapping[str, Any]) -> None:
        """Refuse options that belong to a calculator where a calculator is given.

        Raises:
            OptionError: Names the first of these options, or says that the potential has the wrong type.
        """
        if not isinstance(self.potential, str | Path | Calculator | list | tuple):
            raise OptionError(
                f"the potential is a {type(self.potential).__name__}. Give a name, a folder, a file, a list of these, or an "
                "ASE calculator such as MLFFCalculator(...)."
            )
        if not self.names and not isinstance(self.potential, Calculator):
            raise OptionError("the list of potentials is empty. Name at least one.")
        asked = {**arguments, "device": self.device, "trust": self.trust or None}
        given = [name for name in _OF_THE_CALCULATOR if asked[name] is not None]
        if isinstance(self.potential, Calculator) and given:
            raise OptionError(f"{self.spell(given[0])} is set where the calculator is made. Set it there, and leave it out.")

    def identity(self, remembered: str | None = None) -> str:
        """Return the text that identifies this potential, see `mlff_calc.dynamics.identity`."""
        return identity(",".join(self.names), remembered) if self.names else identity_of(self.potential)

    def structure(self, atoms: Atoms | str | Path | None) -> Atoms:
        """Return a copy of the structure to start from."""
        if atoms is not None:
            return structure_to_start(atoms, shown=self.spell("structure")).copy()
        if not self.names:
            raise OptionError("a calculator brings no example structure. Give the atoms.")
        return example_of(self.names[0], shown=self.spell("structure"))

    def precision(self, asked: str | None) -> str:
        """Return the given precision, else that of the exported files, else float32. No code of the files is loaded."""
        from mlff_calc.export import read_metadata
        from mlff_calc.export.opening import is_exported, precision_of

        if not self.names:
            return ""
        return precision_of([read_metadata(name) for name in self.names if is_exported(name)], asked)

    def watched(self) -> dict[str, str]:
        """Return the option `domain` of a given calculator, which the run then takes over."""
        action = getattr(getattr(self.potential, "watch", None), "action", None)
        return {} if action is None else {"domain": action}

    def calculator(self, options: Mapping[str, Any]) -> Calculator:
        """Return the calculator, made with the options of a run."""
        if isinstance(self.potential, Calculator):
            return self.potential
        from mlff_calc.calculators import CommitteeCalculator, MLFFCalculator

        made: dict[str, Any] = {
            "device": self.device or "auto",
            "precision": options["precision"],
            "compile": options["compiled"],
            "reuse": options.get("reuse", "auto"),
            "domain": "off" if options.get("domain") == "off" else "warn",  # with "stop", the run itself saves and stops
            "trust": self.trust,
        }
        if options["skin_A"] is not None:
            made["skin"] = options["skin_A"]
        names = self.names
        return MLFFCalculator(names[0], **made) if len(names) == 1 else CommitteeCalculator(names, **made)


def _resume(
    atoms: Atoms | str | Path | None,
    source: Source,
    folder: Path,
    fields: dict[str, Any],
    intervals: dict[str, Any],
    steps: int | None,
    time: str | None,
) -> MDRun:
    """Return the run in the folder, with its own options where none are given."""
    seen = look(folder)
    saved = load_newest(folder, warn=False).options  # MDRun.resume warns if this is the synced state
    counts = counts_of(step_of(saved), intervals, steps, time, source.spell)
    total = counts.pop("steps", None)
    given = {**fields, **counts, "potential": source.identity(saved.get("potential"))}
    check_unchanged(saved, given, shown_names(source.spell))
    if atoms is not None:
        _check_start(source.structure(atoms), f"{source.spell('structure')} {atoms}", folder)
    calculator = source.calculator({**saved, **({"domain": fields["domain"]} if "domain" in fields else {})})
    return MDRun.resume(folder, calculator, steps=total, seen=seen, **given)


def _check_start(atoms: Atoms, shown: str, folder: Path) -> None:
    """Refuse a structure that differs from the first frame of the run."""
    first = read_structure(folder / TRAJECTORY, frame=0)
    cure = "Leave it out to go on, or choose another folder."
    if atoms.get_chemical_formula() != first.get_chemical_formula():
        raise OptionError(
            f"{shown} is {atoms.get_chemical_formula()}, and this run is of {first.get_chemical_formula()}. {cure}"
        )
    same = np.array_equal(atoms.numbers, first.numbers) and np.array_equal(atoms.pbc, first.pbc)
    if not (same and all(np.allclose(getattr(atoms, name), getattr(first, name)) for name in ("positions", "cell"))):
        raise OptionError(
            f"{shown} has other positions, cell, pbc or order of atoms than the structure this run was started with, the "
            f"first frame of {folder / TRAJECTORY}. {cure}"
        )


def _carry_out(run: MDRun, *, show: bool) -> RunResult:
    """Make and show the steps, and write the report while the folder is locked."""
    calculator = run.atoms.calc

    def report(ended: RunResult | SimulationError) -> None:
        if not isinstance(ended, SimulationError):
            write_report(run.folder, timing=_times(calculator))
            return
        with contextlib.suppress(MLFFError, OSError):  # the reason for the stop is raised even if the report fails
            write_report(run.folder, timing=_times(calculator), stopped=str(ended))

    if not show:
        return run.run(ending=report)
    from rich.console import Console

    return _show(run, Console(), report)


def _show(run: MDRun, console: Console, report: Any) -> RunResult:  # noqa: ANN401
    from mlff_calc.dynamics.progress import RunProgress

    title = f"{run.atoms.get_chemical_formula()}, {run.ensemble.ensemble}, {run.options.potential}"
    with RunProgress(
        console, title=title, start=run.state.step, steps=run.options.steps, npt=run.ensemble.is_npt
    ) as progress:
        return run.run(progress, ending=report)


def _times(calculator: Any) -> dict[str, float] | None:  # noqa: ANN401
    stats = getattr(calculator, "stats", None)
    return None if stats is None else stats.as_dict()

