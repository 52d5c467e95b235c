"""`mlff bench uncertainty`: error bars of potentials on hot structures, by heads of errors and by a committee."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli.bench_output import JsonFile, StudyFolder, Threads, give, table_of


def uncertainty(
    data: Annotated[Path, typer.Argument(help="Labelled frames to train on, of one molecule.", show_default=False)],
    hot: Annotated[
        Path | None,
        typer.Option(
            "--hot",
            help="Labelled hot frames. By default they are made by dynamics with the first potential, and labelled by "
            "GFN2-xTB; the frames to train on must then be of that level.",
            show_default=False,
        ),
    ] = None,
    members: Annotated[int, typer.Option("--members", min=1, help="Potentials of the committee; 1 for none.")] = 3,
    temperature: Annotated[float, typer.Option("--temperature", min=1.0, help="Temperature of hot frames, K.")] = 1200.0,
    frames: Annotated[int, typer.Option("--frames", min=3, help="Number of hot frames that are made.")] = 200,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs of each training.")] = 40,
    train: Annotated[int, typer.Option("--train", min=4, help="Training frames.")] = 350,
    valid: Annotated[int, typer.Option("--valid", min=2, help="Validation frames; all others test.")] = 50,
    compiled: Annotated[bool, typer.Option("--compiled/--eager", help="Time compiled evaluations too.")] = False,
    output: StudyFolder = Path("uncertainty"),
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Train potentials with heads of errors, and compare these and the committee's spread with errors on hot frames."""
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.studies.uncertainty import UncertaintyStudy
    from mlff_calc.bench.threads import limited_threads

    study = UncertaintyStudy(
        data, output, hot, members, temperature, frames, epochs, (train, valid), compiled=compiled
    )
    with limited_threads(threads):
        found = study.run(lambda text: typer.echo(text, err=True))
    columns = {
        "": "error bars", "of": "of", "AUROC": "auroc", "rank, test": "cold rank", "hot": "hot rank",
        "in 90 %, test": "cold covered", "in 90 %, hot": "hot covered", "error, test": "cold error", "std, test": "cold std",
        "error, hot": "hot error", "std, hot": "hot std",
    }  # fmt: skip
    times = {"code": "code", "without ms": "without", "with ms": "with", "ratio": "ratio"}
    tables = [
        table_of("error bars; RMS of errors and deviations in meV/atom and meV/Angstrom", columns, found["signals"]),
        table_of("one evaluation without and with heads of errors, paired", times, found["times"]),
    ]
    give({"machine": describe_machine("cpu"), **found}, json_file, tables)
