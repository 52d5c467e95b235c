"""`mlff bench fock-flow`: Fock matrices by flow matching and by regression."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli.bench_output import Arms, JsonFile, StudyFolder, Threads, give, table_of


def fock_flow(
    data: Annotated[
        Path, typer.Argument(help="Molecules with matrices (`mlff data hamiltonian`).", show_default=False)
    ],
    arms: Arms = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs of each training; half of it to go on.")] = 80,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds of weights and noise.")] = 3,
    valid: Annotated[int, typer.Option("--valid", min=1, help="Molecules of the validation.")] = 40,
    test: Annotated[int, typer.Option("--test", min=1, help="Molecules of the test; the rest is for training.")] = 40,
    energies: Annotated[
        int, typer.Option("--energies", min=0, help="Test molecules whose one-shot energy PySCF computes; 0 for none.")
    ] = 5,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Measure peak memories of predictions.")] = True,
    output: StudyFolder = Path("fock-flow"),
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Train Fock matrices by flow matching and by regression, with and without the initial matrix and fine-tuning.

    The Fock matrix of minao and that of the nearest training molecule are in the table.
    """
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.studies.fock_flow import ARMS, FlowStudy, summary
    from mlff_calc.bench.threads import limited_threads

    names = list(ARMS) if arms is None else [name.strip() for name in arms.split(";") if name.strip()]
    study = FlowStudy(data, output, epochs, range(seeds), names, valid, test, energies, memory)
    with limited_threads(threads):
        rows = study.run(lambda text: typer.echo(text, err=True))
    found = summary(rows)
    columns = {
        "": "arm", "H": "all", "seeds": "all range", "atoms": "atoms", "pairs": "pairs", "occupied": "occupied",
        "seeds ": "occupied range", "gap": "gap", "psi (%)": "cosine", "energy": "energy", "noise": "noise",
        "parameters": "parameters", "minutes": "minutes", "ms": "ms", "MiB": "memory",
    }  # fmt: skip
    table = table_of(f"mean errors in 1e-6 Hartree, {seeds} seeds", columns, found)
    give({"machine": describe_machine("cpu"), "rows": rows, "summary": found}, json_file, [table])
    if str(json_file) != "-":
        for row in rows:
            if row["failed"]:
                typer.echo(f"{row['arm']}, seed {row['seed']} failed: {row['failed']}")
