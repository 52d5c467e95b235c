"""`mlff data hamiltonian`: Fock matrices of molecules by PySCF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlff_calc.cli import options
from mlff_calc.cli.bars import Bars

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_calc.electronic.scf.labelling import LabelSummary

_SHOWN = 5  # number of failures that are shown one by one


def hamiltonian(
    structures: Annotated[Path, typer.Argument(help="Molecules, in any format that ASE reads.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HDF5 file to write (.h5).", show_default=False)],
    xc: Annotated[str, typer.Option("--xc", help="Functional of PySCF, or hf. b3lyp is not b3lyp5 (QH9).")],
    basis: Annotated[str, typer.Option("--basis", help="Basis of PySCF, for all electrons.")],
    grid_level: Annotated[int, typer.Option("--grid-level", help="Level of the grid; larger is finer.", min=0, max=9)] = 3,
    conv_tol: Annotated[float, typer.Option("--conv-tol", help="Change of energy at convergence, Ha.")] = 1e-9,
    density_fit: Annotated[bool, typer.Option("--density-fit", help="Fit Coulomb and exchange.")] = False,
    max_cycle: Annotated[int, typer.Option("--max-cycle", help="Cycles of one attempt of the SCF.", min=1)] = 50,
    index: options.Index = ":",
    forces: Annotated[bool, typer.Option("--forces/--no-forces", help="Compute forces as well.")] = True,
    workers: Annotated[int, typer.Option("--workers", help="Processes, of one thread each.", min=1)] = 1,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Label molecules with Fock, overlap and initial matrices, energies and forces.

    Each label is on the disk as soon as it is made: after Ctrl-C or a kill, the same command with --resume goes on. The file
    appears when all structures are done. Structures that are no closed-shell molecules, and those whose SCF does not
    converge, are counted, and kept in the file with the reason. Energies are in Hartree, forces in Hartree/Bohr.
    """
    from mlff_calc.electronic.scf.labelling import check_label_target, label_structures
    from mlff_calc.electronic.scf.settings import B3LYP_NOTE, SCFSettings

    settings = SCFSettings(xc, basis, grid_level, conv_tol, density_fit, max_cycle)
    settings.check()
    check_label_target(output, resume=resume, overwrite=overwrite)
    found = _structures(structures, index)
    with Bars(quiet=quiet) as bars:

        def show(done: int, failed: int, total: int) -> None:
            bars.show("molecules", done, total, f"({failed} failed)" if failed else "")

        summary = label_structures(
            found, settings, output, workers, resume=resume, overwrite=overwrite, gradient=forces, on_done=show
        )
    if not quiet:
        typer.echo(_told(summary, settings))
        if settings.level()[0] == "b3lyp":
            typer.echo(f"Note: {B3LYP_NOTE}.")


def _structures(path: Path, index: str) -> list[Atoms]:
    """Read the structures."""
    from mlff_calc.datasets import existing_file
    from mlff_calc.datasets.ase_files import read_frames_with_ase

    return [atoms for _, atoms in read_frames_with_ase(existing_file(path), index, None)]


def _told(summary: LabelSummary, settings: object) -> str:
    lines = [f"{summary.labelled} molecules ({settings}) are in {summary.path}, after {summary.cycles:.1f} cycles each."]
    if summary.failures:
        lines.append(f"{len(summary.failures)} have no label:")
        lines += [f"  structure {number}: {reason}" for number, reason in summary.failures[:_SHOWN]]
        left = len(summary.failures) - _SHOWN
        lines += [f"  and {left} more, see `failures` of the file"] if left > 0 else []
    return "\n".join(lines)
