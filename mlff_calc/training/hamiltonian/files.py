"""Molecules with matrices of a file, in our order of orbitals, with their basis and level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlff_calc.datasets.matrix_frames import MatrixFrame, MatrixSource
from mlff_calc.datasets.matrix_readers import open_matrices
from mlff_calc.electronic.orbitals.orders import to_our_order
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import DatasetError, OrbitalError


@dataclass(frozen=True)
class MatrixFrames:
    """Molecules of one file and one level of theory, read when they are asked for.

    Attributes:
        path: File.
        source: Frames of the file.
        places: Numbers of the molecules in the file.
        basis: Basis of the orbitals.
        settings: Plain settings of the matrices.
    """

    path: Path
    source: MatrixSource
    places: Sequence[int]
    basis: OrbitalBasis
    settings: dict[str, Any]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> MatrixFrame:
        """Read a molecule, in our order; see `MatrixSource`."""
        frame = self.source[self.places[number]]
        if frame.order == "ours":
            return frame
        given = {name: getattr(frame, name) for name in ("fock", "overlap", "initial")}
        ours = {
            name: to_our_order(one, self.basis, frame.numbers, frame.order) for name, one in given.items() if one is not None
        }
        return replace(frame, order="ours", **ours)

    def __iter__(self) -> Iterator[MatrixFrame]:
        return (self[k] for k in range(len(self)))

    def chosen(self, numbers: Sequence[int]) -> Self:
        """Return some of the molecules by their numbers here."""
        return replace(self, places=[self.places[k] for k in numbers])

    def place(self, number: int) -> str:
        """Where a molecule stands, for messages."""
        return f"{self.path}, frame {self.places[number]}"


def n_occupied(frame: MatrixFrame) -> int:
    """Number of occupied orbitals of a closed shell."""
    return (int(frame.numbers.sum()) - frame.charge) // 2


def overlap_of(frame: MatrixFrame) -> NDArray[np.float64]:
    """Overlap matrix of a molecule [n, n].

    Raises:
        DatasetError: The molecule has none.
    """
    if frame.overlap is None:
        raise DatasetError(f"frame {frame.source} has no overlap matrix, which errors of orbitals need; label it anew")
    return frame.overlap


def read_matrices(
    path: Path, format: str | None = None, settings: Mapping[str, Any] | None = None, order: str = "pyscf"
) -> MatrixFrames:
    """Open a file of molecules with matrices; see `open_matrices` for arguments and errors.

    Raises:
        DatasetError: The file holds no molecules, matrices without overlaps, or, where it was not made by this package, an
            overlap that is that of another order, basis or geometry.
    """
    source = open_matrices(path, format, settings, order)
    if not len(source):
        raise DatasetError(f"{path} holds no molecules; look why `mlff data hamiltonian` could not label any")
    if source[0].overlap is None:
        raise DatasetError(f"{path} has no overlap matrices, which errors of orbitals need; label the structures anew")
    plain = getattr(source, "basis", None)
    if plain is None:
        from mlff_calc.electronic.scf.check import check_overlap
        from mlff_calc.electronic.scf.labels import basis_of

        plain = basis_of(source.settings["basis"], sorted({int(z) for one in _all(source) for z in one.numbers}))
        try:
            check_overlap(source[0], SCFSettings.from_dict(source.settings))
        except OrbitalError as error:
            raise DatasetError(f"{path}: {error}") from error
    return MatrixFrames(path, source, range(len(source)), OrbitalBasis.from_dict(plain), dict(source.settings))


def _all(source: MatrixSource) -> Iterator[MatrixFrame]:
    return (source[k] for k in range(len(source)))
