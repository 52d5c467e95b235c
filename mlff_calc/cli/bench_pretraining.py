"""`mlff bench pretraining`: potentials with few labels, from backbones of several pretrainings and from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mlff_calc.cli.bench_output import Arms, JsonFile, StudyFolder, Threads, give, table_of, whole_numbers
from mlff_calc.cli.options import pairs


def pretraining(
    structures: Annotated[Path, typer.Argument(help="Structures to pretrain on.", show_default=False)],
    files: Annotated[
        list[Path], typer.Argument(help="Frames with energies and forces, a file for each molecule.", show_default=False)
    ],
    arms: Arms = None,
    labels: Annotated[str, typer.Option("--labels", help="Numbers of training frames, with commas.")] = "50,200",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds of weights, noise and parts.")] = 3,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs of each pretraining.")] = 20,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of each training of a potential.")] = 2000,
    test: Annotated[int, typer.Option("--test", min=1, help="Number of test frames.")] = 500,
    backbone: Annotated[str, typer.Option("--backbone", help="Name of the backbone.")] = "hegnn",
    size: Annotated[
        list[str] | None, typer.Option("--size", help="Option of the backbone, as channels=48.", show_default=False)
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option("--objective", help="Option of objectives, as decoder_layers=2.", show_default=False),
    ] = None,
    output: StudyFolder = Path("pretrainings"),
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Pretrain a backbone by several objectives, and compare potentials with few labels from each and from scratch."""
    import yaml

    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.studies.pretraining_arms import ARMS, PretrainingStudy, summary
    from mlff_calc.bench.threads import limited_threads

    def values(name: str, given: list[str] | None) -> dict[str, Any]:
        return {key: yaml.safe_load(value) for key, value in (pairs(name, given) or {}).items()}

    names = list(ARMS) if arms is None else [name.strip() for name in arms.split(";") if name.strip()]
    sizes = {"l_max": 1, "channels": 48, "n_layers": 3} | values("--size", size)
    study = PretrainingStudy(
        structures, files, output, names, whole_numbers(labels), range(seeds), epochs, steps, test,
        {"name": backbone, **sizes}, values("--objective", objective),
    )  # fmt: skip
    with limited_threads(threads):
        first, rows = study.run(lambda text: typer.echo(text, err=True))
    found = summary(rows)
    of_first = {
        "": "arm", "seed": "seed", "denoising": "denoising", "own code": "own", "mean code": "mean",
        "exchanged": "exchanged", "learned constant": "learned", "steepness": "steepness", "probe before": "before",
        "after": "after", "minutes": "minutes",
    }  # fmt: skip
    columns = {
        "": "arm", "energy [meV/atom]": "energy", "over scratch": "energy over scratch",
        "over denoising": "energy over denoising",
        "forces [meV/Angstrom]": "forces", "/ scratch": "forces over scratch", "/ denoising": "forces over denoising",
        "minutes": "minutes",
    }  # fmt: skip
    tables = [table_of("unexplained shares of the noise", of_first, first)] if first else []
    for file, n in dict.fromkeys((row["file"], row["labels"]) for row in found):
        mine = [row for row in found if (row["file"], row["labels"]) == (file, n)]
        tables.append(table_of(f"{file}, {n} labels, {seeds} seeds", columns, mine))
    result = {"machine": describe_machine("cpu"), "pretrainings": first, "rows": rows, "summary": found}
    give(result, json_file, tables)
    if str(json_file) != "-":
        for row in [*first, *rows]:
            if row["failed"]:
                typer.echo(f"{row['arm']}, seed {row['seed']} failed: {row['failed']}")
