"""`mlff bench shadow`: energy conservation and cost of shadow dynamics beside solved fields."""

from __future__ import annotations

from typing import Annotated

import typer

from mlff_calc.cli import options
from mlff_calc.cli.bench_output import JsonFile, Threads, give, positive_numbers, table_of


def shadow(
    potential: options.Potential,
    structure: Annotated[
        str, typer.Option("--structure", help="File of a structure, or a name as in `mlff bench --systems`.")
    ] = "ethanol",
    temperatures: Annotated[str, typer.Option("--temperatures", help="Temperatures of the runs, K.")] = "300,500",
    timestep: Annotated[float, typer.Option("--timestep", min=0.01, help="Time step, fs.")] = 0.5,
    time_ps: Annotated[float, typer.Option("--time", min=0.02, help="Length of each run, ps.")] = 20.0,
    frames: Annotated[int, typer.Option("--frames", min=1, help="Frames at which forces are compared.")] = 40,
    compiled: Annotated[bool, typer.Option("--compiled/--eager", help="Compile potential and steps.")] = False,
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Run dynamics at constant energy with fields that are solved, truncated, or follow the atoms (shadow dynamics)."""
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.studies.shadow import shadow_runs
    from mlff_calc.bench.threads import limited_threads
    from mlff_calc.potential import load_potential

    with limited_threads(threads):
        runs = shadow_runs(
            load_potential(potential),
            structure,
            temperatures=positive_numbers(temperatures),
            timestep_fs=timestep,
            time_ps=time_ps,
            frames=frames,
            compiled=compiled,
        )
    columns = {
        "fields": "name", "K": "temperature_K", "products": "n_forward", "ms": "ms", "model ms": "model_ms",
        "drift": "drift", "error": "drift_error", "noise": "noise", "force error": "force_rmse", "solved": "n_cold",
        "mean K": "mean_temperature_K",
    }  # fmt: skip
    rows = [run.as_dict() for run in runs]
    title = f"{time_ps:g} ps at {timestep:g} fs; drift in meV/atom/ps, noise in meV/atom, force error in meV/Angstrom"
    give({"machine": describe_machine("cpu"), "runs": rows}, json_file, [table_of(title, columns, rows)])
