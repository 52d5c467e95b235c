"""What must hold after a race of two runs in one folder, whoever came first, and whoever was killed when."""

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
    """What a folder holds: whose run, how far it is saved, and whether it is finished; `seed` is None for no run."""

    seed: int | None = None
    progress: int = -1
    finished: bool = False


@dataclass(frozen=True)
class Kind:
    """What is raced.

    Attributes:
        command: makes a command line of `how`, seed, folder and length.
        look: reads a folder, and asserts that what it holds is bit for bit of the run that was alone in its folder.
        resumable: whether the run of a seed and length may be resumed on what the folder holds.
        refusals: what a racer may say that found a run that it cannot start over or go on with.
        lengths: shortest and longest run.
        seconds: how long a race takes, about.
    """

    command: Callable[[str, int, Path, int], tuple[str, ...]]
    look: Callable[[Path], Content]
    resumable: Callable[[Content, int, int], bool]
    refusals: tuple[str, ...]
    lengths: tuple[int, int]
    seconds: float

    def racer(self, how: str, seed: int, folder: Path, length: int, **more: object) -> Racer:
        """A racer of this kind."""
        return Racer(how, seed, length, self.command(how, seed, folder, length), **more)

    def draw(self, draw: random.Random, folder: Path, index: int) -> Racer:
        """A racer with a random way, length, delay and death."""
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
    """Race two random runs in a folder that holds one of some runs, or none, and judge what is left.

    Returns:
        How often each kind of end was seen.
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
    """In a word."""
    if outcome.done or outcome.killed:
        return "done" if outcome.done else "killed"
    return "refused, busy" if outcome.busy else "refused"


def judge(kind: Kind, folder: Path, before: Content, files: dict[str, bytes], outcomes: list[Outcome]) -> None:
    """Assert that every end is explained, that nothing was lost, and that the folder is whole and of one run."""
    for outcome, other in (outcomes, reversed(outcomes)):
        _explained(kind, before, outcome, other)
    after = kind.look(folder)
    started = sorted((each for each in outcomes if each.started is not None), key=lambda each: each.started)
    if not started:
        assert tree(folder) == files
        return
    if len(started) == 2:  # the second one decided by what it saw after the first one had written its last
        assert started[1].looked > started[0].wrote, outcomes
    last, base = started[-1], before if len(started) == 1 else _left_by(started[0], before)
    if last.done:
        assert (after.seed, after.progress) == (last.racer.seed, last.racer.length), (after, outcomes)
        assert after.finished
    elif last.row > 0:  # row N is written after what can be resumed of row N - 1 was saved
        assert after.seed == last.racer.seed, (after, outcomes)
        assert after.progress >= last.row - 1, (after, outcomes)
    elif last.racer.how == "resume" and base.seed is not None:
        assert after.seed == last.racer.seed, (after, outcomes)
        assert after.progress >= base.progress, (after, outcomes)
    else:
        assert after.seed in (None, last.racer.seed, base.seed), (after, outcomes)


def _left_by(first: Outcome, before: Content) -> Content:
    """The least that the first run has left for the second one."""
    if first.done:
        return Content(first.racer.seed, first.racer.length, finished=True)
    if first.row > 0:
        return Content(first.racer.seed, first.row - 1)
    return before if first.racer.how == "resume" else Content()


def _explained(kind: Kind, before: Content, outcome: Outcome, other: Outcome) -> None:
    """Assert that the exit status fits what happened, and that who did not start says why."""
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
    if other.started is None:  # what it says is of the run that was there before
        racer = outcome.racer
        assert racer.how != "overwrite", outcome
        free = before.seed is None if racer.how == "start" else kind.resumable(before, racer.seed, racer.length)
        assert not free, outcome


def end(races: Races, kind: Kind, folder: Path) -> None:
    """Go on with what is there, whatever happened before, and assert that it comes to the end that it would have had."""
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
    """The files of a folder but the lock, with their contents."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
