"""Cost of tolerances: evaluations, time and force error of a step, in dynamics and for displaced copies.

Two rules are compared. With `precision`, which calculators use, warm steps and cold solves use tolerances that depend on the
precision, and a step in another direction than the last uses the tolerance of a cold solve. With `one tolerance`, a cold
solve uses the tolerance of the backbone and all later steps that of the mode, in both precisions and for all directions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from mlff_calc.bench.reuse import reference_of
from mlff_calc.calculators import MLFFCalculator
from mlff_calc.calculators.reuse import MODES, ReusingModel
from mlff_calc.dynamics.velocities import set_maxwell_velocities
from mlff_calc.potential import Potential

RULES = ("one tolerance", "precision")
KINDS = ("dynamics", "displaced copies")


@dataclass(frozen=True)
class Cost:
    """Costs of the steps of one kind with one rule.

    Attributes:
        kind: Kind of the steps, from `KINDS`.
        precision: Precision of the calculator.
        rule: Rule for tolerances, from `RULES`.
        n_forward, n_adjoint: Mean numbers per step of evaluations of f and of products with its transposed Jacobian.
        ms: Processor time of a step, as the minimum over repeats and the mean over steps.
        error: Largest deviation of a force component from a solve to 1e-10, meV/Angstrom.
    """

    kind: str
    precision: str
    rule: str
    n_forward: float
    n_adjoint: float
    ms: float
    error: float

    def as_dict(self) -> dict[str, float | str]:
        """Return all fields by name."""
        return asdict(self)


def step_costs(
    potential: Potential,
    atoms: Atoms,
    *,
    steps: int = 24,
    repeats: int = 3,
    compiled: bool = False,
    timestep_fs: float = 0.5,
) -> list[Cost]:
    """Measure the costs of conservative steps of both kinds, in both precisions and with both rules, on a CPU.

    Args:
        potential: Potential with a fixed point.
        atoms: Structure at rest, which is copied.
        steps: Number of steps of each kind, not counting the first solve.
        repeats: Number of times the steps are timed.
        compiled: Whether to run compiled code.
        timestep_fs: Time step of the dynamics, which start with velocities of 600 K.

    Raises:
        OptionError: The potential has no fixed point.
    """
    reference, found = reference_of(potential), []
    for kind in KINDS:
        frames = _trajectory(potential, atoms, steps, timestep_fs) if kind == "dynamics" else list(_displaced(atoms, steps))
        exact = [reference.evaluate(frame)["forces"] for frame in frames[2:]]
        for precision in ("float32", "float64"):
            for rule in RULES:
                runs = [_follow(potential, frames, precision, rule, compiled) for _ in range(repeats)]
                calc, forces, _ = runs[0]
                times = np.min([spent for _, _, spent in runs], axis=0)
                error = max(float(np.abs(a - b).max()) for a, b in zip(forces, exact, strict=True))
                n_forward, n_adjoint = calc.stats.n_forward / len(exact), calc.stats.n_adjoint / len(exact)
                found.append(Cost(kind, precision, rule, n_forward, n_adjoint, float(times.mean()), 1e3 * error))
    return found


def _follow(
    potential: Potential, frames: list[Atoms], precision: str, rule: str, compiled: bool
) -> tuple[MLFFCalculator, list[np.ndarray], list[float]]:
    """Evaluate the frames in order with one Atoms object.

    Returns:
        Calculator, forces, and times in ms, without the first two frames, which fill the memory.
    """
    reuse = "conservative" if rule == "precision" else MODES["conservative"]
    calc = MLFFCalculator(potential, precision=precision, compile=compiled, device="cpu", reuse=reuse)
    model: ReusingModel = calc._models[0]  # noqa: SLF001 - calculators have no option for the other rule
    loose = potential.config["backbone"]["tolerance"]
    moving, forces, spent = frames[0].copy(), [], []
    for i, frame in enumerate(frames):
        if i == 2:
            calc.stats.reset()
        if rule == "one tolerance":
            model.potential.backbone.tolerance = loose if i == 0 else model.mode.tolerance
        moving.positions[:] = frame.positions
        start = time.process_time()
        result = calc.evaluate(moving)["forces"]
        if i >= 2:
            spent.append(1e3 * (time.process_time() - start))
            forces.append(result)
    return calc, forces, spent


def _trajectory(potential: Potential, atoms: Atoms, steps: int, timestep_fs: float) -> list[Atoms]:
    moving, frames = atoms.copy(), []
    set_maxwell_velocities(moving, 600.0, seed=0)
    moving.calc = MLFFCalculator(potential, device="cpu")
    dynamics = VelocityVerlet(moving, timestep_fs * units.fs)
    dynamics.attach(lambda: frames.append(Atoms(moving, velocities=None)))
    dynamics.run(steps + 1)
    return frames


def _displaced(atoms: Atoms, steps: int) -> Iterator[Atoms]:
    """Yield the structure, and copies with one atom displaced by +0.01 or -0.01 Angstrom along one axis."""
    yield atoms.copy()
    for i in range(steps + 1):
        moved = atoms.copy()
        moved.positions[i // 6 % len(atoms), i // 2 % 3] += 0.01 * (1 - 2 * (i % 2))
        yield moved
