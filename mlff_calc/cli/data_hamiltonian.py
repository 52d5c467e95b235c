"""`mlff data hamiltonian`: Fock matrices of molecules by PySCF."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import labelling, options


def hamiltonian(
    structures: labelling.Structures,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HDF5 file to write (.h5).", show_default=False)],
    xc: Annotated[str, typer.Option("--xc", help="Functional of PySCF, or hf. b3lyp is not b3lyp5 (QH9).")],
    basis: labelling.Basis,
    grid_level: labelling.GridLevel = 3,
    conv_tol: labelling.ConvTol = 1e-9,
    density_fit: labelling.DensityFit = False,
    max_cycle: labelling.MaxCycle = 50,
    index: options.Index = ":",
    forces: labelling.Forces = True,
    workers: labelling.Workers = 1,
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
    labelling.run_labelling(
        structures, index, MatrixLabels(settings, gradient=forces), output, workers, level=settings,
        functional=settings.level()[0], resume=resume, overwrite=overwrite, quiet=quiet,
        failures_in="`failures` of the file",
    )  # fmt: skip
