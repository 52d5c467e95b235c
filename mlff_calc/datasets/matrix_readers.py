"""Readers of matrices that other programs have written, frame by frame, in the order of orbitals that the file has.

| format | file | order | level |
|---|---|---|---|
| `mlff` | HDF5 of `mlff data hamiltonian` | ours | in the file |
| `npz` | arrays of one molecule: `z`, `R`, `fock`, optionally `overlap` | PySCF, or as named | named by the user |
| `qh9` | sqlite database of QH9 with columns id, N, Z, pos, Ham | PySCF | B3LYP/def2-SVP; which B3LYP is named by the user |
| `schnorb` | ASE database of SchNOrb with `hamiltonian` and `overlap` | ORCA | PBE/def2-SVP, grid and thresholds of ORCA |

Matrices are in Hartree, positions in Angstrom.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlff_calc.datasets.archive import archive_keys, numbers_of, read_arrays
from mlff_calc.datasets.matrix_databases import QH9Matrices, SchNOrbMatrices
from mlff_calc.datasets.matrix_files import MatrixFile
from mlff_calc.datasets.matrix_frames import MatrixFrame, MatrixSource, check_frame, frame_number, known_order
from mlff_calc.errors import DatasetError, OptionError

FORMATS = ("mlff", "npz", "qh9", "schnorb")


class NpzMatrices:
    """Matrices of frames of one molecule in an npz archive, which is read whole.

    Args:
        path: Archive with `z` [n_atoms], `R` [n_frames, n_atoms, 3] Angstrom, `fock` [n_frames, n, n] Ha, and optionally
            `overlap` [n_frames, n, n]. Energies of such archives (`e_ref`) are of another level, and are not read.
        settings: Level of the matrices, with `xc` and `basis`; the archive does not say it.
        order: Order of the orbitals, one of `ORDERS`.

    Raises:
        DatasetError: The archive is damaged, or an array is missing or has a wrong shape.
        OptionError: The order is unknown, or the level lacks functional or basis.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any], order: str = "pyscf") -> None:
        self.path, self.order = Path(path), known_order(order)
        self.settings = dict(settings)
        missing = [name for name in ("xc", "basis") if not settings.get(name)]
        if missing:
            raise OptionError(f"{path} does not say its level; name its {' and '.join(missing)}")
        there = archive_keys(self.path)
        held = read_arrays(self.path, ["z", "R", "fock", *({"overlap"} & there)])
        self._numbers = numbers_of(self.path, "z", held["z"], ["n_atoms"], whole=True)
        places = numbers_of(self.path, "R", held["R"], ["n_frames", len(self._numbers), 3], finite=True)
        fock = numbers_of(self.path, "fock", held["fock"], [len(places), "n", "n"])
        self._arrays = {"positions": places, "fock": fock}
        if "overlap" in held:
            self._arrays["overlap"] = numbers_of(self.path, "overlap", held["overlap"], list(fock.shape))

    def __len__(self) -> int:
        return len(self._arrays["positions"])

    def __getitem__(self, number: int) -> MatrixFrame:
        """See `MatrixSource`."""
        number = frame_number(number, len(self), self.path)
        values = {name: np.array(array[number], dtype=np.float64) for name, array in self._arrays.items()}
        frame = MatrixFrame(
            self._numbers, values["positions"], values["fock"], values.get("overlap"), source=number, order=self.order
        )  # fmt: skip
        return check_frame(frame, f"{self.path}, frame {number}")


def open_matrices(
    path: str | Path, format: str | None = None, settings: Mapping[str, Any] | None = None, order: str = "pyscf"
) -> MatrixSource:
    """Open a file of matrices.

    Args:
        path: File.
        format: One of `FORMATS`; None for HDF5 and npz, which the name tells.
        settings: Level of an npz archive; `{"xc": ...}` of QH9. Other formats know their level.
        order: Order of the orbitals of an npz archive.

    Raises:
        DatasetError: The file cannot be read.
        OptionError: The format is unknown or not told by the name, or what it needs is missing.
    """
    if Path(path).is_dir():
        raise DatasetError(f"{path} is a folder; name a file of matrices")
    if format is None and Path(path).suffix not in (".h5", ".hdf5", ".npz"):
        raise OptionError(
            f"the name of {path} does not tell its format; choose the format {' or '.join(FORMATS)}, or make a file with "
            "`mlff data hamiltonian`"
        )
    kind = format or {".h5": "mlff", ".hdf5": "mlff", ".npz": "npz"}.get(Path(path).suffix)
    given = dict(settings or {})
    if kind == "mlff":
        return MatrixFile(path)
    if kind == "npz":
        return NpzMatrices(path, given, order)
    if kind == "qh9":
        return QH9Matrices(path, str(given.get("xc", "b3lyp")))
    if kind == "schnorb":
        return SchNOrbMatrices(path)
    raise OptionError(f"{path}: format {format!r} of matrices is not known; choose one of {', '.join(FORMATS)}")
