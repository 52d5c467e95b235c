"""Fock matrices as labels, kept in HDF5 files (see `MatrixFile`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlff_calc.datasets.labelling import Alone, LabelJournal, LabelKind, WholeFile
from mlff_calc.datasets.matrix_files import MatrixFile, write_matrices
from mlff_calc.datasets.matrix_frames import MatrixFrame
from mlff_calc.electronic.scf.labels import basis_of, label
from mlff_calc.electronic.scf.pyscf_door import one_thread
from mlff_calc.electronic.scf.settings import SCFSettings

if TYPE_CHECKING:
    from ase import Atoms

_NAMES = ("energy", "forces", "fock", "overlap", "initial", "cycles")


@dataclass(frozen=True)
class MatrixLabels(LabelKind):
    """Fock, overlap and initial matrices with energies and forces, in Hartree and Bohr.

    Attributes:
        settings: Level of the labels.
        gradient: Whether to compute forces.
    """

    settings: SCFSettings
    gradient: bool = True
    suffixes: ClassVar[tuple[str, ...]] = (".h5", ".hdf5")
    format: ClassVar[str] = "HDF5"

    def head(self, numbers: NDArray[np.int64]) -> dict[str, Any]:
        """Return settings and shells; see `LabelKind.head`."""
        self.settings.check(numbers.tolist())
        basis = basis_of(self.settings.basis, numbers) if len(numbers) else {}
        return {"settings": self.settings.to_dict(), "basis": basis, "gradient": self.gradient}

    def compute(self, atoms: Atoms) -> Mapping[str, Any]:
        """Compute a label; see `labels.label`."""
        found = label(atoms, self.settings, gradient=self.gradient)
        held = {name: getattr(found, name) for name in _NAMES}
        return {name: value for name, value in held.items() if value is not None}

    def alone(self) -> Alone:
        """Return PySCF's way to one thread."""
        return one_thread

    def write(self, path: Path, journal: LabelJournal) -> None:
        """Write the file; one frame at a time is in memory."""
        frames = _Frames(journal.label, journal.labelled())
        write_matrices(path, frames, journal.head["settings"], journal.head["basis"], journal.failures())

    def read(self, path: Path) -> WholeFile:
        """Read what a file holds; see `LabelKind.read`."""
        file = MatrixFile(path)
        different = SCFSettings.from_dict(file.settings).differences(self.settings)
        positions = (frame.positions for frame in file)
        cycles = float(np.mean(file.column("cycles"))) if len(file) else None
        return WholeFile(different, file.column("source").tolist(), positions, file.failures, cycles)


class _Frames(Sequence[MatrixFrame]):
    """Labelled frames by number of their structures, read when they are asked for."""

    def __init__(self, read: Callable[[int], dict[str, Any]], numbers: list[int]) -> None:
        self._read, self._numbers = read, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: Any) -> Any:
        values = self._read(self._numbers[number])
        return MatrixFrame(
            values["numbers"], values["positions"], values["fock"], values["overlap"], values["initial"],
            float(values["energy"]), values.get("forces"), int(values["charge"]), int(values["cycles"]),
            int(values["source"]),
        )  # fmt: skip
