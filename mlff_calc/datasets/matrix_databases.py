"""Databases of matrices that others have made: QH9 and SchNOrb's MD17 set."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from mlff_calc.bounded import MEBI, require_regular
from mlff_calc.datasets.matrix_frames import MatrixFrame, check_frame, frame_number
from mlff_calc.errors import DatasetError, OptionError

_MOST_BYTES = 512 * MEBI  # largest size of one matrix in a database


class QH9Matrices:
    """Matrices of QH9 (Stable or Dynamic), read from its sqlite database one by one.

    QH9 names its functional B3LYP. Stable and Dynamic-300k were computed by PySCF 2.2, whose B3LYP contains VWN5 and is
    called `b3lyp5` since; Dynamic-100k by PySCF 2.3, whose B3LYP is `b3lypg`. The two differ by 4e-4 Ha in matrices.

    Args:
        path: Database.
        xc: `b3lyp5` or `b3lypg`.

    Raises:
        DatasetError: The file is no such database.
        OptionError: The functional is another one, or plain `b3lyp`.
    """

    order = "pyscf"

    def __init__(self, path: str | Path, xc: str) -> None:
        self.path = Path(path)
        if xc.lower() not in ("b3lyp5", "b3lypg"):
            raise OptionError(
                f"{path}: the functional {xc!r} is not one that QH9 can be read as. Say b3lyp5 for Stable and Dynamic-300k "
                "(PySCF 2.2, VWN5), or b3lypg for Dynamic-100k (PySCF 2.3, VWN-RPA); plain b3lyp has meant both"
            )
        self.settings: dict[str, Any] = {
            "xc": xc.lower(), "basis": "def2-svp", "grid_level": 3, "conv_tol": 1e-13, "density_fit": False,
        }  # fmt: skip
        _check_sqlite(self.path)
        with _connected(self.path) as base:
            self._table = _table(base, self.path)
            self._rows: NDArray[np.int64] = np.array(
                [row for (row,) in base.execute(f"SELECT rowid FROM {self._table} ORDER BY rowid")], dtype=np.int64
            )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> MatrixFrame:
        """See `MatrixSource`."""
        number = frame_number(number, len(self), self.path)
        place = f"{self.path}, row {self._rows[number]}"
        with _connected(self.path) as base:
            found = base.execute(
                f"SELECT N, Z, pos, Ham FROM {self._table} WHERE rowid = ? AND length(Ham) <= {_MOST_BYTES}",
                (int(self._rows[number]),),
            ).fetchone()
        if found is None or any(not isinstance(each, bytes) for each in found[1:]):
            raise DatasetError(f"{place} is missing, too large, or not in the layout of QH9; is the file complete?")
        count, species, places, matrix = found
        numbers = _blob(species, np.int32, (count,), place, "Z").astype(np.int64)
        n = round((len(matrix) / 8) ** 0.5)
        frame = MatrixFrame(
            numbers, _blob(places, np.float64, (count, 3), place, "pos"), _blob(matrix, np.float64, (n, n), place, "Ham"),
            source=number, order=self.order,
        )  # fmt: skip
        return check_frame(frame, place)


class SchNOrbMatrices:
    """Matrices of the MD17 set of SchNOrb, read from its ASE database one by one.

    Energies and forces are left out, since the files do not say their units.

    Args:
        path: Database.

    Raises:
        DatasetError: The file is no ASE database.
    """

    order = "orca"

    def __init__(self, path: str | Path) -> None:
        from ase.db import connect

        self.path = Path(path)
        self.settings: dict[str, Any] = {"xc": "pbe", "basis": "def2-svp"}
        _check_sqlite(self.path)
        try:
            self._base = connect(str(self.path), type="db", use_lock_file=False)
            with _connected(self.path) as base:
                self._ids = [row for (row,) in base.execute("SELECT id FROM systems ORDER BY id")]
        except (sqlite3.Error, ValueError, KeyError) as error:
            raise DatasetError(f"{self.path} cannot be read as a database of ASE ({error}); is it the right one?") from error

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, number: int) -> MatrixFrame:
        """See `MatrixSource`."""
        number = frame_number(number, len(self), self.path)
        place = f"{self.path}, row {self._ids[number]}"
        try:
            row = self._base.get(id=self._ids[number])
            fock, overlap = (np.array(row.data[name], dtype=np.float64) for name in ("hamiltonian", "overlap"))
            frame = MatrixFrame(
                np.array(row.numbers, dtype=np.int64), np.array(row.positions, dtype=np.float64), fock, overlap,
                source=number, order=self.order,
            )  # fmt: skip
        except (sqlite3.Error, KeyError, ValueError, TypeError) as error:
            raise DatasetError(f"{place} has no hamiltonian and overlap that can be read ({error})") from error
        if fock.ndim != 2 or fock.shape[0] != fock.shape[1]:
            raise DatasetError(f"{place}: the hamiltonian has shape {list(fock.shape)}, expected a square")
        return check_frame(frame, place)


def _check_sqlite(path: Path) -> None:
    require_regular(path, DatasetError)
    with path.open("rb") as stream:
        begin = stream.read(16)
    if begin != b"SQLite format 3\0":
        raise DatasetError(f"{path} is not an sqlite database; it begins with {begin[:8]!r}")


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading, which any process and thread may do at any time."""
    base: sqlite3.Connection | None = None
    try:
        base = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True)
        yield base
    except sqlite3.Error as error:
        raise DatasetError(f"{path} cannot be read as an sqlite database ({error}); is it complete?") from error
    finally:
        if base is not None:
            base.close()


def _table(base: sqlite3.Connection, path: Path) -> str:
    """Find the table with the columns of QH9."""
    tables = [name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for name in tables:
        quoted = '"' + name.replace('"', '""') + '"'
        columns = {row[1] for row in base.execute(f"PRAGMA table_info({quoted})")}
        if {"N", "Z", "pos", "Ham"} <= columns:
            return quoted
    raise DatasetError(f"{path} has the tables {tables[:5]}, none with the columns N, Z, pos and Ham of QH9")


def _blob(content: bytes, dtype: type, shape: tuple[Any, ...], place: str, name: str) -> NDArray[Any]:
    wanted = int(np.prod(shape)) * np.dtype(dtype).itemsize if all(isinstance(n, int) and n > 0 for n in shape) else -1
    if len(content) != wanted:
        kind = np.dtype(dtype).name
        raise DatasetError(f"{place}: {name} has {len(content)} bytes, expected {kind} of shape {list(shape)}")
    return np.frombuffer(content, dtype=dtype).reshape(shape).copy()
