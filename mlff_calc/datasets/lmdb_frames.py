"""Frames in LMDB, in the format of ASE's databases (``.aselmdb``), through the package `ase-db-backends`.

Energies (eV), forces (eV/Angstrom) and stresses (eV/Angstrom^3) are stored where ASE looks for results; the kind of
configuration and the weights of frames are in `data`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import ase.db
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from mlff_calc.datasets.keys import STRESS
from mlff_calc.datasets.sample import KINDS, Sample, statements
from mlff_calc.errors import DatasetError
from mlff_calc.graph.keys import get_key

_OPEN: WeakValueDictionary[tuple[int, Path], Any] = WeakValueDictionary()
"""Open databases by process and path, since LMDB allows only one opening of a file per process."""


def _connect(path: Path, **options: Any) -> Any:  # noqa: ANN401
    """Open a database by ASE; raises a DatasetError where the package is missing or the file is invalid."""
    try:
        return ase.db.connect(path, type="aselmdb", use_lock_file=False, **options)
    except ImportError as error:
        raise DatasetError(
            "ASE reads and writes LMDB (.aselmdb) through a package that is not installed; pip install "
            "'mlff_calc[lmdb]', or use HDF5 (.h5)"
        ) from error
    except Exception as error:  # lmdb's own errors
        raise DatasetError(f"{path} cannot be opened as LMDB ({error}); is it complete?") from error


class LMDBFrames:
    """A file of frames, opened again in every process that reads it.

    Args:
        path: LMDB file.
        sample: Function that turns a structure read by ASE and the number of its frame into a sample.
    """

    def __init__(self, path: Path, sample: Callable[[Atoms, int], Sample]) -> None:
        self.path, self._sample = path, sample
        self._open: tuple[int, Any] | None = None
        self._n = self._database().count()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": None}

    def __len__(self) -> int:
        return int(self._n)

    def _database(self) -> Any:  # noqa: ANN401
        if self._open is None or self._open[0] != os.getpid():
            key = (os.getpid(), self.path.resolve())
            found = _OPEN.get(key)
            if found is None:
                found = _OPEN[key] = _connect(self.path, readonly=True, readahead=False)
            self._open = (os.getpid(), found)
        return self._open[1]

    def __getitem__(self, number: int) -> Sample:
        """Read the frame of this number; raises a DatasetError where it is damaged."""
        try:
            row = self._database()._get_row_by_index(number)
            atoms = row.toatoms()
            atoms.info |= {**row.key_value_pairs, **row.data}
        except Exception as error:  # ASE and zlib may raise any error on a broken file
            raise DatasetError(
                f"{self.path}, frame {number} cannot be read ({type(error).__name__}: {error}); make the file again"
            ) from error
        return self._sample(atoms, number)


class LMDBWriter:
    """Writes frames to a new file.

    Args:
        path: File to write, which must not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = _connect(path)
        units = {kind: {"unit": get_key(kind).unit, "level": get_key(kind).level} for kind in KINDS}
        self._database.metadata = {"labels": units, "length_unit": "Angstrom"}

    def write(self, samples: Sequence[Sample]) -> None:
        """Append frames."""
        self._database.txn = self._database.env.begin(write=True)
        try:
            for sample in samples:
                atoms = sample.atoms.copy()
                results: dict[str, Any] = {str(kind): label for kind, label in sample.labels().items()}
                if STRESS in results:
                    results[STRESS] = full_3x3_to_voigt_6_stress(results[STRESS])
                atoms.calc = SinglePointCalculator(atoms, **results)
                data = statements(sample.atoms) | dict(sample.stated_weights)
                data |= {"config_type": sample.config_type} if sample.config_type else {}
                self._database.write(atoms, data=data)
        finally:
            self._database.txn.commit()
            del self._database.txn

    def close(self) -> None:
        """Flush the file, and remove the lock file that LMDB leaves."""
        self._database.env.sync(True)
        self._database.close()
        self._path.with_name(f"{self._path.name}-lock").unlink(missing_ok=True)
