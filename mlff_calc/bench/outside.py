"""Processor time of a call outside the model, which is spent in the calculator and in ASE.

Run as a program, this module compares source trees; the timer of this file is used for all of them::

    python -m mlff_calc.bench.outside ethanol --tree OLDER_CHECKOUT --rounds 9

The trees take turns, each in a separate process, so that changes in the speed of the machine affect both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mlff_calc.calculators.base import GraphCalculator

STEPS = 400
"""Number of timed calls; more calls give a steadier median."""


@contextmanager
def clocked(calculator: GraphCalculator) -> Iterator[list[float]]:
    """Yield a list to which each evaluation of the model (of all members) in the block adds its processor seconds."""
    spent: list[float] = []
    outputs: Any = calculator._outputs  # noqa: SLF001 - the boundary between the model and everything else

    def timed(graph: Any) -> Any:  # noqa: ANN401
        begin = time.process_time()
        found = outputs(graph)
        spent.append(time.process_time() - begin)
        return found

    calculator._outputs = timed  # type: ignore[method-assign]  # noqa: SLF001
    try:
        yield spent
    finally:
        del calculator._outputs  # noqa: SLF001


def measure(system: str, steps: int = STEPS) -> dict[str, float]:
    """Measure calls of `get_forces` that rebuild no neighbour list, on one thread.

    Args:
        system: Name of the system, see `build_system`; its shipped potential is compiled.
        steps: Number of calls.

    Returns:
        Microseconds of processor time: `outside_us` and `model_us` (medians outside and inside the model), `least_us`
        (minimum outside).
    """
    from mlff_calc.bench.models import calculator_for
    from mlff_calc.bench.motion import moving_frames
    from mlff_calc.bench.systems import build_system
    from mlff_calc.bench.threads import limited_threads

    atoms = build_system(system)
    rows = []
    with limited_threads(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the frames may be outside the training data, which does not matter for timing
        calculator, _ = calculator_for(system, atoms, compiled=True)
        atoms.calc = calculator
        with clocked(calculator) as spent:
            for positions in moving_frames(atoms, steps):
                atoms.positions[:] = positions
                rebuilds, begin = calculator.stats.n_rebuilds, time.process_time()
                atoms.get_forces()
                total = time.process_time() - begin
                if calculator.stats.n_rebuilds == rebuilds:
                    rows.append((total - spent[-1], spent[-1]))
    outside, model = 1e6 * np.array(rows).T
    return {"outside_us": float(np.median(outside)), "least_us": float(outside.min()), "model_us": float(np.median(model))}


def compare(system: str, trees: list[Path], rounds: int) -> list[dict[str, float]]:
    """Return medians over rounds of `measure` for each source tree; the processes run one after the other."""
    rows: dict[Path, list[dict[str, float]]] = {tree: [] for tree in trees}
    for turn in range(rounds):
        for tree in trees[:: -1 if turn % 2 else 1]:
            environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            program = f"import runpy; runpy.run_path({__file__!r}, run_name='__main__')"  # not this tree's package
            command = [sys.executable, "-c", program, system, "--alone"]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tree)
            rows[tree].append(json.loads(done.stdout.splitlines()[-1]))
    return [{name: float(np.median([row[name] for row in of])) for name in of[0]} for of in rows.values()]


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", nargs="?", default="ethanol")
    parser.add_argument("--tree", type=Path, help="another checkout of this repository")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", action="store_true", help="this process only, as JSON")
    options = parser.parse_args()
    if options.alone:
        sys.stdout.write(json.dumps(measure(options.system)) + "\n")
        return
    here = Path(__file__).resolve().parents[2]
    trees = [here] if options.tree is None else [options.tree.resolve(), here]
    for tree, row in zip(trees, compare(options.system, trees, options.rounds), strict=True):
        text = ", ".join(f"{name} {value:.0f}" for name, value in row.items())
        sys.stdout.write(f"{tree}: {text}\n")


if __name__ == "__main__":
    _main()
