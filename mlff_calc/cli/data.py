"""`mlff data`: trajectories for learning motion, matrices, and conversion of data sets to files with random access."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlff_calc.cli import options
from mlff_calc.cli.bars import Bars
from mlff_calc.cli.console import guard
from mlff_calc.cli.data_energies import energies
from mlff_calc.cli.data_hamiltonian import hamiltonian
from mlff_calc.cli.data_molecules import molecules
from mlff_calc.errors import OptionError, SimulationError, StructureError

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from mlff_calc.dynamics import MDRun, RunResult
    from mlff_calc.dynamics.folder import FolderMark

app = typer.Typer(no_args_is_help=True, help="Make molecules and data to learn from, and convert data sets.")
app.command("hamiltonian")(guard(hamiltonian))
app.command("energies")(guard(energies))
app.command("molecules")(guard(molecules))

_LOG_STEPS = 100  # steps between rows of the log and between saved states; a larger value loses more steps at a kill
_SHOWN_AS = {
    "timestep_fs": "--timestep (fs)",
    "temperature_K": "--temperature",
    "friction_per_ps": "--friction",
    "seed": "--seed",
    "potential": "--calculator",
}


class ProtocolName(StrEnum):
    """Protocols of N-body systems."""

    egnn = "egnn"
    hegnn = "hegnn"


class FloatName(StrEnum):
    """Precisions of the numbers in a file."""

    float32 = "float32"
    float64 = "float64"


Output = Annotated[Path, typer.Option("--output", "-o", help="The npz file to write.", show_default=False)]


@app.command("nbody")
@guard
def nbody(
    output: Output,
    protocol: Annotated[ProtocolName, typer.Option(help="How the systems are set up.")] = ProtocolName.egnn,
    bodies: Annotated[int, typer.Option(help="Bodies in each trajectory.", min=2)] = 5,
    train: Annotated[int, typer.Option(help="Trajectories to train on.", min=0)] = 3000,
    valid: Annotated[int, typer.Option(help="Trajectories to validate on.", min=0)] = 2000,
    test: Annotated[int, typer.Option(help="Trajectories to test on.", min=0)] = 2000,
    seed: options.Seed = 43,
    frames: Annotated[
        str | None,
        typer.Option(help="Frames to keep, like 30,40; a frame is 100 steps. [all from 0 to 50]", show_default=False),
    ] = None,
    precision: Annotated[FloatName, typer.Option(help="Precision of the numbers in the file.")] = FloatName.float32,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Simulate charged particles in empty space, and write their trajectories.

    5000 steps of 1e-3, forces q q r / r^3; the protocols are those of EGNN and HEGNN.
    """
    from mlff_calc.datasets.motion import NBodyOptions, make_nbody, save_archive

    wanted = NBodyOptions(
        protocol=protocol.value, n_bodies=bodies, train=train, valid=valid, test=test, seed=seed,
        frames=_frames(frames), dtype=precision.value,
    )  # fmt: skip
    _check_output(output, overwrite=overwrite)
    with Bars(quiet=quiet) as bars:
        arrays = make_nbody(wanted, partial(bars.show, "trajectories"))
    save_archive(output, arrays)
    typer.echo(f"{train + valid + test} trajectories of {bodies} bodies are in {output}.")


