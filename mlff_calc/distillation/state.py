"""The record of a run: what was decided, what each round gave, and where the time went. Written whole after each phase."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlff_calc.bounded import parse_json, read_text
from mlff_calc.errors import DatasetError
from mlff_calc.whole_files import write_whole

FORMAT = 1
"""Version of the record."""
NAME = "state.json"
CLOCK = ".clock.json"
"""File with the phase that goes on and all its seconds so far, from which a run that was killed knows what it used."""
BEAT = 5.0
"""Seconds between two writings of it. Raising it loses more of the time before a kill."""


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

    def add_lost_time(self) -> None:
        """Add the time of a phase in which the run was killed or failed, once."""
        clock = self.path.with_name(CLOCK)
        try:
            phase, seconds = parse_json(read_text(clock, DatasetError))
            before = self.plain["seconds"].get(str(phase), 0.0)
            self.plain["seconds"][str(phase)] = max(before, float(seconds))  # the phase as a whole: nothing counts twice
        except (DatasetError, ValueError, TypeError):  # none, or a damaged one
            return
        self.save()
        clock.unlink(missing_ok=True)

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
        """Add the time of a block to that of a phase, and save; after a failure or a kill, `add_lost_time` does it."""
        began, done, clock = time.monotonic(), threading.Event(), self.path.with_name(CLOCK)
        before = self.plain["seconds"].get(phase, 0.0)

        def total() -> float:
            return round(float(before + time.monotonic() - began), 3)

        def beat() -> None:
            with suppress(OSError):  # a full disk is told by what the phase writes
                write_whole(clock, json.dumps([phase, total()]))

        def beats() -> None:
            while not done.wait(BEAT):
                beat()

        thread = threading.Thread(target=beats, daemon=True)
        thread.start()
        failed = True
        try:
            yield
            failed = False
        finally:
            done.set()
            thread.join()
            if failed:
                beat()
        self.plain["seconds"][phase] = total()
        self.save()
        clock.unlink(missing_ok=True)
