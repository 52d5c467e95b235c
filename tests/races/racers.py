"""Racers, what they did, and the process that they run in."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

BUSY = ("another process is running in", "another run has written")


@dataclass(frozen=True)
class Racer:
    """One of the runs in a folder.

    Attributes:
        how: `start`, `resume` or `overwrite`.
        seed: tells its run from others.
        length: steps or epochs of the whole run.
        words: its command line.
        delay: seconds after the start of the race.
        kill: seconds after its beginning, or "row N"; None lets it live.
        slow: seconds that it waits before every row.
        after: a row of the first racer, after which it begins.
        hold: a row at which it waits until all others have ended.
    """

    how: str
    seed: int
    length: int
    words: tuple[str, ...]
    delay: float = 0.0
    kill: float | str | None = None
    slow: float = 0.0
    after: int | None = None
    hold: int | None = None


@dataclass
class Outcome:
    """What a racer did; times are of the system's monotonic clock.

    Attributes:
        racer: the racer.
        status: its exit status; negative where it was killed.
        said: what it said on standard error.
        looked: when it had looked at the folder; None where it never did.
        started: when it held the folder and was about to change it; None where it never did.
        wrote: a moment at which it was still about to write, the last that it noted.
        row: the last row that it noted as written; -1 for none.
    """

    racer: Racer
    status: int
    said: str = ""
    looked: float | None = None
    started: float | None = None
    wrote: float = 0.0
    row: int = -1

    @property
    def done(self) -> bool:
        """It says that all went well."""
        return self.status == 0

    @property
    def killed(self) -> bool:
        """It was killed."""
        return self.status == -9

    @property
    def busy(self) -> bool:
        """It says that another run was in its way."""
        return any(text in self.said for text in BUSY)


class Races:
    """Runs races in the process of `server.py`."""

    def __init__(self, process: subprocess.Popen, notes: Path) -> None:
        self.process, self.notes, self.count = process, notes, 0

    def __call__(self, *racers: Racer) -> list[Outcome]:
        """Run racers side by side and wait for them."""
        self.count += 1
        files = [self.notes / f"{self.count}-{index}" for index in range(len(racers))]
        jobs = [
            asdict(racer) | {"notes": str(file), "others": [str(other) for other in files if other != file]}
            for racer, file in zip(racers, files, strict=True)
        ]
        self.process.stdin.write(json.dumps(jobs) + "\n")
        self.process.stdin.flush()
        statuses = json.loads(self.process.stdout.readline())
        return [_outcome(*each) for each in zip(racers, statuses, files, strict=True)]


def _outcome(racer: Racer, status: int, notes: Path) -> Outcome:
    outcome = Outcome(racer, status)
    for line in notes.read_text().splitlines() if notes.is_file() else []:
        when, event, value = json.loads(line)
        if event == "said":
            outcome.said = value
        elif event == "looked":
            outcome.looked = when
        elif event == "starts":
            outcome.started = when
        elif event in ("writes", "row"):
            outcome.wrote = when
            outcome.row = value if event == "row" else outcome.row
    return outcome
