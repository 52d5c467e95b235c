"""Reading `metrics.csv` of a run, which other programs may have edited and full disks truncated."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from mlff_calc.bounded import MEBI, read_text, shorten
from mlff_calc.errors import TrainingError


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Read the rows of a run's metrics, one per epoch; an empty list where there is no file.

    Raises:
        TrainingError: The file cannot be read, or a value is not a number; the message names the line.
    """
    if not path.exists() and not path.is_symlink():
        return []
    cure = f"correct it, or move it away: the run goes on without the rows so far ({path.name})"
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path, TrainingError, 64 * MEBI), newline="")))
    except csv.Error as error:
        raise TrainingError(f"{path}: is no table ({error}); {cure}") from error
    for number, row in enumerate(rows):
        for key, value in row.items():
            if not isinstance(key, str) or not _is_number(value, whole=key == "epoch") or "epoch" not in row:
                said = f"{shorten(key)} is {shorten(value)}, which is no number"
                raise TrainingError(f"{path}, row {number + 1}: {said}; {cure}")
    return rows


def _is_number(text: object, *, whole: bool) -> bool:
    """Whether a cell holds a number, or nothing where it may be empty."""
    if not isinstance(text, str) or (whole and not (text.isascii() and text.isdigit() and len(text) < 16)):
        return False
    try:
        return text == "" or float(text) is not None
    except ValueError:
        return False
