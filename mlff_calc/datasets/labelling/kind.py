"""What is done with each of many items: how it is computed, how many results become a file, and what a file holds.

Items are structures that are labelled (`LabelKind`), or what structures are made of, such as SMILES.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlff_calc.charges import charge_of
from mlff_calc.datasets.labelling.processes import Alone, Outcome, outcomes
from mlff_calc.errors import StructureError

if TYPE_CHECKING:
    from mlff_calc.datasets.labelling.journal import LabelJournal

I = TypeVar("I")  # noqa: E741
SAME = 1e-7
"""Largest difference of positions that count as equal, Angstrom. Raising it takes other structures for the labelled ones."""


@dataclass(frozen=True)
class WholeFile:
    """What a file of labels holds.

    Attributes:
        differences: Differences of its level from the present one, in words; empty where the levels are equal.
        sources: Number of the item of each frame.
        contents: What `ItemKind.is_of` compares with the item of each frame, such as positions [n_atoms, 3] in Angstrom; it
            may be read one by one.
        failures: Number and reason of each item without a label.
        cycles: Mean number of SCF cycles; None where the file does not say it.
    """

    differences: list[str]
    sources: list[int]
    contents: Iterable[Any]
    failures: list[tuple[int, str]]
    cycles: float | None = None


class ItemKind(ABC, Generic[I]):
    """A kind of work on items. It can be pickled, since other processes compute with it.

    Attributes:
        suffixes: Endings of the names of its files.
        format: Name of the format of its files, for messages.
        noun: Name of an item, for messages.
        nouns: Name of several.
        fails_for_good: Whether an item that failed is not tried again when an interrupted run is resumed.
        sync_seconds: Time between two writes to the disk itself. A power cut loses what was done since the last one, a kill
            loses nothing. Raising it saves time where an item takes milliseconds.
    """

    suffixes: ClassVar[tuple[str, ...]]
    format: ClassVar[str]
    noun: ClassVar[str] = "structure"
    nouns: ClassVar[str] = "structures"
    fails_for_good: ClassVar[bool] = True
    sync_seconds: ClassVar[float] = 0.0

    @abstractmethod
    def head_of(self, items: Sequence[I]) -> dict[str, Any]:
        """Return the plain values that results depend on.

        Raises:
            OptionError: The work is not possible.
        """

    @abstractmethod
    def mark(self, item: I) -> bytes:
        """Return a digest of what the result of an item depends on."""

    def of_item(self, item: I) -> Mapping[str, Any]:
        """Return arrays and numbers that are kept of an item beside its result."""
        del item
        return {}

    @abstractmethod
    def outcomes(self, items: Sequence[tuple[int, I]], workers: int) -> Generator[Outcome]:
        """Compute the results of items with their numbers, in any order.

        Args:
            items: Numbers and items.
            workers: Number of processes.
        """

    @abstractmethod
    def write(self, path: Path, journal: LabelJournal) -> None:
        """Write the file of all results that a journal holds, at least one, and of its failures."""

    @abstractmethod
    def read(self, path: Path) -> WholeFile:
        """Read what a file holds.

        Raises:
            DatasetError: It is not such a file, or is damaged.
        """

    @abstractmethod
    def is_of(self, whole: WholeFile, items: Sequence[I]) -> bool:
        """Whether the frames of a file are of these items."""


class ComputedKind(ItemKind[I]):
    """A kind of work that this package computes, item by item, in several processes."""

    @abstractmethod
    def compute(self, item: I) -> Mapping[str, Any]:
        """Compute a result: arrays and numbers by name.

        Raises:
            MLFFError: The item has no result; the message is the reason.
        """

    def outcomes(self, items: Sequence[tuple[int, I]], workers: int) -> Generator[Outcome]:
        """See `ItemKind`."""
        return outcomes(self.compute, items, workers, self.alone())

    def alone(self) -> Alone | None:
        """Return what holds this process to one thread; None where the work needs a process of its own."""
        return nullcontext


class LabelKind(ComputedKind[Atoms]):
    """A kind of labels of structures with its level."""

    @abstractmethod
    def head(self, numbers: NDArray[np.int64]) -> dict[str, Any]:
        """Return the plain values that labels depend on.

        Args:
            numbers: Atomic numbers that occur.

        Raises:
            OptionError: The level is not possible for these elements.
        """

    def head_of(self, items: Sequence[Atoms]) -> dict[str, Any]:
        """Return `head` of the elements of structures; raises a StructureError where there are no atoms."""
        numbers = np.unique(np.concatenate([atoms.numbers for atoms in items]))
        numbers = numbers[numbers > 0]  # ghosts are failures of their structure
        head = self.head(numbers)
        if not len(numbers):
            raise StructureError("the structures hold no atoms; give molecules")
        return head

    def of_item(self, item: Atoms) -> Mapping[str, Any]:
        """Return `numbers`, `positions` and `charge`."""
        return {"numbers": item.numbers.astype(np.int64), "positions": item.positions, "charge": charge_of(item)}

    def mark(self, item: Atoms) -> bytes:
        """Return a digest of charge, periodicity, atomic numbers and positions."""
        try:
            charge = charge_of(item)
        except StructureError:
            charge = 0
        whole = np.array([charge, *item.pbc], dtype="<i8")
        parts = (item.numbers.astype("<i8"), np.asarray(item.positions, dtype="<f8"), whole)
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest()

    def is_of(self, whole: WholeFile, items: Sequence[Atoms]) -> bool:
        """Compare positions."""
        return all(
            _same(found, items[source].positions) for source, found in zip(whole.sources, whole.contents, strict=True)
        )


def _same(found: NDArray[np.float64], positions: NDArray[np.float64]) -> bool:
    return found.shape == positions.shape and bool(np.allclose(found, positions, rtol=0.0, atol=SAME))
