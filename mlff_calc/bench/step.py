"""Time of one calculator step with moving atoms: neighbours, model, total.

A step sets new positions and asks for energy and forces, as an MD step does. Total is wall time from outside the
calculator, so it holds what neither of the parts holds: conversion, checks, ASE's bookkeeping. Steps that rebuild the
neighbour list and steps that reuse it both count. The first steps (list, compilation, memory pools) are left out.
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
TARGET_SECONDS = 10.0
MIN_STEPS, MAX_STEPS = 5, 300


@dataclass(frozen=True)
class StepTiming:
    """Times of a step, ms unless said otherwise; every figure of a part is its median.

    Attributes:
        system: its name. potential: what was timed. n_atoms, n_edges: size; edges lie within the cutoff, both directions
            counted. cutoff: Angstrom. steps: timed steps. rebuilds: neighbour lists built during them.
        neighbors_ms, model_ms, copies_ms: parts. neighbors_mean_ms: mean, since rebuilding steps are rarer than the median
            shows. total_ms, min_ms, low_ms, high_ms: median, minimum and quartiles of the whole step.
        outside_us: microseconds of processor time outside the model, of calls of `get_forces` that reuse the neighbour list.
        us_per_edge: microseconds of the whole step per edge. ms_per_atom: per atom.
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
        """All fields, ready for JSON."""
        return asdict(self)


def time_steps(atoms: Atoms, calculator: MLFFCalculator, frames: np.ndarray) -> dict[str, np.ndarray]:
    """Seconds of each step through `frames` [n, n_atoms, 3] (Angstrom).

    Returns:
        Arrays [n] `total`, `neighbors`, `model`, `copies` in seconds, `outside` in seconds of processor time outside the
        model, and `rebuilds` as counts.
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
        system: a name from `SYSTEMS` or `siN`.
        potential: name or folder; by default what ships for this system, else random weights.
        steps: timed steps; by default as many as ten seconds hold, between 5 and 300.
        threads: threads of torch; None leaves them as they are.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `float32`, `mixed` or `float64`.
        compiled: compile the potential first.
        trust: open an exported file of somebody else.

    Raises:
        OptionError: unknown system, or an option that cannot be honoured.
        PotentialFileError: no such potential.
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
