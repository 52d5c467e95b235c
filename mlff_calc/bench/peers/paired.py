"""Paired timing: programs take turns on the same frames, so that a machine's drift falls on all of them alike.

In a round every program times the same few consecutive frames; the order turns around from round to round. The first step of
a turn only warms the caches that the other programs have emptied. A ratio is the median over rounds of the ratio of the
two programs' medians in that round.
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
MIN_TURN, MAX_TURN = 3, 40

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
        """Of any non-empty array."""
        low, middle, high = np.percentile(values, [25, 50, 75])
        return cls(float(middle), float(np.min(values)), float(low), float(high))


def run_rounds(
    programs: dict[str, Ask], key: str, frames: Path, *, rounds: int, turn_seconds: float
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Let programs take turns on one system.

    Args:
        programs: by name, how to ask its worker.
        key: what the workers have loaded for this system.
        frames: file of moving frames; they are gone through in a circle.
        rounds: number of rounds.
        turn_seconds: how long the slowest program's turn should take, which sets the steps of everybody's turn.

    Returns:
        Seconds [rounds, steps] by program, and the reasons of those that failed on the way.
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
    """Ratio of our time to another program's, from seconds [rounds, steps] of each; below one, ours is faster."""
    return Spread.of(np.median(ours, axis=1) / np.median(other, axis=1))
