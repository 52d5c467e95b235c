"""`mlff bench scores`: potential score matching beside plain diffusion, on biased halves of equilibrium samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli.bench_output import JsonFile, StudyFolder, Threads, give, table_of


def scores(
    systems: Annotated[
        str, typer.Option("--systems", help="Comma-separated: lj13, dw4, ethanol, malonaldehyde, aspirin.")
    ] = "lj13",
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, help="Processor minutes of each training.")] = 2.0,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds of frames, weights and draws.")] = 3,
    arms: Annotated[
        str, typer.Option("--arms", help="Comma-separated: DSM, optimal, window, directional (molecules only).")
    ] = "DSM,optimal,window,directional",
    n: Annotated[int, typer.Option("--n", min=20, help="Number of structures that are drawn by each arm.")] = 500,
    output: StudyFolder = Path("scores"),
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder of data sets.", envvar="MLFF_DATA", show_default=False),
    ] = None,
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Train score models with and without forces on frames below the median energy, draw from them, and compare.

    The first table has exact fields in place of networks: how far forces repair bias across a barrier.
    """
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.studies import double_well
    from mlff_calc.bench.studies.score_matching import Study, summary
    from mlff_calc.bench.studies.score_subjects import check_name, subject_of
    from mlff_calc.bench.threads import limited_threads

    names, chosen = ([name.strip() for name in text.split(",")] for text in (systems, arms))
    for name in names:
        check_name(name)
    wells = double_well.table()
    columns = {"barrier (kT)": "barrier", **{name: name for name, _, _ in double_well.COLUMNS}}
    tables = [table_of("share on the left: 0.5 is right, 0.9 that of the data", columns, wells)]
    rows = []
    with limited_threads(threads):
        for name in names:
            subject = subject_of(name, data, output, 3000)
            study = Study(output, minutes=minutes, seeds=range(seeds), n=n, arms=chosen)
            rows += study.run(subject, lambda text: typer.echo(text, err=True))
    found = summary(rows)
    shown = {
        "arm": "arm", "mean E": "mean shift", "sd": "mean shift sd", "W1(E)": "energy W1", "sd ": "energy W1 sd",
        "noise": "energy W1 floor", "TV(E)": "energy TV", "noise ": "energy TV floor", "TV(d)": "distances TV",
        "noise  ": "distances TV floor", "JS": "torsion JS", "noise   ": "torsion JS floor", "valid": "structures valid",
        "ESS": "effective", "calls": "calls",
    }  # fmt: skip
    for system in dict.fromkeys(row["system"] for row in found):
        mine = [{field: row.get(field, "") for field in shown.values()} for row in found if row["system"] == system]
        used = {heading: field for heading, field in shown.items() if any(row[field] != "" for row in mine)}
        tables.append(table_of(f"{system}: distances from all reference frames, {seeds} seeds", used, mine))
    machine = describe_machine("cpu")
    give({"machine": machine, "minutes": minutes, "double_well": wells, "rows": rows, "summary": found}, json_file, tables)
