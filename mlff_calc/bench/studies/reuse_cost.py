"""What tolerances cost: evaluations, time and force error of a step, in dynamics and for displaced copies.

Two rules are compared. By `precision` (what calculators do) warm steps and cold solves end at what the precision is for,
and a step that turns ends like a cold solve. With `one tolerance` a cold solve ends at the backbone's tolerance and every
later step at that of the mode, in float64 as in float32, wherever it goes.
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
    """Of the steps of one kind under one rule.

    Attributes:
        kind: of `KINDS`. precision: of the calculator. rule: of `RULES`.
        n_forward, n_adjoint: evaluations of f and products with its transposed Jacobian, mean over the steps.
        ms: processor time of a step, least over the repeats, mean over the steps; other programs hardly change it.
        error: largest deviation of a force from a solve to 1e-10, meV/Angstrom.
    """

    kind: str
    precision: str
    rule: str
    n_forward: float
    n_adjoint: float
    ms: float
    error: float

    def as_dict(self) -> dict[str, float | str]:
        """For a table."""
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
    """Costs of conservative steps, of both kinds, in both precisions and under both rules, on a CPU.

    Args:
        potential: on a fixed point.
        atoms: a structure at rest; copied.
        steps: of each kind; the solve they begin with does not count.
        repeats: how often the steps are timed.
        compiled: run compiled code.
        timestep_fs: of the dynamics, which begin with velocities of 600 K.

    Raises:
        OptionError: a potential without a fixed point.
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
    """Forces of one object that goes through the frames, and times in ms; the first two frames start the memory."""
    reuse = "conservative" if rule == "precision" else MODES["conservative"]
    calc = MLFFCalculator(potential, precision=precision, compile=compiled, device="cpu", reuse=reuse)
    model: ReusingModel = calc._models[0]  # noqa: SLF001 - the other rule is no option of calculators
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
    """The structure itself, and copies in which one atom is moved by 0.01 Angstrom to and fro, axis by axis."""
    yield atoms.copy()
    for i in range(steps + 1):
        moved = atoms.copy()
        moved.positions[i // 6 % len(atoms), i // 2 % 3] += 0.01 * (1 - 2 * (i % 2))
        yield moved
