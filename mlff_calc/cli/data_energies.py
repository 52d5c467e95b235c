"""`mlff data energies`: energies of molecules by PySCF, at any level."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import options
from mlff_calc.cli.labelling import run_labelling


def energies(
    structures: Annotated[Path, typer.Argument(help="Molecules, in any format that ASE reads.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write (.extxyz).", show_default=False)],
    method: Annotated[str, typer.Option("--method", help="Functional of PySCF, hf, mp2, ccsd or 'ccsd(t)'.")],
    basis: Annotated[str, typer.Option("--basis", help="Basis of PySCF, for all electrons.")],
    grid_level: Annotated[int, typer.Option("--grid-level", help="Level of the grid; larger is finer.", min=0, max=9)] = 3,
    conv_tol: Annotated[float, typer.Option("--conv-tol", help="Change of energy at convergence, Ha.")] = 1e-9,
    density_fit: Annotated[bool, typer.Option("--density-fit", help="Fit Coulomb and exchange.")] = False,
    frozen_core: Annotated[bool, typer.Option("--frozen-core", help="Leave core orbitals out of a correlation.")] = False,
    max_cycle: Annotated[int, typer.Option("--max-cycle", help="Cycles of one attempt of the SCF.", min=1)] = 50,
    index: options.Index = ":",
    forces: Annotated[bool, typer.Option("--forces/--no-forces", help="Compute forces as well.")] = False,
    workers: Annotated[int, typer.Option("--workers", help="Processes, of one thread each.", min=1)] = 1,
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
    run_labelling(
        structures, index, EnergyLabels(level, gradient=forces), output, workers, level=level,
        functional=level.scf.level()[0], resume=resume, overwrite=overwrite, quiet=quiet,
        failures_in=f"{output}.failures.json",
    )  # fmt: skip
