"""`mlff relax`: relaxation of positions, and optionally the cell, to the nearest minimum."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlff_calc.cli import options
from mlff_calc.errors import OptionError, SimulationError, StructureError
from mlff_calc.locks import file_mark, output_lock

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_calc.dynamics.relax import RelaxResult


def relax(
    potential: options.Potential,
    structure: Annotated[
        Path,
        typer.Argument(
            help="A file that ASE reads (its last frame), a molecule of ASE's g2 set, or a SMILES (smiles:CO where it is a "
            "name too).",
            show_default=False,
        ),
    ],
    cell: Annotated[bool, typer.Option("--cell/--no-cell", help="Relax the cell as well.")] = False,
    fmax: Annotated[float, typer.Option(help="Stop when no force is above this, eV/Angstrom.")] = 0.01,
    steps: Annotated[int, typer.Option(help="Largest number of steps.")] = 500,
    optimizer: Annotated[str, typer.Option(help="FIRE, LBFGS or BFGS.")] = "FIRE",
    pressure: Annotated[float, typer.Option(help="External pressure in GPa, with --cell.")] = 0.0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Relaxed structure; the suffix chooses the format. [NAME_relaxed.extxyz]"),
    ] = None,
    precision: Annotated[
        options.PrecisionName | None,
        typer.Option(help="Arithmetic of the network. [float64; an exported file's own]", show_default=False),
    ] = None,
    device: options.Device = "auto",
    compiled: options.Compile = False,
    reuse: options.Reuse = options.ReuseName.auto,
    trust: options.Trust = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Relax a structure and write it, with all steps beside it as a trajectory (.traj).

    If the forces do not fall below --fmax, the last frame is written as NAME_not_converged, and the exit status is 1.
    """
    from mlff_calc.calculators import MLFFCalculator
    from mlff_calc.calculators.extrapolation import warn_of_new_formula
    from mlff_calc.calculators.named import names_scf, scf_calculator
    from mlff_calc.dynamics.relax import refuse_shadow
    from mlff_calc.dynamics.structures import is_there, structure_to_start
    from mlff_calc.export.opening import load_any, precision_of

    atoms = structure_to_start(structure, shown="STRUCTURE")
    if output is None:
        is_file = is_there(structure)
        output = (structure if is_file else Path(str(atoms.symbols))).with_suffix("")
        output = output.with_name(f"{output.name}_relaxed.extxyz")
    unfinished = output.with_name(f"{output.stem}_not_converged{output.suffix}")
    trajectory = output.with_name(f"{output.stem}.traj")
    check_format(output)
    settings = {"fmax": fmax, "steps": steps, "optimizer": optimizer, "cell": cell, "pressure": pressure}
    with output_lock(output):
        files = Unchanged((output, unfinished, trajectory), overwrite=overwrite)
        if names_scf(potential):
            asked = {"precision": precision, "compile": compiled, "trust": trust, "device": device != "auto"}
            _refuse_options([*(name for name, value in asked.items() if value), *([] if reuse == "auto" else ["reuse"])])
            atoms.calc = scf_calculator(potential)
        else:
            loaded = load_any(potential, trust=trust)
            warn_of_new_formula(loaded, atoms)
            arithmetic = precision_of([loaded], None if precision is None else precision.value, default="float64")
            atoms.calc = MLFFCalculator(loaded, device=device, precision=arithmetic, compile=compiled, reuse=reuse.value)
            refuse_shadow(atoms)
        result, written, trajectory = _relax_and_keep(atoms, settings, files, quiet=quiet)
    last = result.last
    summary = f"{last.step} steps, energy {last.energy:.6f} eV, largest force {last.fmax:.5f} eV/Angstrom"
    if not result.converged:
        raise SimulationError(
            f"not converged after {summary} (requested: {fmax}). The last frame is in {written}, the steps in {trajectory}. "
            "Continue from that frame, with more --steps or another --optimizer"
        )
    typer.echo(f"converged: {summary}\nstructure: {written}\ntrajectory: {trajectory}")


def _refuse_options(names: list[str]) -> None:
    """Refuse options of potentials where the calculator is a self-consistent field.

    Raises:
        OptionError: there are such options.
    """
    if names:
        raise OptionError(f"--{names[0]} is for potentials, and an SCF has parameters of its own; leave --{names[0]} out")


class Unchanged:
    """Files that a command will write, as they were when it began; only these are replaced.

    Attributes:
        output, unfinished, trajectory: paths of the files.
        overwrite: whether existing files may be replaced.
    """

    def __init__(self, files: tuple[Path, Path, Path], *, overwrite: bool) -> None:
        """Record the present state of the files.

        Raises:
            OptionError: a file exists and may not be replaced.
        """
        self.output, self.unfinished, self.trajectory = files
        self.overwrite = overwrite
        self._seen = {path: file_mark(path) for path in files}
        there = [str(path) for path, mark in self._seen.items() if mark is not None]
        if there and not overwrite:
            raise OptionError(f"{', '.join(there)} would be replaced; choose another --output, or give --overwrite")

    def free(self, path: Path) -> Path:
        """Return the path unless another program has written it in the meantime; then a new name beside it."""
        from mlff_calc.dynamics.files import free_name

        if file_mark(path) == self._seen[path]:
            return path
        return free_name(path, path.suffix)

    def remove(self, path: Path) -> None:
        """Remove a file of an earlier run, unless another program has written it in the meantime."""
        if self._seen[path] is not None and file_mark(path) == self._seen[path]:
            path.unlink()


