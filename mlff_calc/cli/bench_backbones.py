"""`mlff bench backbones`: the cost of the same step with different backbones."""

from __future__ import annotations

from typing import Annotated

import typer

from mlff_calc.cli.bench_output import JsonFile, Threads, give, table_of


def backbones(
    names: Annotated[
        str, typer.Option("--backbones", help="Comma-separated, name or name:l_max; ratios are to the first.")
    ] = "hegnn:0,hegnn:1,hegnn:3,cg_egnn,equiformer",
    systems: Annotated[
        str, typer.Option("--systems", help="Structures for energy and forces.")
    ] = "ethanol,aspirin,si64",
    motion: Annotated[
        bool, typer.Option("--motion", help="Time training steps of motion instead: 100 systems of 5 bodies.")
    ] = False,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Number of rounds over the backbones.")] = 21,
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Compile the potentials first.")] = False,
    operators: Annotated[
        int, typer.Option("--operators", min=0, help="Number of operators to show for each, by time in eager mode.")
    ] = 0,
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Time backbones with default options and random weights, turn by turn in one process: CPU time, and its ratios."""
    from mlff_calc.bench import backbones as timing
    from mlff_calc.bench import parse_systems
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.threads import limited_threads
    from mlff_calc.errors import OptionError

    if motion and compiled:
        raise OptionError(
            "--compile is for energy and forces; training steps of motion run eagerly: leave one of them out"
        )
    chosen, structures = timing.parse_backbones(names), parse_systems(systems)
    if motion:
        rows = timing.time_motion(chosen, rounds=rounds, threads=threads)
    else:
        rows = timing.time_forces(chosen, structures, rounds=rounds, compiled=compiled, threads=threads)
    what = "training step of motion" if motion else "energy and forces"
    title = f"{what}, ms of CPU time, {'compiled' if compiled else 'eager'}, {threads} thread(s)"
    columns = {
        "system": "system", "edges": "n_edges", "backbone": "backbone", "ms": "ms", "min": "min_ms", "ratio": "ratio",
    }  # fmt: skip
    tables, profiles = [table_of(title, columns, rows)], {}
    if operators:
        with limited_threads(threads):
            steps = (
                timing.motion_steps(chosen)
                if motion
                else {word: timing.force_step(options, structures[-1]) for word, options in chosen.items()}
            )
            profiles = {word: timing.profile_operators(step, operators) for word, step in steps.items()}
        place = rows[-1]["system"]
        tables += [
            table_of(f"{word}, {place}, eager", {"operator": "operator", "calls": "calls", "ms": "ms"}, found)
            for word, found in profiles.items()
        ]
    chosen_facts = {"machine": describe_machine("cpu"), "threads": threads, "compile": compiled, "motion": motion}
    give({**chosen_facts, "rows": rows, "operators": profiles}, json_file, tables)
