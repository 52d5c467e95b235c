"""`mlff bench rollout` and `mlff bench trajectories`: parts of rollouts, and rollouts beside dynamics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli.bench_output import (
    Arms,
    JsonFile,
    StudyFolder,
    Threads,
    give,
    positive_numbers,
    table_of,
    whole_numbers,
)


def rollout(
    data: Annotated[
        Path, typer.Argument(help="Trajectory in the layout of MD17 (`mlff data trajectory`).", show_default=False)
    ],
    arms: Arms = None,
    horizons: Annotated[str, typer.Option("--horizons", help="Longest times in fs, with commas.")] = "100,1500",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds of weights, starts and times.")] = 3,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs of each training.")] = 25,
    starts: Annotated[int, typer.Option("--starts", min=1, help="First frames of each training.")] = 500,
    heavy_atoms: Annotated[bool, typer.Option("--heavy-atoms/--all-atoms", help="Whether to leave hydrogens out.")] = False,
    output: StudyFolder = Path("rollouts"),
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Train rollouts without base, modes, equation or second order, with other solvers and times, and compare them."""
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.studies.rollout_arms import ARMS, RolloutStudy, summary
    from mlff_calc.bench.threads import limited_threads

    names = list(ARMS) if arms is None else [name.strip() for name in arms.split(";") if name.strip()]
    study = RolloutStudy(
        data, output, positive_numbers(horizons), names, range(seeds), epochs, starts, heavy_atoms=heavy_atoms
    )
    with limited_threads(threads):
        rows = study.run(lambda text: typer.echo(text, err=True))
    found = summary(rows)
    columns = {
        "": "arm", "MSE (A^2)": "mse", "worst seed": "worst", "1st quarter": "quarter 1", "2nd": "quarter 2",
        "3rd": "quarter 3", "4th": "quarter 4", "bonds (A)": "bonds", "v (A/ps)": "velocities", "inside 95 %": "inside95",
        "parameters": "parameters", "minutes": "minutes", "ms": "ms",
    }  # fmt: skip
    tables = [
        table_of(f"to {horizon:g} fs, {seeds} seeds", columns, [row for row in found if row["horizon"] == horizon])
        for horizon in dict.fromkeys(row["horizon"] for row in found)
    ]
    give({"machine": describe_machine("cpu"), "rows": rows, "summary": found}, json_file, tables)
    if str(json_file) != "-":
        for row in rows:
            if row["failed"]:
                typer.echo(f"{row['arm']}, {row['horizon']:g} fs, seed {row['seed']} failed: {row['failed']}")


def trajectories(
    model: Annotated[str, typer.Argument(help="Folder of a rollout, or name of one that ships.", show_default=False)],
    data: Annotated[
        Path, typer.Argument(help="Trajectory in the layout of MD17 (`mlff data trajectory`).", show_default=False)
    ],
    calculator: Annotated[
        str, typer.Option("--calculator", help="Potential (name or folder) whose dynamics are compared.", show_default=False)
    ],
    times: Annotated[str, typer.Option("--times", help="Times of the errors in fs.")] = "10,20,50,100,200,500,1000,2000",
    starts: Annotated[int, typer.Option("--starts", min=0, help="First frames of the errors; 0 for none.")] = 20,
    counts: Annotated[str, typer.Option("--counts", help="Numbers of timed trajectories; 0 for none.")] = "250,1000",
    n_times: Annotated[str, typer.Option("--n-times", help="Numbers of times of a timed trajectory.")] = "8,32",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of the dynamics that are timed.")] = 10,
    json_file: JsonFile = None,
) -> None:
    """Compare a rollout with dynamics of a potential: error against time, and processor time of one thread."""
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.trajectories import Trajectories

    sizes = () if counts.strip() == "0" else tuple(whole_numbers(counts))
    asked = Trajectories(
        model, data, calculator, tuple(positive_numbers(times)), starts, sizes, tuple(whole_numbers(n_times)), steps
    )
    found = asked.measure()
    columns = {key: key for key in (found["errors"][0] if found["errors"] else {}) if key != "row"}
    shown = {
        "errors": ("error of positions (A) at times in fs", {"": "row", **columns}),
        "times": (
            "processor time of one thread",
            {
                "": "row", "trajectories": "trajectories", "times": "n_times", "s": "seconds", "ms each": "ms",
                "this / rollout": "ratio",
            },
        ),
    }  # fmt: skip
    tables = [table_of(title, names, found[key]) for key, (title, names) in shown.items() if found[key]]
    give({"machine": describe_machine("cpu"), **found}, json_file, tables)