def _relax_and_keep(atoms: Atoms, settings: dict, files: Unchanged, *, quiet: bool) -> tuple[RelaxResult, Path, Path]:
    """Relax the structure, and store steps and structure; returns the result and both paths.

    Raises:
        MLFFError, OSError, KeyboardInterrupt: the relaxation was stopped; the message says where the steps are.
    """
    output = files.output
    with tempfile.TemporaryDirectory(prefix=f".{output.stem}-", dir=output.parent) as folder:
        recorded = Path(folder) / files.trajectory.name
        try:
            result = _run(atoms, settings, recorded, quiet=quiet)
        except (KeyboardInterrupt, SimulationError, StructureError, OSError) as stop:
            trajectory = files.free(files.trajectory)
            kept = f" The steps taken are in {trajectory}." if _keep(recorded, trajectory) else ""
            if isinstance(stop, SimulationError) and isinstance(stop.__cause__, OSError):
                raise _refused(trajectory, stop.__cause__, kept) from stop
            if not kept:
                raise
            kind = SimulationError if isinstance(stop, OSError) else type(stop)
            raise kind(f"{stop}{kept}".strip()) from stop
        trajectory = files.free(files.trajectory)
        _keep(recorded, trajectory)
    wanted, other = (output, files.unfinished) if result.converged else (files.unfinished, output)
    written = files.free(wanted)
    _write(atoms, written, trajectory)
    files.remove(other)
    moved = [f"{old} is now in {new}" for old, new in ((wanted, written), (files.trajectory, trajectory)) if old != new]
    if moved:
        from mlff_calc.cli.console import say

        say(f"mlff: warning: written by another program meanwhile, and kept: what was to be {', '.join(moved)}")
    return result, written, trajectory


def _write(atoms: Atoms, path: Path, trajectory: Path) -> None:
    """Write the last frame.

    Raises:
        SimulationError: the file cannot be written; the message says where the steps are.
    """
    try:
        write_whole(atoms, path)
    except OSError as error:
        raise _refused(path, error, f" The steps taken are in {trajectory}.") from error


def check_format(output: Path) -> None:
    """Check, before anything runs, that an output can be written.

    Raises:
        OptionError: ASE does not write the format, or the folder does not exist.
    """
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats

    try:
        form = ioformats[filetype(str(output), read=False)]
    except (UnknownFileTypeError, KeyError) as error:
        raise OptionError(
            f"--output {output}: ASE knows no format for this name; use a suffix like .extxyz or .cif"
        ) from error
    if not form.can_write:
        raise OptionError(
            f"--output {output}: ASE reads the format {form.name} but does not write it; use .extxyz or .cif"
        )
    if output.suffix == ".traj":
        raise OptionError(
            f"--output {output}: the steps are written as .traj already; use .extxyz or .cif for the structure"
        )
    if not output.parent.is_dir():
        raise OptionError(f"--output {output}: there is no folder {output.parent}; create it first")


def write_whole(atoms: Atoms, path: Path) -> None:
    """Write atoms atomically."""
    from ase.io import write
    from ase.io.formats import filetype

    with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        write(temporary, atoms, format=filetype(str(path), read=False))
        os.replace(temporary, path)


def _keep(recorded: Path, trajectory: Path) -> bool:
    """Move the recorded steps to their name; returns False if there is no complete step."""
    from ase.io.trajectory import Trajectory

    try:
        with Trajectory(recorded) as steps:
            n_steps = len(steps)
    except OSError:  # missing, or cut to nothing
        return False
    if n_steps:
        os.replace(recorded, trajectory)
    return n_steps > 0


def _refused(path: Path, error: OSError, kept: str) -> SimulationError:
    """Create the error for a file that cannot be written."""
    from mlff_calc.dynamics.files import reason

    return SimulationError(
        f"cannot write {path}: {reason(error)}.{kept} "
        "Free space, lift the limit on the size of files (ulimit -f), or choose another disk with --output"
    )


def _run(atoms: Atoms, settings: dict, trajectory: Path, *, quiet: bool) -> RelaxResult:
    """Run the relaxation with a line that shows step, energy and largest force."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from mlff_calc.dynamics.relax import RelaxStep, relax

    columns = (
        TextColumn("step {task.completed:>4.0f} of at most {task.total:.0f}"),
        BarColumn(bar_width=20),
        TextColumn("energy {task.fields[energy]:.5f} eV  fmax {task.fields[fmax]:.4f} eV/Angstrom"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        bar = progress.add_task("relax", total=max(settings["steps"], 0), energy=float("nan"), fmax=float("nan"))

        def show(step: RelaxStep) -> None:
            progress.update(bar, completed=step.step, energy=step.energy, fmax=step.fmax)

        return relax(atoms, **settings, trajectory=trajectory, on_step=show)
