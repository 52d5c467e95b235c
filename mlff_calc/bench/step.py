"""Time of one calculator step with moving atoms: neighbour list, model and total.

A step sets new positions and computes energy and forces, as an MD step does. The total is wall time measured outside the
calculator, so it includes conversion, checks and ASE's bookkeeping, which belong to neither part. Both steps that rebuild
the neighbour list and steps that reuse it count. The first steps, which build the list, compile code and fill memory pools,
are left out.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms

from mlff_calc.bench.models import calculator_for
from mlff_calc.bench.motion import moving_frames
from mlff_calc.bench.outside import clocked
from mlff_calc.bench.systems import build_system
from mlff_calc.bench.threads import limited_threads
from mlff_calc.calculators import MLFFCalculator
from mlff_calc.errors import OptionError
from mlff_calc.graph import neighbor_pairs

WARM_UP = 5
"""Number of first steps that are not counted; a larger number only costs time."""
TARGET_SECONDS = 10.0
"""Length of a measurement without a given number of steps; a larger value gives steadier medians."""
MIN_STEPS, MAX_STEPS = 5, 300
"""Smallest and largest number of steps of such a measurement; larger values give steadier medians and take longer."""


@dataclass(frozen=True)
class StepTiming:
    """Times of a step.

    Attributes:
        system: Name of the system.
        potential: Label of the potential.
        n_atoms: Number of atoms.
        n_edges: Number of edges within the cutoff; both directions count.
        cutoff: Cutoff, Angstrom.
        steps: Number of timed steps.
        rebuilds: Number of neighbour lists that were built in these steps.
        neighbors_ms, model_ms, copies_ms: Median times of the parts of a step, ms.
        neighbors_mean_ms: Mean time of the neighbour list, ms; the median does not show the rare steps that rebuild it.
        outside_us: Median processor time outside the model of calls of `get_forces` that reuse the list, microseconds.
        total_ms, min_ms, low_ms, high_ms: Median, minimum and quartiles of the whole step, ms.
        us_per_edge: Median time of the whole step per edge, microseconds.
        ms_per_atom: Median time of the whole step per atom, ms.
    """

    system: str
    potential: str
    n_atoms: int
    n_edges: int
    cutoff: float
    steps: int
    rebuilds: int
    neighbors_ms: float
    neighbors_mean_ms: float
    model_ms: float
    copies_ms: float
    outside_us: float
    total_ms: float
    min_ms: float
    low_ms: float
    high_ms: float
    us_per_edge: float
    ms_per_atom: float

    def as_dict(self) -> dict[str, Any]:
        """Return all fields by name, ready for JSON."""
        return asdict(self)


def time_steps(atoms: Atoms, calculator: MLFFCalculator, frames: np.ndarray) -> dict[str, np.ndarray]:
    """Time the step of each frame of `frames` [n, n_atoms, 3] (Angstrom).

    Returns:
        Arrays [n]: `total`, `neighbors`, `model`, `copies` in seconds of wall time, `outside` in seconds of processor time
        outside the model, and the counts `rebuilds`.
    """
    atoms = atoms.copy()
    atoms.calc = calculator
    stats = calculator.stats
    rows = []
    with clocked(calculator) as in_model:
        for positions in frames:
            atoms.positions[:] = positions
            before = (stats.neighbors_s, stats.model_s, stats.copies_s, stats.n_rebuilds)
            start, processor = time.perf_counter(), time.process_time()
            atoms.get_forces()
            outside = time.process_time() - processor - in_model[-1]
            atoms.get_potential_energy()
            total = time.perf_counter() - start
            after = (stats.neighbors_s, stats.model_s, stats.copies_s, stats.n_rebuilds)
            rows.append((total, outside, *np.subtract(after, before)))
    columns = np.array(rows).T
    return dict(zip(("total", "outside", "neighbors", "model", "copies", "rebuilds"), columns, strict=True))


def time_system(
    system: str,
    *,
    potential: str | None = None,
    steps: int | None = None,
    threads: int | None = 1,
    device: str = "cpu",
    precision: str = "float32",
    compiled: bool = False,
    trust: bool = False,
) -> StepTiming:
    """Time the steps of one system.

    Args:
        system: Name of the system, from `SYSTEMS` or `siN`.
        potential: Name or folder; by default the potential shipped for this system, or random weights without one.
        steps: Number of timed steps; by default those that fit into ten seconds, between 5 and 300.
        threads: Number of threads of PyTorch; None leaves it unchanged.
        device: Device, `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: Precision, `float32`, `mixed` or `float64`.
        compiled: Whether to compile the potential first.
        trust: Whether to open an exported file made by somebody else.

    Raises:
        OptionError: The system is unknown, or an option cannot be honoured.
        PotentialFileError: The potential does not exist.
    """
    if steps is not None and steps < 1:
        msg = f"{steps} steps cannot be timed; give 1 or more"
        raise OptionError(msg)
    atoms = build_system(system)
    with limited_threads(threads):
        calculator, name = calculator_for(
            system, atoms, potential=potential, precision=precision, compiled=compiled, device=device,
            trust=trust,
        )
        warm_up = time_steps(atoms, calculator, moving_frames(atoms, WARM_UP))
        if steps is None:
            steps = int(np.clip(TARGET_SECONDS / warm_up["total"].min(), MIN_STEPS, MAX_STEPS))
        frames = moving_frames(atoms, WARM_UP + steps)[WARM_UP:]
        times = time_steps(atoms, calculator, frames)
    atoms.positions[:] = frames[-1]
    return _summary(system, name, atoms, calculator.cutoff, times)


def _summary(system: str, name: str, atoms: Atoms, cutoff: float, times: dict[str, np.ndarray]) -> StepTiming:
    n_edges = len(neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, cutoff).centers)
    ms = {part: 1e3 * values for part, values in times.items()}
    total = float(np.median(ms["total"]))
    reused = times["rebuilds"] == 0
    return StepTiming(
        system=system,
        potential=name,
        n_atoms=len(atoms),
        n_edges=n_edges,
        cutoff=cutoff,
        steps=len(ms["total"]),
        rebuilds=int(times["rebuilds"].sum()),
        neighbors_ms=float(np.median(ms["neighbors"])),
        neighbors_mean_ms=float(np.mean(ms["neighbors"])),
        model_ms=float(np.median(ms["model"])),
        copies_ms=float(np.median(ms["copies"])),
        outside_us=1e3 * float(np.median(ms["outside"][reused] if reused.any() else ms["outside"])),
        total_ms=total,
        min_ms=float(ms["total"].min()),
        low_ms=float(np.percentile(ms["total"], 25)),
        high_ms=float(np.percentile(ms["total"], 75)),
        us_per_edge=1e3 * total / max(n_edges, 1),
        ms_per_atom=total / len(atoms),
    )
