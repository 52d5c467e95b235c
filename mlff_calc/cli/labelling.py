"""What commands that label molecules by PySCF share: options, reading them, a bar, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlff_calc.cli.bars import Bars

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_calc.datasets.labelling import LabelKind, LabelSummary

Structures = Annotated[Path, typer.Argument(help="Molecules, in any format that ASE reads.", show_default=False)]
Basis = Annotated[str, typer.Option("--basis", help="Basis of PySCF, for all electrons.")]
GridLevel = Annotated[int, typer.Option("--grid-level", help="Level of the grid; larger is finer.", min=0, max=9)]
ConvTol = Annotated[float, typer.Option("--conv-tol", help="Change of energy at convergence, Ha.")]
DensityFit = Annotated[bool, typer.Option("--density-fit", help="Fit Coulomb and exchange.")]
MaxCycle = Annotated[int, typer.Option("--max-cycle", help="Cycles of one attempt of the SCF.", min=1)]
Forces = Annotated[bool, typer.Option("--forces/--no-forces", help="Compute forces as well.")]
Workers = Annotated[int, typer.Option("--workers", help="Processes, of one thread each.", min=1)]

_SHOWN = 5  # number of failures that are shown one by one


def run_labelling(
    structures: Path,
    index: str,
    kind: LabelKind,
    output: Path,
    workers: int,
    *,
    level: object,
    functional: str,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    failures_in: str,
) -> None:
    """Label the structures of a file, and say what came of it.

    Args:
        structures: File of structures.
        index: Which of them, as in ASE.
        kind: What a label is.
        output: File to write.
        workers: Number of processes.
        level: Level in words.
        functional: Functional of the level, whose traps are told.
        resume: Whether to continue an interrupted run.
        overwrite: Whether to replace a file.
        quiet: Whether to say nothing.
        failures_in: Place of the reasons of all failures, in words.
    """
    import numpy as np

    from mlff_calc.datasets.labelling import check_label_target, label_structures
    from mlff_calc.electronic.scf.settings import B3LYP_NOTE

    kind.head(np.array([], dtype=np.int64))  # the level is checked before structures are read
    check_label_target(output, kind, resume=resume, overwrite=overwrite)
    found = _structures(structures, index)
    with Bars(quiet=quiet) as bars:

        def show(done: int, failed: int, total: int) -> None:
            bars.show("molecules", done, total, f"({failed} failed)" if failed else "")

        summary = label_structures(found, kind, output, workers, resume=resume, overwrite=overwrite, on_done=show)
    if not quiet:
        typer.echo(_told(summary, level, failures_in))
        if functional == "b3lyp":
            typer.echo(f"Note: {B3LYP_NOTE}.")


def _structures(path: Path, index: str) -> list[Atoms]:
    """Read the structures."""
    from mlff_calc.datasets import existing_file
    from mlff_calc.datasets.ase_files import read_frames_with_ase
    from mlff_calc.datasets.readers import STORED, open_structures

    file = existing_file(path)
    if file.suffix in STORED.values():
        return [sample.atoms for sample in open_structures(file, index, checked=())]
    return [atoms for _, atoms in read_frames_with_ase(file, index, None)]


def _told(summary: LabelSummary, level: object, failures_in: str) -> str:
    cycles = "" if summary.cycles is None else f", after {summary.cycles:.1f} cycles each"
    lines = [f"{summary.labelled} molecules ({level}) are in {summary.path}{cycles}."]
    if summary.failures:
        lines.append(f"{len(summary.failures)} have no label:")
        lines += [f"  structure {number}: {reason}" for number, reason in summary.failures[:_SHOWN]]
        left = len(summary.failures) - _SHOWN
        lines += [f"  and {left} more, see {failures_in}"] if left > 0 else []
    return "\n".join(lines)
