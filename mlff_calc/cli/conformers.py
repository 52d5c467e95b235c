"""`mlff conformers`: from a SMILES or a file to a weighted ensemble."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import options


class SearchName(StrEnum):
    """Ways to find starting structures."""

    etkdg = "etkdg"
    md = "md"
    exchange = "exchange"


class WeightName(StrEnum):
    """What weights are made of."""

    energy = "energy"
    torsions = "torsions"
    rrho = "rrho"


def conformers(
    molecule: Annotated[
        str, typer.Argument(help="A SMILES, or a file: .sdf, .mol, .smi, .xyz, .extxyz.", show_default=False)
    ],
    calculator: Annotated[
        str,
        typer.Option(
            "--calculator",
            "-c",
            help="A potential (name or folder), gfn2-xtb, gfn1-xtb, or module:function that makes an ASE calculator.",
            show_default=False,
        ),
    ],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="File whose ending chooses the form: .sdf, .extxyz, .csv, .html. May be repeated. [conformers.sdf]",
            show_default=False,
        ),
    ] = None,
    n: Annotated[
        int | None, typer.Option("--n", "-n", help="Starting structures. [20 to 300, by flexibility]", min=1)
    ] = None,
    screen: Annotated[
        int, typer.Option(help="Structures by distance geometry for each start, from which MMFF94s chooses.", min=1)
    ] = 5,
    search: Annotated[
        SearchName, typer.Option(help="Distance geometry alone, or with snapshots of hot dynamics or replica exchange.")
    ] = SearchName.etkdg,
    rescore: Annotated[
        str | None, typer.Option(help="Another calculator that gives the energies of the relaxed structures.")
    ] = None,
    window: Annotated[float, typer.Option(help="Keep conformers up to this above the lowest, kcal/mol.")] = 6.0,
    rmsd: Annotated[
        float, typer.Option(help="Conformers nearer than this, with equal energies, are one; Angstrom.")
    ] = 0.125,
    temperature: Annotated[float, typer.Option(help="Temperature of the weights, K.")] = 298.15,
    weights: Annotated[
        WeightName, typer.Option(help="By energies, or by free energies of hindered torsions, or of harmonic oscillators.")
    ] = WeightName.energy,
    check: Annotated[bool, typer.Option(help="Look for saddle points, and relax them further.")] = True,
    fmax: Annotated[float, typer.Option(help="Relax until no force is above this, eV/Angstrom.")] = 0.02,
    steps: Annotated[int, typer.Option(help="Steps of a relaxation at most.")] = 500,
    optimizer: Annotated[str, typer.Option(help="LBFGS or FIRE.")] = "LBFGS",
    charge: Annotated[int, typer.Option(help="Total charge, for xyz files.")] = 0,
    minutes: Annotated[float | None, typer.Option(help="Begin no new work after this time.")] = None,
    workers: Annotated[int, typer.Option(help="Processes for calculators that are not potentials.", min=0)] = 0,
    timeout: Annotated[
        float, typer.Option(help="Seconds that a calculator in one of --workers has for one structure.", min=0.001)
    ] = 600.0,
    seed: options.Seed = 0,
    precision: options.Precision = options.PrecisionName.float32,
    compiled: options.Compile = False,
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the conformers of a molecule, relax them, remove duplicates, rank and weigh them.

    All structures are relaxed in batches. Work that is done stands in a folder beside the output until the search has come
    to its end, so that one that was stopped goes on with --resume.
    """
    from mlff_calc.cli.bars import Bars
    from mlff_calc.cli.console import say
    from mlff_calc.cli.work_folder import work_folder
    from mlff_calc.sampling.conformer_search import conformers as search_for
    from mlff_calc.sampling.writers import check_ending, write_ensemble

    files = output or [Path("conformers.sdf")]
    for file in files:
        check_ending(file)
    with work_folder(files, overwrite=overwrite, resume=resume) as work, Bars(quiet=quiet) as bars:
        ensemble = search_for(
            molecule, calculator, n=n, screen=screen, search=search.value, rescore=rescore, window=window, rmsd=rmsd,
            temperature=temperature, weights=weights.value, check=check, fmax=fmax, steps=steps, optimizer=optimizer,
            charge=charge, minutes=minutes, workers=workers, timeout=timeout, seed=seed, precision=precision.value,
            compile=compiled, folder=work.folder, on_progress=bars.show,
        )  # fmt: skip
        for file in files:
            write_ensemble(ensemble, file)
        work.is_whole = ensemble.finished
    if not quiet:
        typer.echo(ensemble.summary())
        if not ensemble.finished:
            typer.echo("Go on with --resume --overwrite.")
    elif ensemble.warnings():
        say("mlff: warning: " + " ".join(ensemble.warnings()))
    typer.echo("written: " + ", ".join(map(str, files)))
