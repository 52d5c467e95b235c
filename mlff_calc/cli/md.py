"""`mlff md`: molecular dynamics that can be killed and goes on where it was."""

from __future__ import annotations

import contextlib
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlff_calc.cli import options
from mlff_calc.cli.identity import identity
from mlff_calc.errors import DatasetError, MLFFError, OptionError, SimulationError, StructureError

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from rich.console import Console

    from mlff_calc.dynamics import MDRun, RunResult
    from mlff_calc.dynamics.run import Ending

_DEFAULT_TIME = "1ps"
_DEFAULT_INTERVAL = "20fs"
_SHOWN_AS = {
    "timestep_fs": "--timestep (fs)",
    "temperature_K": "--temperature",
    "friction_per_ps": "--friction",
    "taut_fs": "--taut (fs)",
    "taup_fs": "--taup (fs)",
    "pressure_GPa": "--pressure (GPa)",
    "max_temperature_K": "--max-temperature",
    "skin_A": "--skin",
    "potential": "the potential",
    "compiled": "--compile",
    "velocities": "--keep-velocities",
    "log_interval": "--log-interval (steps)",
    "traj_interval": "--traj-interval (steps)",
    "checkpoint_interval": "--checkpoint-interval (steps)",
    **{name: f"--{name}" for name in ("ensemble", "seed", "threshold", "precision", "respa", "reuse")},
    "respa_evaluations": "--respa-evaluations",
}
_EXAMPLES = ("example.extxyz", "structure.xyz")


class EnsembleName(StrEnum):
    """The ensembles of `mlff md`."""

    nve = "nve"
    langevin = "langevin"
    bussi = "bussi"
    nose_hoover = "nose-hoover"
    npt_iso = "npt-iso"
    npt = "npt"


def _help(text: str, **more: Any) -> Any:
    return typer.Option(help=text, show_default=False, **more)


