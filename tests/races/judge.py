"""Conditions after a race of two runs in one folder, for any order of starts and kills."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .racers import Outcome, Racer, Races


@dataclass(frozen=True)
class Content:
    """Content of a folder: the seed of its run (None for no run), its saved progress, and whether it is finished."""

    seed: int | None = None
    progress: int = -1
    finished: bool = False


@dataclass(frozen=True)
class Kind:
    """A command that is raced.

    Attributes:
        command: Function that makes a command line from `how`, seed, folder and length.
        look: Function that reads a folder, and asserts that its content equals bit by bit that of an undisturbed run.
        resumable: Function that tells whether the run of a seed and length may be resumed from the content of a folder.
        refusals: Texts that a racer may print if it found a run that it can neither replace nor resume.
        lengths: Lengths of the shortest and longest run.
        seconds: Approximate duration of a race.
    """

    command: Callable[[str, int, Path, int], tuple[str, ...]]
    look: Callable[[Path], Content]
    resumable: Callable[[Content, int, int], bool]
    refusals: tuple[str, ...]
    lengths: tuple[int, int]
    seconds: float

    def racer(self, how: str, seed: int, folder: Path, length: int, **more: object) -> Racer:
        """Return a racer of this kind."""
        return Racer(how, seed, length, self.command(how, seed, folder, length), **more)

    def draw(self, draw: random.Random, folder: Path, index: int) -> Racer:
        """Return a racer with random way of starting, length, delay and kill."""
        how = draw.choice(["start", "resume", "overwrite"])
        kill: float | str | None = None
        if draw.random() < 0.3:
            kill = draw.choice([f"row {draw.randint(1, self.lengths[0])}", draw.uniform(0.0, self.seconds)])
        return self.racer(
            how, 0 if how == "resume" else index + 1, folder, draw.randint(*self.lengths),
            delay=index * draw.choice([0.0, draw.uniform(0.0, self.seconds)]), kill=kill,
            slow=draw.choice([0.0, self.seconds / self.lengths[1]]),
        )  # fmt: skip


def random_race(races: Races, kind: Kind, place: Path, seed: int, templates: dict[str, Path | None]) -> Counter[str]:
    """Race two random runs in a folder with or without an earlier run, and check the result.

    Returns:
        The number of times that each kind of end occurred.
    """
    draw = random.Random(seed)
    folder = place / f"race{seed}"
    template = templates[draw.choice(sorted(templates))]
    if template is not None:
        shutil.copytree(template, folder)
    before, files = kind.look(folder), tree(folder)
    outcomes = races(*(kind.draw(draw, folder, index) for index in range(2)))
    judge(kind, folder, before, files, outcomes)
    end(races, kind, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return Counter(how_it_ended(outcome) for outcome in outcomes)


def how_it_ended(outcome: Outcome) -> str:
    """Return the kind of end as a word."""
    if outcome.done or outcome.killed:
        return "done" if outcome.done else "killed"
    return "refused, busy" if outcome.busy else "refused"


def judge(kind: Kind, folder: Path, before: Content, files: dict[str, bytes], outcomes: list[Outcome]) -> None:
    """Assert that every end is explained, that nothing was lost, and that the folder holds one complete run."""
    for outcome, other in (outcomes, reversed(outcomes)):
        _explained(kind, before, outcome, other)
    after = kind.look(folder)
    started = sorted((each for each in outcomes if each.started is not None), key=lambda each: each.started)
    if not started:
        assert tree(folder) == files
        return
    if len(started) == 2:  # the second racer read the folder after the last write of the first one
        assert started[1].looked > started[0].wrote, outcomes
    last, base = started[-1], before if len(started) == 1 else _left_by(started[0], before)
    if last.done:
        assert (after.seed, after.progress) == (last.racer.seed, last.racer.length), (after, outcomes)
        assert after.finished
    elif last.row > 0:  # row N is written after the state of row N - 1 was saved
        assert after.seed == last.racer.seed, (after, outcomes)
        assert after.progress >= last.row - 1, (after, outcomes)
    elif last.racer.how == "resume" and base.seed is not None:
        assert after.seed == last.racer.seed, (after, outcomes)
        assert after.progress >= base.progress, (after, outcomes)
    else:
        assert after.seed in (None, last.racer.seed, base.seed), (after, outcomes)


def _left_by(first: Outcome, before: Content) -> Content:
    """Return the smallest progress that the first run must have left for the second one."""
    if first.done:
        return Content(first.racer.seed, first.racer.length, finished=True)
    if first.row > 0:
        return Content(first.racer.seed, first.row - 1)
    return before if first.racer.how == "resume" else Content()


def _explained(kind: Kind, before: Content, outcome: Outcome, other: Outcome) -> None:
    """Assert that the exit status fits the events, and that a racer that did not start gives the reason."""
    assert outcome.status in (0, 1, -9), (outcome, other)
    if outcome.killed:
        assert outcome.racer.kill is not None
        return
    if outcome.done:
        assert outcome.started is not None, outcome
        return
    assert outcome.started is None, outcome
    assert outcome.said.count("mlff: error:") == 1, outcome
    assert "not foreseen" not in outcome.said, outcome
    if outcome.busy:
        assert other.done or other.killed, (outcome, other)
        return
    assert any(text in outcome.said for text in kind.refusals), outcome
    if other.started is None:  # its text is about the earlier run
        racer = outcome.racer
        assert racer.how != "overwrite", outcome
        free = before.seed is None if racer.how == "start" else kind.resumable(before, racer.seed, racer.length)
        assert not free, outcome


def end(races: Races, kind: Kind, folder: Path) -> None:
    """Resume the run in the folder, and assert that it ends like an undisturbed run."""
    left = kind.look(folder)
    if left.finished and left.progress >= kind.lengths[1]:
        return
    seed, length = left.seed or 0, kind.lengths[1]
    how = "start" if left.seed is None else "resume"
    if how == "resume" and not kind.resumable(left, seed, length):
        return
    (outcome,) = races(kind.racer(how, seed, folder, length))
    assert outcome.done, (left, outcome)
    assert kind.look(folder) == Content(seed, length, finished=True)


def tree(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, except the lock, with their contents."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
