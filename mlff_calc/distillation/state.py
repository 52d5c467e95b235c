"""The record of a run: what was decided, what each round gave, and where the time went. Written whole after each phase."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlff_calc.bounded import parse_json, read_text
from mlff_calc.errors import DatasetError
from mlff_calc.whole_files import write_whole

FORMAT = 1
"""Version of the record."""
NAME = "state.json"


class State:
    """The record.

    Args:
        path: File.
        plain: Content.

    Attributes:
        path: File.
        plain: Content: `fixed`, `teacher`, `plan`, `rounds`, `seconds`, `minutes`, `stopped`, `finished`.
    """

    def __init__(self, path: Path, plain: dict[str, Any]) -> None:
        self.path, self.plain = path, plain

    @classmethod
    def read(cls, folder: Path) -> State:
        """Read the record of a folder.

        Raises:
            DatasetError: There is none, or it is damaged.
        """
        path = folder / NAME
        if not path.is_file():
            raise DatasetError(f"{folder} holds no distillation to go on with; leave out --resume to begin one")
        try:
            plain = parse_json(read_text(path, DatasetError))
            if plain["format"] != FORMAT:
                raise DatasetError(f"{path} has format {plain['format']}, and this version reads {FORMAT}; update mlff_calc")
            for name in ("fixed", "teacher", "plan", "rounds", "seconds"):
                plain[name]
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(f"{path} is damaged ({error}); restore it, or begin anew with --overwrite") from error
        return cls(path, plain)

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """What each round gave."""
        found: list[dict[str, Any]] = self.plain["rounds"]
        return found

    @property
    def used(self) -> float:
        """Seconds used so far."""
        return float(sum(self.plain["seconds"].values()))

    def save(self) -> None:
        """Write the record; raises an OSError that names the file."""
        write_whole(self.path, json.dumps(self.plain, indent=1) + "\n")

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the time of a block to that of a phase, also where the block fails."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.plain["seconds"][phase] = round(self.plain["seconds"].get(phase, 0.0) + time.monotonic() - began, 3)
