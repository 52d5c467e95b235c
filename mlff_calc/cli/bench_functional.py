"""`mlff bench functional`: learned functionals and their parts, beside Delta-learning and a force field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import labelling
from mlff_calc.cli.bench_output import Arms, JsonFile, StudyFolder, Threads, give, table_of


def functional(
    name: Annotated[str, typer.Argument(metavar="SET", help="water, ethanol or molecules.", show_default=False)],
    arms: Arms = None,
    rivals: Annotated[
        bool, typer.Option("--rivals/--no-rivals", help="Train Delta-learning and a force field as well.")
    ] = True,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds of weights and order.")] = 3,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs of each training.")] = 100,
    method: Annotated[
        str | None, typer.Option("--method", help="Method of the energies; by default that of the set.", show_default=False)
    ] = None,
    train: Annotated[
        int | None, typer.Option("--train", min=1, help="Energies of the training; by default those of the set.")
    ] = None,
    valid: Annotated[int | None, typer.Option("--valid", min=1, help="Energies of the validation.")] = None,
    test: Annotated[int | None, typer.Option("--test", min=1, help="Energies of each test.")] = None,
    base: Annotated[str, typer.Option("--base", help="Base functional: lda, pbe or r2scan.")] = "pbe",
    basis: Annotated[str, typer.Option("--basis", help="Basis of functionals and energies.")] = "6-31g*",
    grid_level: Annotated[int, typer.Option("--grid-level", min=0, max=9, help="Level of the grid of both.")] = 1,
    filters: Annotated[int, typer.Option("--filters", min=1, help="Number of radial functions.")] = 8,
    weight_decay: Annotated[float, typer.Option("--weight-decay", min=0.0, help="Weight decay.")] = 0.0,
    workers: labelling.Workers = 1,
    output: StudyFolder = Path("functionals"),
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Train functionals with and without messages, weights and readout, and judge them where they were not trained.

    Energies of training and tests are computed by PySCF first. All figures of functionals are of self-consistent energies.
    `base + difference` is Delta-learning by the backbone hegnn on the same base and the same energies.
    """
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.studies.functional_arms import ARMS, FunctionalStudy, summary
    from mlff_calc.bench.studies.functional_sets import set_of
    from mlff_calc.bench.threads import limited_threads

    molecules = set_of(name, method=method, train=train, valid=valid, test=test)
    study = FunctionalStudy(
        name, output, molecules, list(ARMS) if arms is None else [one.strip() for one in arms.split(";") if one.strip()],
        rivals, range(seeds), epochs, basis, grid_level, {"base": base, "filters": filters},
        {"weight_decay": weight_decay}, workers,
    )  # fmt: skip
    with limited_threads(threads):
        rows = study.run(lambda text: typer.echo(text, err=True))
    found = summary(rows)
    columns = {
        "": "arm", "MAE": "mae", "seeds": "mae range", "relative": "relative", "seeds ": "relative range",
        "largest": "largest", "SCF cycles": "cycles", "failed": "failures", "parameters": "parameters", "minutes": "minutes",
    }  # fmt: skip
    tables = [
        table_of(f"{name}, {test}: errors in mHa, {seeds} seeds", columns, [row for row in found if row["test"] == test])
        for test in dict.fromkeys(row["test"] for row in found)
    ]
    give({"machine": describe_machine("cpu"), "rows": rows, "summary": found}, json_file, tables)
    if str(json_file) != "-":
        for row in rows:
            if row["failed"]:
                typer.echo(f"{row['arm']}, {row['test']}, seed {row['seed']} failed: {row['failed']}")
