"""`mlff bench distribution`: one number beside distributions over bins, for properties under label noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli.bench_output import Arms, JsonFile, StudyFolder, Threads, give, table_of


def distribution(
    data: Annotated[Path, typer.Argument(help="Structures that ASE reads, with labels.", show_default=False)],
    label: Annotated[str, typer.Option("--label", help="Name of the label in the file.", show_default=False)],
    arms: Arms = None,
    noises: Annotated[str, typer.Option("--noises", help="Kinds of noise, with commas.")] = "none,normal,tails",
    size: Annotated[
        float, typer.Option("--size", min=0.0, help="Deviation of the noise, in units of that of the labels.")
    ] = 0.05,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds of weights, noise and parts.")] = 3,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs of each training.")] = 50,
    train: Annotated[int, typer.Option("--train", min=8, help="Training structures; a quarter as many validate.")] = 1000,
    backbone: Annotated[str, typer.Option("--backbone", help="Name of the backbone.")] = "hegnn",
    pooling: Annotated[str, typer.Option("--pooling", help="Pooling: mean, sum or references.")] = "mean",
    output: StudyFolder = Path("distributions"),
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Train property networks with the heads scalar and distribution on noisy labels, and compare errors and error bars."""
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.studies.distribution_arms import ARMS, DistributionStudy, summary
    from mlff_calc.bench.threads import limited_threads

    names = list(ARMS) if arms is None else [name.strip() for name in arms.split(";") if name.strip()]
    kinds = [name.strip() for name in noises.split(",") if name.strip()]
    study = DistributionStudy(
        data, label, output, names, kinds, size, range(seeds), epochs, train, backbone, pooling
    )
    with limited_threads(threads):
        rows = study.run(lambda text: typer.echo(text, err=True))
    found = summary(rows)
    columns = {
        "": "arm", "MAE": "mae", "of scalar's": "ratio", "noisy MAE": "noisy mae", "NLL": "nll", "in 90 %": "coverage90",
        "width": "width90", "rank": "rank", "parameters": "parameters", "minutes": "minutes",
    }  # fmt: skip
    tables = [
        table_of(f"noise {noise}, {seeds} seeds", columns, [row for row in found if row["noise"] == noise])
        for noise in dict.fromkeys(row["noise"] for row in found)
    ]
    give({"machine": describe_machine("cpu"), "rows": rows, "summary": found}, json_file, tables)
    if str(json_file) != "-":
        for row in rows:
            if row["failed"]:
                typer.echo(f"{row['arm']}, noise {row['noise']}, seed {row['seed']} failed: {row['failed']}")
