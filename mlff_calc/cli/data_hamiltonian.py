"""`mlff data hamiltonian`: Fock matrices of molecules by PySCF."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import options
from mlff_calc.cli.labelling import run_labelling


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
    from mlff_calc.electronic.scf.matrix_labels import MatrixLabels
    from mlff_calc.electronic.scf.settings import SCFSettings

    settings = SCFSettings(xc, basis, grid_level, conv_tol, density_fit, max_cycle)
    run_labelling(
        structures, index, MatrixLabels(settings, gradient=forces), output, workers, level=settings,
        functional=settings.level()[0], resume=resume, overwrite=overwrite, quiet=quiet,
        failures_in="`failures` of the file",
    )  # fmt: skip
