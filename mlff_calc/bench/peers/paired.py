"""Paired timing: programs take turns on the same frames, so that changes in the speed of the machine affect all of them.

In a round every program is timed on the same few consecutive frames. The order is reversed in every other round. The first
step of a turn is not counted, since it refills caches that other programs have used. A ratio is the median over rounds of
the ratio of the two programs' medians in a round.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlff_calc.errors import BenchmarkError

logger = logging.getLogger(__name__)

WARM_UP = 3
"""Number of steps before the first round, which set the length of turns; a larger number gives a better estimate."""
MIN_TURN, MAX_TURN = 3, 40
"""Smallest and largest number of steps in a turn; larger values make longer rounds."""

Ask = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Spread:
    """Median, minimum and quartiles."""

    median: float
    minimum: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> Spread:
        """Return the spread of a non-empty array."""
        low, middle, high = np.percentile(values, [25, 50, 75])
        return cls(float(middle), float(np.min(values)), float(low), float(high))


def run_rounds(
    programs: dict[str, Ask], key: str, frames: Path, *, rounds: int, turn_seconds: float
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Let programs take turns on one system.

    Args:
        programs: Functions that send a command to the worker of a program, by name.
        key: Key under which the workers have loaded their calculators for this system.
        frames: File of moving frames, which are used cyclically.
        rounds: Number of rounds.
        turn_seconds: Time that a turn of the slowest program should take. It determines the number of steps of all turns.

    Returns:
        Seconds [rounds, steps] by program, and for programs that failed the reasons.
    """
    failures: dict[str, str] = {}
    slowest = 0.0
    for name, ask in programs.items():
        reply = _try(name, ask, failures, key=key, frames=str(frames), start=0, steps=WARM_UP)
        slowest = max(slowest, min(reply["seconds"]) if reply else 0.0)
    steps = int(np.clip(turn_seconds / max(slowest, 1e-9), MIN_TURN, MAX_TURN))
    seconds: dict[str, list[list[float]]] = {name: [] for name in programs if name not in failures}
    for turn in range(rounds):
        start = WARM_UP + turn * (steps + 1)
        for name in list(seconds)[:: -1 if turn % 2 else 1]:
            reply = _try(name, programs[name], failures, key=key, frames=str(frames), start=start, steps=steps + 1)
            if reply is None:
                del seconds[name]
            else:
                seconds[name].append(reply["seconds"][1:])
    return {name: np.array(values) for name, values in seconds.items()}, failures


def _try(name: str, ask: Ask, failures: dict[str, str], **fields: Any) -> dict[str, Any] | None:
    try:
        return ask("time", **fields)
    except BenchmarkError as error:
        failures[name] = str(error)
        logger.warning("%s dropped out: %s", name, error)
        return None


def paired_ratio(ours: np.ndarray, other: np.ndarray) -> Spread:
    """Return the ratio of our time to that of another program, from seconds [rounds, steps]; below 1 ours is faster."""
    return Spread.of(np.median(ours, axis=1) / np.median(other, axis=1))
