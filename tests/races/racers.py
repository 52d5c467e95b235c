"""Racers, records of their events, and the process in which they run."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

BUSY = ("another process is running in", "another run has written")


@dataclass(frozen=True)
class Racer:
    """One of the processes of a race.

    Attributes:
        how: Way of starting, `start`, `resume` or `overwrite`.
        seed: Seed, which identifies the run.
        length: Steps or epochs of the whole run.
        words: Command line.
        delay: Seconds between the start of the race and that of this process.
        kill: Seconds after its start at which it is killed, or "row N"; None does not kill it.
        slow: Seconds that it waits before every row.
        after: Row of the first racer after which it starts; None starts it after the delay.
        hold: Row at which it waits until all others have ended; None does not wait.
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
    """Record of a racer, with times of the monotonic clock of the system.

    Attributes:
        racer: Racer.
        status: Exit status; negative if it was killed.
        said: Text on standard error.
        looked: Time at which it had read the folder; None if it never did.
        started: Time at which it had locked the folder and began to change it; None if it never did.
        wrote: Last recorded time at which it was about to write.
        row: Last row recorded as written; -1 for none.
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
        """Whether it reports success."""
        return self.status == 0

    @property
    def killed(self) -> bool:
        """Whether it was killed."""
        return self.status == -9

    @property
    def busy(self) -> bool:
        """Whether it reports that another run was in the folder."""
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
