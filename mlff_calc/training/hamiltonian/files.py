"""Files of molecules with matrices, as far as training needs them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlff_calc.errors import DatasetError

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class MatrixFrame:
    """A molecule with its matrices in our order of orbitals, Hartree.

    Attributes:
        atoms: Molecule.
        fock: Converged Fock matrix.
        overlap: Overlap matrix.
        initial: Fock matrix of the initial density; None where the file has none.
    """

    atoms: Atoms
    fock: Matrix
    overlap: Matrix
    initial: Matrix | None = None

    @property
    def n_occupied(self) -> int:
        """Number of occupied orbitals of the neutral closed shell."""
        return int(self.atoms.numbers.sum()) // 2


@dataclass(frozen=True)
class MatrixFrames:
    """Molecules of one file and one level of theory.

    Attributes:
        path: File.
        frames: Molecules.
        places: Numbers of the molecules in the file.
        basis: Plain data of the basis: its name, and degrees of the shells by element.
        settings: Plain settings of the labels.
    """

    path: Path
    frames: Sequence[MatrixFrame]
    places: Sequence[int]
    basis: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frames)

    def chosen(self, numbers: Sequence[int]) -> Self:
        """Return some of the molecules by their numbers here."""
        frames, places = [self.frames[k] for k in numbers], [self.places[k] for k in numbers]
        return type(self)(self.path, frames, places, self.basis, self.settings)

    def place(self, number: int) -> str:
        """Where a molecule stands, for messages."""
        return f"{self.path}, molecule {self.places[number]}"


def read_matrices(path: Path) -> MatrixFrames:
    """Read a file of molecules with matrices.

    Args:
        path: An npz archive of one molecule in several geometries: `z` [n_atoms], `R` [n, n_atoms, 3] (Angstrom), `fock`, `overlap`
            and optionally `initial` [n, n_orbitals, n_orbitals] (Hartree, our order), `basis` and optionally `settings` (JSON).

    Raises:
        DatasetError: The file cannot be read, or lacks something.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as opened:
            data = {name: opened[name] for name in opened.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} cannot be read as a file of matrices ({error}); copy or make it again") from error
    missing = [name for name in ("z", "R", "fock", "overlap", "basis") if name not in data]
    if missing:
        raise DatasetError(f"{path} lacks {', '.join(missing)}; it has {', '.join(data)}")
    initial = data.get("initial")
    frames = [
        MatrixFrame(Atoms(data["z"], r), fock, overlap, None if initial is None else initial[k])
        for k, (r, fock, overlap) in enumerate(zip(data["R"], data["fock"], data["overlap"], strict=True))
    ]
    basis, settings = (json.loads(str(data[name])) if name in data else {} for name in ("basis", "settings"))
    return MatrixFrames(path, frames, range(len(frames)), basis, settings)
