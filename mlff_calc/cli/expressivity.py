"""`mlff bench expressivity`: degrees that distinguish a symmetric structure from a rotated copy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlff_calc.cli.bench_output import give, whole_numbers
from mlff_calc.cli.console import say

if TYPE_CHECKING:
    from rich.table import Table

    from mlff_calc.bench.studies.expressivity import Cell

QUICK = ("1,2,3,4", "2-fold,3-fold,tetrahedron,cube", 2)  # degrees, structures and number of seeds of --quick


def expressivity(
    degrees: Annotated[
        str | None,
        typer.Option("--degrees", help="Some of 1 to 10, comma-separated.  [default: all]", show_default=False),
    ] = None,
    structures: Annotated[
        str | None,
        typer.Option(
            "--structures", help="Such as 3-fold,cube.  [default: four k-fold, five polyhedra]", show_default=False
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Number of seeds.  [default: 10]", show_default=False)
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Two seeds, degrees 1 to 4, four structures, no noise, unless given."),
    ] = False,
    noise: Annotated[
        bool | None,
        typer.Option("--noise/--no-noise", help="Noisy tetrahedra as well.  [default: noise]", show_default=False),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Largest number of training steps.")] = 200,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of PyTorch.")] = 1,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the table.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "--json",
            metavar="FILE",
            help="Write the figures to this file; - is stdout.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Find the degrees that distinguish a symmetric structure from a rotated copy, by measurement and by theory.

    Ends with status 1 if the two differ.
    """
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.studies import expressivity as study
    from mlff_calc.bench.threads import limited_threads

    usual = (",".join(map(str, study.DEGREES)), ",".join(study.STRUCTURES), 10)
    words, names, n_seeds = QUICK if quick else usual
    rows = study.rows_of(whole_numbers(words if degrees is None else degrees))
    chosen = (names if structures is None else structures).split(",")
    graphs = study.graphs_of([word.strip() for word in chosen if word.strip()])
    protocol = study.Protocol(n_seeds=n_seeds if seeds is None else seeds, steps=steps)
    if plot is not None:
        study.check_picture(plot)
    with limited_threads(threads):
        cells = study.measure_table(graphs, rows, protocol)
        noisy = study.measure_noise(protocol) if (not quick if noise is None else noise) else []
    deviations = [sentence for cell in cells for sentence in cell.deviations]
    result = {
        "machine": describe_machine("cpu"),
        "protocol": vars(protocol),
        "cells": [cell.as_dict() for cell in cells],
    }
    give({**result, "noise": noisy, "deviations": deviations}, output, expressivity_tables(cells, noisy))
    if plot is not None:
        study.draw_table(cells, plot)
    if deviations:
        say("\n".join(deviations))
        raise typer.Exit(1)


def expressivity_tables(cells: Sequence[Cell], noise: Sequence[dict[str, Any]]) -> list[Table]:
    """Build tables of accuracies, their theoretical values, lengths of summed features, and accuracies with noise."""
    from mlff_calc.bench.studies.expressivity import POOLED_ZERO

    measured = {(cell.row, cell.structure): _accuracy(cell) for cell in cells}
    theory = {(cell.row, cell.structure): f"{100.0 * cell.expected:.0f}" for cell in cells}
    lengths = {(cell.row, cell.structure): _length(cell) for cell in cells if cell.row.startswith("l = ")}
    n_seeds, zero = len(cells[0].found.accuracies), f"{POOLED_ZERO:g}"
    tables = [
        _grid(f"accuracy in %, mean of {n_seeds} seeds; ! deviates from theory", measured),
        _grid("accuracy in % by theory (mean of rho_l over the symmetry group)", theory),
        _grid(
            f"length of summed features: the largest of all seeds where it must be below {zero}, else the smallest",
            lengths,
        ),
    ]
    return [*tables, _noise_table(noise)] if noise else tables


def _accuracy(cell: Cell) -> str:
    mean = 100.0 * sum(cell.found.accuracies) / len(cell.found.accuracies)
    return f"{mean:.0f} !" if cell.deviations else f"{mean:.0f}"


def _length(cell: Cell) -> str:
    smallest, largest = cell.found.pooled[-1]
    return f"{largest:.0e}" if cell.zeros else f"{smallest:.2f}"


def _grid(title: str, words: dict[tuple[str, str], str]) -> Table:
    """Build a table of words by row and column."""
    from rich.table import Table

    rows, columns = (list(dict.fromkeys(key[place] for key in words)) for place in (0, 1))
    table = Table(title=title, title_justify="left")
    table.add_column("degrees")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row, *[words[row, column] for column in columns])
    return table


def _noise_table(noise: Sequence[dict[str, Any]]) -> Table:
    """Build a table of accuracies and their standard deviations over seeds."""
    words = {}
    for found in noise:
        for kind, heading in (("single", "one drawing"), ("unseen", "unseen drawings")):
            words[f"{found['row']}, {heading}", f"noise {found['noise']:g}"] = _spread(found[kind])
    return _grid("tetrahedron with noise: accuracy in %, mean ± standard deviation over seeds", words)


def _spread(accuracies: Sequence[float]) -> str:
    mean = sum(accuracies) / len(accuracies)
    deviation = (sum((accuracy - mean) ** 2 for accuracy in accuracies) / len(accuracies)) ** 0.5
    return f"{100.0 * mean:.1f} ± {100.0 * deviation:.1f}"
