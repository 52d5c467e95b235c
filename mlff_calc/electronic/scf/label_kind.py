"""What labels are: how one is computed, how many become a file, and what a file that is there holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_calc.electronic.scf.label_journal import LabelJournal


@dataclass(frozen=True)
class WholeFile:
    """What a file of labels holds.

    Attributes:
        differences: Differences of its level from the present one, in words; empty where the levels are equal.
        sources: Number of the structure of each frame.
        positions: Positions of each frame [n_atoms, 3], Angstrom, which may be read one by one.
        failures: Number and reason of each structure without a label.
        cycles: Mean number of SCF cycles; None where the file does not say it.
    """

    differences: list[str]
    sources: list[int]
    positions: Iterable[NDArray[np.float64]]
    failures: list[tuple[int, str]]
    cycles: float | None = None


class LabelKind(ABC):
    """A kind of labels with its level. It can be pickled, since other processes compute with it.

    Attributes:
        suffixes: Endings of the names of its files.
        format: Name of the format of its files, for messages.
    """

    suffixes: ClassVar[tuple[str, ...]]
    format: ClassVar[str]

    @abstractmethod
    def head(self, numbers: NDArray[np.int64]) -> dict[str, Any]:
        """Return the plain values that labels depend on.

        Args:
            numbers: Atomic numbers that occur.

        Raises:
            OptionError: The level is not possible for these elements.
        """

    @abstractmethod
    def compute(self, atoms: Atoms) -> Mapping[str, Any]:
        """Compute a label: arrays and numbers by name.

        Raises:
            MLFFError: The structure has no label; the message is the reason.
        """

    @abstractmethod
    def write(self, path: Path, journal: LabelJournal) -> None:
        """Write the file of all labels that a journal holds, at least one, and of its failures."""

    @abstractmethod
    def read(self, path: Path) -> WholeFile:
        """Read what a file holds.

        Raises:
            DatasetError: It is not such a file, or is damaged.
        """
