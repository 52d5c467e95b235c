"""Scaling of time and memory with the number of atoms, with a separate process for each size."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from mlff_calc.bench.systems import build_system
from mlff_calc.errors import BenchmarkError, OptionError

logger = logging.getLogger(__name__)

SILICON_SIZES = (512, 1000, 1728, 4096, 8000)  # default numbers of atoms, each 8 n^3; larger ones take more memory


def in_child(**fields: Any) -> dict[str, Any]:
    """Run a task of `mlff_calc.bench.child` in a new process.

    Raises:
        BenchmarkError: The process failed. The text quotes its last line, and says so if it was probably killed for memory.
    """
    command = [sys.executable, "-W", "ignore", "-m", "mlff_calc.bench.child", json.dumps(fields)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        killed = " (killed, most likely for lack of memory)" if done.returncode == -9 else ""
        msg = f"measuring {fields.get('system')} failed with status {done.returncode}{killed}: {words[0]}"
        raise BenchmarkError(msg)
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure_scaling(
    sizes: Sequence[int] = SILICON_SIZES, *, steps: int = 5, rounds: int = 1, **options: Any
) -> list[dict[str, Any]]:
    """Measure time per atom and peak memory of silicon supercells.

    Args:
        sizes: Numbers of atoms, each 8 n^3.
        steps: Number of timed steps of each size in each round.
        rounds: Number of rounds over all sizes, alternately in ascending and descending order. The fastest round of each
            size is reported, since other programs and a changing clock can only slow the machine down.
        options: Options `threads`, and `potential`, `device`, `precision`, `compiled` of `time_system`.

    Returns:
        One dict per size: the fields of `StepTiming`, `base_mib`, `memory_mib`, and `bytes_per_edge`, the difference of
        these two per edge.

    Raises:
        OptionError: There are no sizes, or no cubic supercell has one of them.
        BenchmarkError: A measurement failed.
    """
    if not sizes:
        msg = "no sizes to measure; give numbers of silicon atoms such as 512,1000,4096"
        raise OptionError(msg)
    for size in sizes:
        build_system(f"si{size}")
    best: dict[int, dict[str, Any]] = {}
    for turn in range(rounds):
        for size in sizes if turn % 2 == 0 else reversed(sizes):
            logger.info("measuring %d silicon atoms", size)
            row = in_child(task="step", system=f"si{size}", steps=steps, **options)
            row["bytes_per_edge"] = 2**20 * (row["memory_mib"] - row["base_mib"]) / row["n_edges"]
            if size not in best or row["total_ms"] < best[size]["total_ms"]:
                best[size] = row
    return [best[size] for size in sizes]


def flatness(rows: Sequence[dict[str, Any]]) -> float:
    """Return the ratio of largest and smallest time per atom, minus one; 0.15 means that times agree within 15 %."""
    times = [row["ms_per_atom"] for row in rows]
    return max(times) / min(times) - 1.0


def measure_memory(
    systems: Sequence[str], batch_sizes: Sequence[int], *, steps: int = 2, **options: Any
) -> list[dict[str, Any]]:
    """Measure the peak memory of training steps.

    Args:
        systems: Names of systems.
        batch_sizes: Numbers of frames per batch.
        steps: Number of optimizer steps.
        options: Options `threads`, and `potential`, `device`, `precision`, `compiled` of `time_system`.

    Returns:
        One dict per system and batch size.

    Raises:
        OptionError: A batch size is below one.
        BenchmarkError: A measurement failed.
    """
    if min(batch_sizes, default=0) < 1:
        msg = f"batch sizes {list(batch_sizes)}; give numbers of 1 or more"
        raise OptionError(msg)
    rows = []
    for system in systems:
        for batch_size in batch_sizes:
            logger.info("measuring training on %d x %s", batch_size, system)
            rows.append(in_child(task="training", system=system, batch_size=batch_size, steps=steps, **options))
    return rows
