"""Work that is done, kept on the disk until all of it is there and becomes a file."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mlff_calc.datasets.journal import Journal
from mlff_calc.datasets.packing import pack, unpack
from mlff_calc.errors import DatasetError

if TYPE_CHECKING:
    from mlff_calc.datasets.labelling.kind import ItemKind

logger = logging.getLogger(__name__)

_BEGIN_ANEW = "or begin anew with --overwrite"


class LabelJournal:
    """Labels and failures of items, of which a kill loses none once `add` or `fail` has returned.

    Args:
        path: File of the journal.
        head: Plain values that labels depend on.
        items: Structures that are labelled, or what stands in their place.
        kind: What is kept of an item beside its label, and what tells it from others.
        resume: Whether to continue a journal that is there; else it is replaced.

    Attributes:
        path: The file.
        head: The plain values.
        n_labelled: Number of labels.
        n_failed: Number of failures.

    Raises:
        DatasetError: The journal was begun with another head or other items, or is damaged.
    """

    def __init__(
        self, path: Path, head: Mapping[str, Any], items: Sequence[Any], kind: ItemKind[Any], *, resume: bool
    ) -> None:
        self.path, self.head, self._items, self._kind = path, dict(head), items, kind
        self._synced = 0.0
        self._labelled: dict[int, int] = {}
        self._failed: dict[int, int] = {}
        text = json.dumps(dict(head))
        is_there = resume and path.exists()
        self._journal = Journal(path) if is_there else Journal.create(path, text.encode())
        try:
            if is_there:
                self._check_head(text)
                self._read()
        except BaseException:
            self._journal.close()
            raise

    def _check_head(self, text: str) -> None:
        if self._journal.lost:
            logger.info("a label was being written when the run was stopped; it is computed again")
        try:
            before, now = json.loads(self._journal[0]), json.loads(text)
            different = [name for name in now if before.get(name) != now[name]]
        except (ValueError, AttributeError) as error:
            raise DatasetError(f"{self.path} is not a journal of labels; move it away") from error
        if different:
            found = "; ".join(f"{name} {before.get(name)}, now {now[name]}" for name in different)
            raise DatasetError(f"{self.path} was begun with {found}. Give what the first run had, {_BEGIN_ANEW}")

    def _read(self) -> None:
        for record in range(1, len(self._journal)):
            values = self._values(record)
            number = int(values["source"])
            if not 0 <= number < len(self._items) or bytes(values["mark"]) != self._kind.mark(self._items[number]):
                raise DatasetError(
                    f"{self.path} was begun with other {self._kind.nouns}: number {number} differs. Give those of the first "
                    f"run in the same order (more may follow), {_BEGIN_ANEW}"
                )
            if "reason" not in values:
                self._labelled[number] = record
            elif self._kind.fails_for_good:
                self._failed[number] = record

    def _values(self, record: int) -> dict[str, Any]:
        return unpack(self._journal[record], f"{self.path}, record {record}")

    @property
    def n_labelled(self) -> int:
        """Number of labels."""
        return len(self._labelled)

    @property
    def n_failed(self) -> int:
        """Number of failures."""
        return len(self._failed)

    def missing(self) -> list[tuple[int, Any]]:
        """List items that are not done, with their numbers."""
        return [
            (number, item)
            for number, item in enumerate(self._items)
            if number not in self._labelled and number not in self._failed
        ]

    def add(self, number: int, label: Mapping[str, Any]) -> None:
        """Keep a label, arrays and numbers by name; raises an OSError where the disk is full."""
        self._append(number, dict(label) | dict(self._kind.of_item(self._items[number])))
        self._labelled[number] = len(self._journal) - 1

    def fail(self, number: int, reason: str) -> None:
        """Keep the reason why an item has no label; raises an OSError where the disk is full."""
        self._append(number, {"reason": np.frombuffer(reason.encode() or b"unknown", dtype=np.uint8)})
        self._failed[number] = len(self._journal) - 1

    def _append(self, number: int, values: Mapping[str, Any]) -> None:
        sync = time.monotonic() - self._synced >= self._kind.sync_seconds
        mark = np.frombuffer(self._kind.mark(self._items[number]), dtype=np.uint8)
        self._journal.append(pack({"source": number, "mark": mark} | dict(values)), sync=sync)
        if sync:
            self._synced = time.monotonic()

    def labelled(self) -> list[int]:
        """Numbers of the labelled items, rising."""
        return sorted(self._labelled)

    def item(self, number: int) -> Any:
        """An item by its number."""
        return self._items[number]

    def label(self, number: int) -> dict[str, Any]:
        """Read a label with what is kept of its item, and its number `source`."""
        return self._values(self._labelled[number])

    def failures(self) -> list[tuple[int, str]]:
        """Number and reason of each failure."""
        return [
            (number, bytes(self._values(self._failed[number])["reason"]).decode(errors="replace"))
            for number in sorted(self._failed)
        ]

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()
