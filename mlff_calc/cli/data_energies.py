"""`mlff data energies`: energies of molecules by PySCF, at any level."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import labelling, options


def energies(
    structures: labelling.Structures,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write (.extxyz).", show_default=False)],
    method: Annotated[str, typer.Option("--method", help="Functional of PySCF, hf, mp2, ccsd or 'ccsd(t)'.")],
    basis: labelling.Basis,
    grid_level: labelling.GridLevel = 3,
    conv_tol: labelling.ConvTol = 1e-9,
    density_fit: labelling.DensityFit = False,
    frozen_core: Annotated[bool, typer.Option("--frozen-core", help="Leave core orbitals out of a correlation.")] = False,
    max_cycle: labelling.MaxCycle = 50,
    index: options.Index = ":",
    forces: labelling.Forces = False,
    workers: labelling.Workers = 1,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Label molecules with energies, and forces on request, for training functionals and potentials.

    Each label is on the disk as soon as it is made: after Ctrl-C or a kill, the same command with --resume goes on. The file
    appears when all structures are done, in eV and Angstrom; each frame names its level, and frames of different levels are
    refused by trainings. Structures without an energy are counted, with their reasons in FILE.failures.json.
    """
    from mlff_calc.electronic.scf.energy_labels import EnergyLabels
    from mlff_calc.electronic.scf.energy_level import EnergyLevel

    level = EnergyLevel.of(method, basis, grid_level, conv_tol, density_fit, frozen_core, max_cycle)
    labelling.run_labelling(
        structures, index, EnergyLabels(level, gradient=forces), output, workers, level=level,
        functional=level.scf.level()[0], resume=resume, overwrite=overwrite, quiet=quiet,
        failures_in=f"{output}.failures.json",
    )  # fmt: skip