def md(
    potential: Annotated[
        str,
        typer.Argument(
            help="Name of a potential that ships, a folder, or an exported file; several with commas between make a "
            "committee."
        ),
    ],
    structure: Annotated[
        str | None,
        typer.Option(
            "--structure",
            "-s",
            help="A file that ASE reads (its last frame), or the name of a molecule of ASE's g2 "
            "set. [the potential's example]",
            show_default=False,
        ),
    ] = None,
    ensemble: Annotated[EnsembleName | None, _help("What is held constant. [nve]")] = None,
    temperature: Annotated[float | None, _help("Temperature in K, of the initial velocities as well. [300]")] = None,
    time: Annotated[str | None, _help(f"Length of the whole run, like 2ps or 500fs. [{_DEFAULT_TIME}]")] = None,
    steps: Annotated[int | None, _help("Steps of the whole run, instead of --time.")] = None,
    timestep: Annotated[str | None, _help("Length of a step; a bare number is in fs. [0.5fs]")] = None,
    pressure: Annotated[str | None, _help("Pressure for npt, like 1bar; a bare number is in GPa. [0]")] = None,
    friction: Annotated[float | None, _help("Friction of langevin, 1/ps. [5]")] = None,
    taut: Annotated[str | None, _help("Time constant of the thermostat; a bare number is in fs. [100fs]")] = None,
    taup: Annotated[str | None, _help("Time constant of the barostat; a bare number is in fs. [1ps]")] = None,
    respa: Annotated[
        int | None,
        _help(
            "Multiple time steps for nve with a fixed-point potential: --timestep with the truncated potential, the "
            "converged force every so many of these. Steps of the run are then the long ones. [1, none]",
            min=1,
        ),
    ] = None,
    respa_evaluations: Annotated[
        int | None, _help("Evaluations of the fixed point in the truncated potential of --respa. [2]", min=1)
    ] = None,
    output: options.Output = Path("md"),
    log_interval: Annotated[str | None, _help(f"Steps or time between rows of the log. [{_DEFAULT_INTERVAL}]")] = None,
    traj_interval: Annotated[str | None, _help(f"Steps or time between frames. [{_DEFAULT_INTERVAL}]")] = None,
    checkpoint_interval: Annotated[str | None, _help("Steps or time between saved states. [every frame]")] = None,
    seed: Annotated[int | None, _help("Seed of velocities and thermostat. [0]", min=0)] = None,
    keep_velocities: Annotated[bool | None, _help("Start with the velocities of the structure.")] = None,
    max_temperature: Annotated[float | None, _help("Stop above this temperature, K. [ten times the target]")] = None,
    threshold: Annotated[
        float | None, _help("Stop where a committee's spread of a force is above this, eV/Angstrom.")
    ] = None,
    skin: Annotated[float | None, _help("Skin of the neighbour list, Angstrom. [the calculator's]")] = None,
    precision: Annotated[
        options.PrecisionName | None, _help("Arithmetic of the network; energies are summed in float64. [float32]")
    ] = None,
    device: options.Device = "auto",
    compiled: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Compile the potential once and use it from the cache afterwards. [--no-compile]",
            show_default=False,
        ),
    ] = None,
    reuse: Annotated[
        options.ReuseName | None,
        _help(
            "Start a fixed point from the steps before (potentials with backbone deq): conservative for constant energy, "
            "fast under a thermostat, none for a cold solve each step. [auto: conservative]"
        ),
    ] = None,
    trust: options.Trust = False,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Run molecular dynamics with a potential.

    The output folder gets trajectory.traj (ASE reads it), log.csv, state.json, energies.png and report.html. A run that was
    stopped or killed goes on with `--resume`; --steps and --time count from the start of the run. With --resume, options
    left out are those of the run, and a folder without a run starts one, so that one command serves both.
    """
    if steps is not None and time is not None:
        raise OptionError("--steps and --time both set the length of the run. Give one of them.")
    if resume and overwrite:
        raise OptionError("--resume goes on with a run and --overwrite replaces it. Give one of them.")
    _members(potential)
    given = _given(
        ensemble=None if ensemble is None else ensemble.value, timestep_fs=_time(timestep, "--timestep"),
        temperature_K=temperature, friction_per_ps=friction, taut_fs=_time(taut, "--taut"), taup_fs=_time(taup, "--taup"),
        pressure_GPa=_pressure(pressure), seed=seed, respa=respa, respa_evaluations=respa_evaluations,
        max_temperature_K=max_temperature, threshold=threshold, skin_A=skin,
        precision=None if precision is None else precision.value, compiled=compiled,
        reuse=None if reuse is None else reuse.value,
        velocities=None if keep_velocities is None else ("keep" if keep_velocities else "maxwell"),
    )  # fmt: skip
    intervals = _given(log_interval=log_interval, traj_interval=traj_interval, checkpoint_interval=checkpoint_interval)
    length = {"steps": steps, "time": time}
    from mlff_calc.dynamics.folder import has_state

    if resume and has_state(output):
        run = _resume(potential, structure, output, device, given, intervals, length, trust=trust)
    else:
        run = _start(
            potential, structure, output, device, given, intervals, length, overwrite=overwrite, trust=trust
        )
    _carry_out(run, quiet=quiet)


def _members(potential: str) -> list[str]:
    """The names between the commas.

    Raises:
        OptionError: nothing stands before, between or after them.
    """
    names = [name.strip() for name in potential.split(",")]
    if "" not in names:
        return names
    if not any(names):
        raise OptionError(
            f"POTENTIAL {potential!r} names no potential. Give a name that `mlff potentials` lists, or a folder."
        )
    left = ",".join(filter(None, names))
    raise OptionError(
        f"POTENTIAL {potential!r}: member {names.index('') + 1} of this committee has no name. "
        f"Name it, or take the comma out: {left}"
    )


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _time(text: str | None, option: str) -> float | None:
    from mlff_calc.dynamics.quantities import parse_time_fs

    return None if text is None else parse_time_fs(text, option, default_unit="fs")


def _pressure(text: str | None) -> float | None:
    from mlff_calc.dynamics.quantities import parse_pressure_GPa

    return None if text is None else parse_pressure_GPa(text, "--pressure")


def _length_and_intervals(
    step_fs: float, intervals: dict[str, str], length: dict[str, Any], *, default_time: str | None
) -> dict[str, int]:
    """Steps of the run and of its intervals."""
    from mlff_calc.dynamics.quantities import parse_steps, parse_time_fs

    steps = {name: parse_steps(text, step_fs, "--" + name.replace("_", "-")) for name, text in intervals.items()}
    time = length["time"] if length["steps"] is not None or length["time"] is not None else default_time
    if length["steps"] is not None:
        steps["steps"] = length["steps"]
    elif time is not None:
        steps["steps"] = round(parse_time_fs(time, "--time") / step_fs)
        if steps["steps"] < 1:
            raise OptionError(f"--time {time} is less than one step of {step_fs:g} fs. Give a longer --time.")
    return steps


def _start(
    potential: str,
    structure: str | None,
    output: Path,
    device: str,
    given: dict[str, Any],
    intervals: dict[str, str],
    length: dict[str, Any],
    *,
    overwrite: bool,
    trust: bool,
) -> MDRun:
    """A new run."""
    from mlff_calc.dynamics import EnsembleOptions, MDRun, RunOptions
    from mlff_calc.dynamics.ensembles import ACTS_IN
    from mlff_calc.dynamics.run import refuse_other_run

    seen = refuse_other_run(output, overwrite=overwrite)
    if "respa_evaluations" in given and given.get("respa", 1) == 1:
        raise OptionError(
            "--respa-evaluations is of multiple time steps. Give --respa as well, at least 2, or leave it out."
        )
    held = {name: value for name, value in given.items() if name in EnsembleOptions.__dataclass_fields__}
    ensemble = EnsembleOptions(**held)
    for name in ACTS_IN.keys() & held.keys():
        if ensemble.ensemble not in ACTS_IN[name]:
            raise OptionError(
                f"{_SHOWN_AS[name]} does not act in the ensemble {ensemble.ensemble}. Leave it out, or choose --ensemble "
                f"{' or '.join(ACTS_IN[name])}."
            )
    intervals = {"log_interval": _DEFAULT_INTERVAL, "traj_interval": _DEFAULT_INTERVAL, **intervals}
    counts = _length_and_intervals(ensemble.step_fs, intervals, length, default_time=_DEFAULT_TIME)
    made: dict[str, Any] = {
        "precision": _precision(potential, given.get("precision")),
        **{name: value for name, value in given.items() if name not in held},
    }
    run = RunOptions(**{**made, **counts, "potential": identity(potential)})
    atoms = _read_structure(structure, potential)
    atoms.calc = _calculator(
        potential, device, run.precision, run.skin_A, compiled=run.compiled, reuse=run.reuse, trust=trust
    )
    return MDRun.start(atoms, output, ensemble, run, overwrite=overwrite, seen=seen)


def _resume(
    potential: str,
    structure: str | None,
    output: Path,
    device: str,
    given: dict[str, Any],
    intervals: dict[str, str],
    length: dict[str, Any],
    *,
    trust: bool,
) -> MDRun:
    """The run in the folder, with its own options where none are given."""
    from mlff_calc.dynamics import MDRun
    from mlff_calc.dynamics.folder import load_newest, look
    from mlff_calc.dynamics.options import check_unchanged, from_dict

    seen = look(output)
    saved = load_newest(output, warn=False)  # MDRun.resume says so where it is the synced one
    counts = _length_and_intervals(from_dict(saved.options)[0].step_fs, intervals, length, default_time=None)
    steps = counts.pop("steps", None)
    given = {**given, **counts, "potential": identity(potential, saved.options.get("potential"))}
    check_unchanged(saved.options, given, _SHOWN_AS)
    if structure is not None:
        _check_start(_read_structure(structure, potential), structure, output)
    made = saved.options
    calculator = _calculator(
        potential,
        device,
        made["precision"],
        made["skin_A"],
        compiled=made["compiled"],
        reuse=made.get("reuse", "auto"),
        trust=trust,
    )
    return MDRun.resume(output, calculator, steps=steps, seen=seen, **given)


def _check_start(atoms: Atoms, structure: str, output: Path) -> None:
    """Refuse a structure that is not the one this run was started with, which its first frame holds."""
    import numpy as np

    from mlff_calc.dynamics.run import TRAJECTORY

    first = _read_file(output / TRAJECTORY, 0)
    cure = "Leave --structure out to go on, or choose another folder."
    if atoms.get_chemical_formula() != first.get_chemical_formula():
        raise OptionError(
            f"--structure {structure} is {atoms.get_chemical_formula()}, and this run is of "
            f"{first.get_chemical_formula()}. {cure}"
        )
    same = np.array_equal(atoms.numbers, first.numbers) and np.array_equal(atoms.pbc, first.pbc)
    if not (same and all(np.allclose(getattr(atoms, name), getattr(first, name)) for name in ("positions", "cell"))):
        raise OptionError(
            f"--structure {structure} has other positions, cell, pbc or order of atoms than the structure this run was "
            f"started with, the first frame of {output / TRAJECTORY}. {cure}"
        )


def _calculator(
    potential: str, device: str, precision: str, skin: float | None, *, compiled: bool, reuse: str, trust: bool
) -> Calculator:
    from mlff_calc.calculators import CommitteeCalculator, MLFFCalculator

    made: dict[str, Any] = {"device": device, "precision": precision, "compile": compiled, "reuse": reuse}
    made["trust"] = trust
    if skin is not None:
        made["skin"] = skin
    names = _members(potential)
    return MLFFCalculator(names[0], **made) if len(names) == 1 else CommitteeCalculator(names, **made)


def _precision(potential: str, asked: str | None) -> str:
    """The one asked for, else that of the exported files among the members, else float32; no code is loaded for it."""
    from mlff_calc.export import read_metadata
    from mlff_calc.export.opening import is_exported, precision_of

    return precision_of([read_metadata(name) for name in _members(potential) if is_exported(name)], asked)


def _read_structure(structure: str | None, potential: str) -> Atoms:
    """The structure to start from: a file, a molecule of ASE's g2 set, or the potential's example."""
    from mlff_calc.export.opening import is_exported
    from mlff_calc.potential import find_potential

    if structure is not None:
        return _read_file(Path(structure)) if Path(structure).exists() else _built_in(structure)
    first = _members(potential)[0]
    if is_exported(first):
        raise StructureError(f"the exported file {first} has no example structure. Name one with --structure FILE.")
    folder = find_potential(first)
    for name in _EXAMPLES:
        if (folder / name).is_file():
            return _read_file(folder / name)
    raise StructureError(f"the potential in {folder} has no example structure. Name one with --structure FILE.")


def _read_file(path: Path, frame: int = -1) -> Atoms:
    from mlff_calc.bounded import require_regular
    from mlff_calc.datasets.ase_files import read_frame
    from mlff_calc.graph.masses import with_named_masses

    require_regular(path, StructureError)
    try:
        atoms = read_frame(path, frame)
    except DatasetError as error:
        raise StructureError(str(error)) from error
    except Exception as error:  # readers of some seventy formats raise whatever they like
        raise StructureError(
            f"ASE cannot read {path} ({type(error).__name__}: {error}). Check the file, and that its suffix fits its format."
        ) from error
    if len(atoms) == 0:
        raise StructureError(f"{path} holds no atoms. Give a file with a structure.")
    return with_named_masses(atoms)


def _built_in(name: str) -> Atoms:
    from ase.build import molecule
    from ase.collections import g2

    if name in g2.names:
        return molecule(name)
    near = get_close_matches(name, [*g2.names, *(str(path) for path in Path().iterdir())], n=1)
    cure = f"Did you mean {near[0]}?" if near else "Give a file that ASE reads."
    raise StructureError(f"--structure {name}: no such file, and no molecule of ASE's g2 set has this name. {cure}")


def _carry_out(run: MDRun, *, quiet: bool) -> None:
    """Make the steps, show them, write the report, and say where everything is."""
    from rich.console import Console

    from mlff_calc.dynamics.folder import REPORT
    from mlff_calc.dynamics.report import write_report

    calculator = run.atoms.calc

    def report(ended: RunResult | SimulationError) -> None:
        if not isinstance(ended, SimulationError):
            write_report(run.folder, timing=_times(calculator))
            return
        with contextlib.suppress(MLFFError, OSError):  # why it stopped is to be said, whatever becomes of the page
            write_report(run.folder, timing=_times(calculator), stopped=str(ended))

    result = _run_and_show(run, Console(), report, quiet=quiet)
    if result.interrupted is not None:
        raise KeyboardInterrupt(
            f"stopped by {result.interrupted} after step {result.step} of {run.options.steps}; everything is saved in "
            f"{run.folder}. Go on with the same command and --resume."
        )
    typer.echo(f"{result.step} steps done. Trajectory, log and picture are in {run.folder}; report: {run.folder / REPORT}")


def _run_and_show(run: MDRun, console: Console, ending: Ending, *, quiet: bool) -> RunResult:
    from mlff_calc.dynamics.progress import RunProgress

    if quiet:
        return run.run(ending=ending)
    title = f"{run.atoms.get_chemical_formula()}, {run.ensemble.ensemble}, {run.options.potential}"
    with RunProgress(console, title=title, start=run.state.step, steps=run.options.steps) as progress:
        return run.run(progress, ending=ending)


def _times(calculator: Calculator) -> dict[str, float] | None:
    stats = getattr(calculator, "stats", None)
    return None if stats is None else stats.as_dict()