def _frames(text: str | None) -> tuple[int, ...] | None:
    """Parse a comma-separated list of frame numbers."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise OptionError(f"--frames {text}: give whole numbers with commas between, like 30,40.")
    return tuple(int(word) for word in words)


def _check_output(output: Path, *, overwrite: bool) -> None:
    """Check, before anything runs, that the output can be written."""
    if output.suffix != ".npz":
        raise OptionError(f"--output {output}: the file is an npz archive. Give a name that ends in .npz.")
    if output.is_dir():
        raise OptionError(f"--output {output} is a folder. Give the name of a file.")
    if output.exists() and not overwrite:
        raise OptionError(f"--output {output} is there already. Choose another name, or replace it with --overwrite.")
    near = next((folder for folder in output.absolute().parents if folder.exists()), None)
    if near is None or not near.is_dir() or not os.access(near, os.W_OK):
        raise OptionError(f"--output {output}: {near} cannot be written. Choose another folder.")


@app.command("convert")
@guard
def convert(
    files: Annotated[
        list[Path],
        typer.Argument(help="Files of labelled structures, then the file to write (.h5, .aselmdb).", show_default=False),
    ],
    key: options.Key = None,
    unit: options.Unit = None,
    index: options.Index = ":",
    part: Annotated[
        str | None, typer.Option("--part", help="Part of an rMD17 archive: train or test.", show_default=False)
    ] = None,
    file_format: Annotated[
        str | None, typer.Option("--format", help="ASE's name of the format; else by the file's name.", show_default=False)
    ] = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Write labelled structures to HDF5 (.h5) or LMDB in ASE's format (.aselmdb), in eV and Angstrom.

    Recipes and `mlff eval` read such files frame by frame, so they may be larger than memory. Frames are read and
    written a few hundred at a time; the file appears only when it is complete.
    """
    from mlff_calc.datasets import matching_files
    from mlff_calc.datasets.convert import check_target, write_frames
    from mlff_calc.datasets.readers import stream_structures
    from mlff_calc.training.frames.recipe import parse_sources

    if len(files) < 2:
        raise typer.BadParameter("name at least one file to read, and then the one to write")
    *inputs, output = files
    reading = {"keys": options.pairs("--key", key), "units": options.pairs("--unit", unit), "part": part}
    given = {name: value for name, value in reading.items() if value is not None}
    given |= {} if file_format is None else {"format": file_format}
    sources = parse_sources({"file": [str(file) for file in inputs], "index": index} | given, "mlff data convert")
    found = [(file, source) for source in sources for file in matching_files(source.file)]
    check_target(output, [file for file, _ in found], overwrite=overwrite)
    samples = (
        sample
        for file, source in found
        for sample in stream_structures(file, **source.reading())
    )
    with _count("frames", quiet=quiet) as progress:
        count = write_frames(output, samples, progress)
    typer.echo(f"{count} frames are in {output}.")


@contextlib.contextmanager
def _count(what: str, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show a counter on stderr if that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.completed} {task.description}"), TimeElapsedColumn(), console=Console(stderr=True),
        transient=True, disable=quiet,
    ) as bar:  # fmt: skip
        task = bar.add_task(what, total=None)
        yield lambda count: bar.update(task, completed=count)


