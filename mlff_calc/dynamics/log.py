"""The CSV log of a run: one row per logged step."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from mlff_calc.dynamics.files import AppendedFile


@dataclass(frozen=True, kw_only=True)
class LogRow:
    """One row of the log. Units are part of the names, and a quantity that does not exist is NaN.

    `drift_meV_per_atom_ps` is the slope of the energy that exact integration would conserve, by a linear fit over all rows
    so far. `ms_per_step` is the wall time per step since the previous row.
    """

    step: int
    time_ps: float
    temperature_K: float
    potential_eV: float
    kinetic_eV: float
    total_eV: float
    conserved_eV: float
    drift_meV_per_atom_ps: float
    pressure_GPa: float
    volume_A3: float
    ms_per_step: float


COLUMNS = tuple(field.name for field in fields(LogRow))


class LogFile:
    """Appends rows to the CSV log."""

    def __init__(self, path: Path, size: int = 0) -> None:
        """Open the log and truncate it to `size` bytes; a new log gets its header."""
        self._file = AppendedFile(path)
        self._file.cut(size)
        if size == 0:
            self._file.append((",".join(COLUMNS) + "\n").encode())

    def append(self, row: LogRow) -> None:
        """Append a row.

        Raises:
            SimulationError: The disk refuses.
        """
        self._file.append((",".join(map(_text, astuple(row))) + "\n").encode())

    def size(self) -> int:
        """Length in bytes."""
        return self._file.size()

    def is_in_place(self) -> bool:
        """Whether the path still leads to the open file."""
        return self._file.is_in_place()

    def rescue(self, path: Path) -> None:
        """Copy all rows of the open file, which may have been deleted, to another path atomically."""
        self._file.rescue(path)

    def sync(self) -> None:
        """Wait until the rows are on the disk."""
        self._file.sync()

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()


def _text(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else repr(float(value))


def read_log(path: str | Path) -> dict[str, np.ndarray]:
    """Read the CSV log of a run.

    Args:
        path: File `log.csv`.

    Returns:
        One array [n_rows] per column, by name; NaN where a quantity does not exist.
    """
    text = Path(path).read_text(encoding="utf-8")
    header, *rows = csv.reader(io.StringIO(text))
    table = np.array([[float(cell) if cell else math.nan for cell in row] for row in rows], dtype=float)
    table = table.reshape(len(rows), len(header))
    return {name: table[:, column] for column, name in enumerate(header)}
