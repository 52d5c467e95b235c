"""Tables of text with a heading, .csv or .tsv."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from mlff_calc.bounded import MEBI, read_text
from mlff_calc.errors import DatasetError
from mlff_calc.near import suggestion

TABLES = {".csv": ",", ".tsv": "\t"}
"""Endings of tables, and what separates their columns."""
LARGEST = 512 * MEBI  # largest size of a table in bytes; a larger one takes more memory


def table_rows(file: Path, wanted: Mapping[str, str]) -> list[dict[str, str]]:
    """Read the rows of a table by the names of their columns.

    Args:
        file: The file.
        wanted: Names of columns that must be there, and the option that names each, for messages.

    Raises:
        DatasetError: The file cannot be read as text, or lacks a column; the message names the nearest one.
    """
    text = io.StringIO(read_text(file, DatasetError, LARGEST).removeprefix("\N{BYTE ORDER MARK}"), newline="")
    reader = csv.DictReader(text, delimiter=TABLES[file.suffix.lower()], skipinitialspace=True)
    try:
        names = list(reader.fieldnames or [])
        for name, option in wanted.items():
            if name not in names:
                hint = suggestion(name, names, before="; ") or f"; it has {', '.join(names[:20]) or 'nothing'}"
                raise DatasetError(f"{file} has no column {name!r}{hint}. Name it in {option}")
        return list(reader)
    except csv.Error as error:
        raise DatasetError(f"{file} cannot be read as a table ({error}); write commas or tabs and a heading") from error