@app.command("trajectory")
@guard
def trajectory(
    structure: Annotated[
        str,
        typer.Argument(
            help="A file that ASE reads (its last frame), a molecule of ASE's g2 set, or a SMILES.",
            show_default=False,
        ),
    ],
    steps: Annotated[
        int, typer.Option(help="Steps of the whole run; every step is a frame.", min=1, show_default=False)
    ],
    output: Output,
    calculator: Annotated[
        str, typer.Option(help="gfn2-xtb (needs the extra xtb), or a potential: a name that ships, or a folder.")
    ] = "gfn2-xtb",
    temperature: Annotated[float, typer.Option(help="Temperature, K.")] = 500.0,
    timestep: Annotated[float, typer.Option(help="Length of a step, fs.")] = 0.5,
    friction: Annotated[float, typer.Option(help="Friction of the Langevin thermostat, 1/ps.")] = 1.0,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a time-ordered trajectory of a molecule, in the layout of MD17.

    The run is kept in a folder beside the file, OUTPUT.run. With --resume it continues where it was stopped or killed,
    with the same
    --steps or more.
    """
    if resume and overwrite:
        raise OptionError("--resume continues a run and --overwrite replaces it. Give one of them.")
    from mlff_calc.dynamics.folder import has_state, load_newest, look, refuse_other_run
    from mlff_calc.locks import file_mark

    folder = output.with_suffix(".run")
    goes_on = resume and has_state(folder)
    seen, before = look(folder), file_mark(output)
    _check_output(output, overwrite=overwrite or goes_on)
    given = {
        "temperature_K": temperature, "timestep_fs": timestep, "friction_per_ps": friction, "seed": seed,
        "potential": _identity(calculator, load_newest(folder, warn=False).options.get("potential") if goes_on else None),
    }  # fmt: skip
    if goes_on:
        run = _resume(structure, folder, _calculator(calculator, device), steps, given, seen)
    else:
        _structure(structure)  # faults of the structure come before those of the calculator
        seen = refuse_other_run(folder, overwrite=overwrite)
        run = _start(structure, folder, _calculator(calculator, device), steps, given, seen)
    _make(run, output, before, quiet=quiet)


def _make(run: MDRun, output: Path, before: tuple[int, ...] | None, *, quiet: bool) -> None:
    """Make the remaining steps, and convert the frames to the file while the folder of the run is locked.

    Raises:
        SimulationError: the file is no longer the one from `before` (see `file_mark`); the run is kept.
    """
    from rich.console import Console

    from mlff_calc.datasets.motion.nbody_files import save_archive
    from mlff_calc.datasets.motion.trajectories import arrays_of_run
    from mlff_calc.dynamics.progress import RunProgress
    from mlff_calc.dynamics.run import TRAJECTORY
    from mlff_calc.locks import file_mark

    def save(ended: RunResult | SimulationError) -> None:
        if isinstance(ended, SimulationError) or ended.interrupted is not None:
            return
        if file_mark(output) != before:
            raise SimulationError(
                f"{output} was written by another program during the run, and is not changed. All frames are in "
                f"{run.folder}. Move {output} away and give the same command with --resume."
            )
        held = run.ensemble
        arrays = arrays_of_run(
            run.folder / TRAJECTORY, timestep_fs=held.timestep_fs, temperature_K=held.temperature_K,
            theory=run.options.potential, seed=held.seed,
        )  # fmt: skip
        save_archive(output, arrays)

    if quiet:
        result = run.run(ending=save)
    else:
        title = f"{run.atoms.get_chemical_formula()}, {run.options.potential}"
        with RunProgress(Console(stderr=True), title=title, start=run.state.step, steps=run.options.steps) as progress:
            result = run.run(progress, ending=save)
    if result.interrupted is not None:
        raise KeyboardInterrupt(
            f"stopped by {result.interrupted} after step {result.step} of {run.options.steps}; everything is saved in "
            f"{run.folder}. Go on with the same command and --resume. {result.outside_words()}".rstrip()
        )
    typer.echo(
        f"{result.step + 1} frames of {run.atoms.get_chemical_formula()} are in {output}. The run is in {run.folder}; "
        "remove it when no more frames are wanted."
    )
    if result.outside is not None:
        typer.secho(result.outside_words(), fg="red")


def _start(
    structure: str, folder: Path, calculator: Calculator, steps: int, given: dict[str, Any], seen: FolderMark
) -> MDRun:
    """Start a run that records every step, in a folder that was `seen` and may be replaced."""
    from mlff_calc.dynamics import EnsembleOptions, MDRun, RunOptions

    atoms = _structure(structure)
    atoms.calc = calculator
    held = {name: value for name, value in given.items() if name != "potential"}
    kept = RunOptions(
        steps=steps,
        log_interval=_LOG_STEPS,
        traj_interval=1,
        checkpoint_interval=_LOG_STEPS,
        potential=given["potential"],
    )
    return MDRun.start(atoms, folder, EnsembleOptions(ensemble="langevin", **held), kept, overwrite=True, seen=seen)


def _resume(
    structure: str, folder: Path, calculator: Calculator, steps: int, given: dict[str, Any], seen: FolderMark
) -> MDRun:
    """Resume the run in the folder, if every option is the original one."""
    from mlff_calc.dynamics import MDRun
    from mlff_calc.dynamics.folder import load_newest
    from mlff_calc.dynamics.options import check_unchanged

    check_unchanged(load_newest(folder, warn=False).options, given, _SHOWN_AS)
    run = MDRun.resume(folder, calculator, steps=steps, seen=seen, **given)
    asked = _structure(structure)
    if asked.numbers.tolist() != run.atoms.numbers.tolist():
        raise OptionError(
            f"STRUCTURE {structure} is {asked.get_chemical_formula()} with other atoms or in another order than the run in "
            f"{folder}, of {run.atoms.get_chemical_formula()}. Give the structure it was started with, or another --output."
        )
    return run


def _calculator(name: str, device: str) -> Calculator:
    from mlff_calc.calculators import MLFFCalculator
    from mlff_calc.datasets.motion.trajectories import XTB, xtb_calculator

    return xtb_calculator() if name.lower() == XTB else MLFFCalculator(name, device=device)


def _identity(name: str, remembered: str | None) -> str:
    """Identify the method, or a potential by name and checksum."""
    from mlff_calc.datasets.motion.trajectories import XTB
    from mlff_calc.dynamics.identity import identity

    return XTB if name.lower() == XTB else identity(name, remembered)


def _structure(text: str) -> Atoms:
    """Read a molecule of ASE's g2 set, or the last frame of a file."""
    from mlff_calc.dynamics.structures import structure_to_start

    atoms = structure_to_start(text, shown="STRUCTURE")
    if len(atoms) < 2:
        raise StructureError(
            f"{text} has {len(atoms)} atom; motion is learned from what atoms do to each other: give two or more"
        )
    return atoms
