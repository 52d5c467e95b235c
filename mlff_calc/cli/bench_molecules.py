"""`mlff bench molecules`: a general potential on molecules that it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli.bench_output import JsonFile, StudyFolder, Threads, give, positive_numbers, table_of


def molecules(
    potential: Annotated[str, typer.Argument(help="Name or folder of a potential.", show_default=False)],
    smiles: Annotated[Path, typer.Argument(help="SMILES: a list (.smi, .txt) or a table (.csv).", show_default=False)],
    reference: Annotated[
        str, typer.Option("--reference", help="Calculator to compare with, such as gfn2-xtb or module:function.")
    ] = "gfn2-xtb",
    most: Annotated[int, typer.Option("--most", min=1, help="Most molecules, from the beginning of the list.")] = 100,
    temperatures: Annotated[str, typer.Option("--temperatures", help="Of the dynamics, K.")] = "300,600,1000",
    time: Annotated[float, typer.Option("--time", min=0.01, help="Dynamics at the lowest temperature, ps.")] = 20.0,
    hot_time: Annotated[float, typer.Option("--hot-time", min=0.01, help="Dynamics at the others, ps.")] = 2.0,
    timestep: Annotated[float, typer.Option("--timestep", min=0.05, help="Time step, fs.")] = 1.0,
    frames: Annotated[int, typer.Option("--frames", min=1, help="Labelled frames of a molecule at each temperature.")] = 4,
    conformers: Annotated[int, typer.Option("--conformers", min=2, help="Most conformers of a molecule.")] = 6,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed evaluations of each molecule.")] = 30,
    compiled: Annotated[bool, typer.Option("--compiled/--eager", help="Compile the potential.")] = True,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes of the reference.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of positions, velocities and noise.")] = 0,
    output: StudyFolder = Path("molecules"),
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Run dynamics of molecules, label frames by a reference, rank conformers, and time both (extras conformers, xtb)."""
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.studies.unseen_molecules import UnseenStudy
    from mlff_calc.bench.threads import limited_threads
    from mlff_calc.datasets.smiles import read_smiles

    texts = [one.text for one in read_smiles(smiles) if one.first is None][:most]
    study = UnseenStudy(
        potential, texts, output, reference, tuple(positive_numbers(temperatures)), time, hot_time, timestep, frames,
        conformers, repeats, workers, seed, compiled,
    )  # fmt: skip
    with limited_threads(threads):
        found = study.run(lambda text: typer.echo(text, err=True))
    errors = {"frames": "frames", "forces": "forces", "RMSE": "forces rmse", "energy": "energy"}
    times = ("molecule", "atoms", "own", "reference", "ratio")
    tables = [
        table_of("errors of forces, meV/Angstrom, and energies, meV/atom", {"K": "temperature"} | errors, found["errors"]),
        table_of("by number of atoms", {"K": "temperature", "atoms": "size"} | errors, found["sizes"]),
        table_of("by element", {key: key for key in ("temperature", "element", "atoms", "forces")}, found["elements"]),
        table_of("dynamics", {key: key for key in ("temperature", "molecules", "whole", "ended")}, found["ends"]),
        table_of("pairs of conformers; kcal/mol", {key: key for key in found["conformers"][0]}, found["conformers"]),
        table_of("one evaluation, ms", {key: key for key in times}, found["times"]),
    ]
    give({"machine": describe_machine("cpu"), **found}, json_file, tables)
