"""Input and output of the benchmarks: options that they share, lists of numbers, tables, JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlff_calc.whole_files import write_whole

if TYPE_CHECKING:
    from rich.table import Table

JsonFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the figures to this file; - is stdout.", show_default=False),
]
StudyFolder = Annotated[
    Path, typer.Option("--output", "-o", help="Folder of trainings and results; what is there is not repeated.")
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of PyTorch.")]
Arms = Annotated[
    str | None, typer.Option("--arms", help="Names of arms, with semicolons; all by default.", show_default=False)
]


def whole_numbers(text: str) -> list[int]:
    """Parse a comma-separated list of positive whole numbers.

    Raises:
        OptionError: the text is something else.
    """
    from mlff_calc.errors import OptionError

    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdigit() and int(word) > 0 for word in words):
        msg = f"{text!r} is not a comma-separated list of positive whole numbers, such as 1,2"
        raise OptionError(msg)
    return [int(word) for word in words]


def positive_numbers(text: str) -> list[float]:
    """Parse a comma-separated list of positive numbers.

    Raises:
        OptionError: The text is something else.
    """
    from mlff_calc.errors import OptionError

    try:
        numbers = [float(word) for word in text.split(",") if word.strip()]
    except ValueError:
        numbers = []
    if not numbers or not all(0.0 < number < float("inf") for number in numbers):
        raise OptionError(f"{text!r} is not a comma-separated list of positive numbers, such as 5,20")
    return numbers


def table_of(title: str, columns: dict[str, str], rows: list[dict[str, Any]]) -> Table:
    """Build a table of `rows` from columns of heading and field, with words left and numbers right aligned."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for heading, field in columns.items():
        words = any(isinstance(row[field], str) for row in rows)
        table.add_column(heading, justify="left" if words else "right", overflow="fold")
    for row in rows:
        table.add_row(*[_cell(row[field]) for field in columns.values()])
    return table


def _cell(value: object) -> str:
    return (
        f"{value:.4g}"
        if isinstance(value, float) and abs(value) < 1e4
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


def give(result: dict[str, Any], json_file: Path | None, tables: list[Table]) -> None:
    """Write tables to stdout, or JSON there for `-`; write JSON to a file atomically."""
    from rich.console import Console

    text = json.dumps(result, indent=2)
    if json_file is not None and str(json_file) == "-":
        typer.echo(text)
        return
    console = Console(width=None if os.isatty(1) else 160)
    for table in tables:
        console.print(table)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(json_file, text + "\n")
