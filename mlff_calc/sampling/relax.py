"""Relaxations of many structures at once, every one with its own step and its own end.

FIRE and L-BFGS make the same steps as ASE's optimizers of these names on each structure by itself; the sums over atoms that
they need are taken system by system. Structures that have converged or failed leave the batch.

Sources: Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006); Liu and Nocedal, Math. Program. 45, 503 (1989).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlff_calc.errors import OptionError
from mlff_calc.near import suggestion
from mlff_calc.sampling.evaluators import Evaluator
from mlff_calc.sampling.systems import FloatArray, Systems

MAX_STEP = 0.2
"""Longest displacement of an atom (L-BFGS) or of all atoms together (FIRE) in one step, Angstrom. Raising it makes long ways
shorter, and steps out of the region where the model of the energy holds more frequent."""
SHRINK = 0.95
"""Fraction of systems still at work below which the batch is packed anew. Raising it packs more often, which costs the
neighbour lists of those that are left."""


@dataclass(frozen=True)
class Relaxed:
    """Relaxed structures.

    Attributes:
        positions: [n_atoms, 3] Angstrom; of a failed system the last ones that could be evaluated.
        energies: [n_systems] eV; NaN of a system that never had one.
        fmax: Largest force on an atom [n_systems], eV/Angstrom.
        converged: Whether `fmax` was reached [n_systems].
        steps: Number of steps taken [n_systems].
        problems: Reason of each failure, by number of the system.
    """

    positions: FloatArray
    energies: FloatArray
    fmax: FloatArray
    converged: NDArray[np.bool_]
    steps: NDArray[np.int64]
    problems: dict[int, str]


class Optimizer(ABC):
    """What turns positions and forces of all systems into their next positions."""

    def __init__(self, systems: Systems) -> None:
        self.systems = systems

    @abstractmethod
    def step(self, positions: FloatArray, forces: FloatArray) -> FloatArray:
        """The next positions [n_atoms, 3] (Angstrom) after forces [n_atoms, 3] (eV/Angstrom)."""

    @abstractmethod
    def keep(self, chosen: NDArray[np.intp], rows: NDArray[np.intp], systems: Systems) -> None:
        """Go on with some of the systems alone: their numbers, and those of their atoms."""


class Fire(Optimizer):
    """FIRE: velocities that are turned towards the forces, and a time step that grows while the way goes downhill."""

    FIRST, LONGEST = 0.1, 1.0  # time steps
    GROW, SHRINK, PATIENCE = 1.1, 0.5, 5
    MIX, MIX_SHRINK = 0.1, 0.99

    def __init__(self, systems: Systems) -> None:
        super().__init__(systems)
        self.velocities: FloatArray | None = None
        n = len(systems)
        self.dt, self.mix, self.good = np.full(n, self.FIRST), np.full(n, self.MIX), np.zeros(n, dtype=np.int64)

    def step(self, positions: FloatArray, forces: FloatArray) -> FloatArray:
        """See `Optimizer`."""
        systems = self.systems
        if self.velocities is None:
            self.velocities = np.zeros_like(forces)
        else:
            downhill = systems.dot(forces, self.velocities) > 0.0
            speed, push = np.sqrt(systems.dot(self.velocities, self.velocities)), np.sqrt(systems.dot(forces, forces))
            turned = self.mix * speed / np.where(push > 0.0, push, 1.0)
            self.velocities = systems.spread(np.where(downhill, 1.0 - self.mix, 0.0)) * self.velocities
            self.velocities += systems.spread(np.where(downhill, turned, 0.0)) * forces
            faster = downhill & (self.good > self.PATIENCE)
            self.dt = np.where(faster, np.minimum(self.dt * self.GROW, self.LONGEST), self.dt)
            self.dt = np.where(downhill, self.dt, self.dt * self.SHRINK)
            self.mix = np.where(faster, self.mix * self.MIX_SHRINK, np.where(downhill, self.mix, self.MIX))
            self.good = np.where(downhill, self.good + 1, 0)
        self.velocities = self.velocities + systems.spread(self.dt) * forces
        moves = systems.spread(self.dt) * self.velocities
        length = np.sqrt(systems.dot(moves, moves))
        return positions + moves * systems.spread(np.where(length > MAX_STEP, MAX_STEP / np.maximum(length, 1e-300), 1.0))

    def keep(self, chosen: NDArray[np.intp], rows: NDArray[np.intp], systems: Systems) -> None:
        """See `Optimizer`."""
        self.systems = systems
        self.velocities = None if self.velocities is None else self.velocities[rows]
        self.dt, self.mix, self.good = self.dt[chosen], self.mix[chosen], self.good[chosen]


class Lbfgs(Optimizer):
    """L-BFGS: steps by an inverse Hessian that the last displacements and changes of the forces tell."""

    MEMORY = 30
    CURVATURE = 70.0  # first guess, eV/Angstrom^2

    def __init__(self, systems: Systems) -> None:
        super().__init__(systems)
        self.moves: list[FloatArray] = []
        self.changes: list[FloatArray] = []  # of the forces, with the sign of a gradient
        self.inverse: list[FloatArray] = []  # 1 / <move, change>, zero where a pair says nothing
        self.last: tuple[FloatArray, FloatArray] | None = None

    def step(self, positions: FloatArray, forces: FloatArray) -> FloatArray:
        """See `Optimizer`."""
        systems = self.systems
        if self.last is not None:
            self._learn(positions - self.last[0], self.last[1] - forces)
        self.last = positions, forces
        way = forces.copy()
        shares = []
        for move, change, inverse in zip(self.moves[::-1], self.changes[::-1], self.inverse[::-1], strict=True):
            shares.append(inverse * systems.dot(move, way))
            way -= systems.spread(shares[-1]) * change
        way /= self.CURVATURE
        for move, change, inverse in zip(self.moves, self.changes, self.inverse, strict=True):
            way += systems.spread(shares.pop() - inverse * systems.dot(change, way)) * move
        uphill = systems.dot(way, forces) <= 0.0
        if uphill.any():  # what was learned is wrong here: begin again along the force
            for inverse in self.inverse:
                inverse[uphill] = 0.0
            way = np.where(uphill.take(systems.index)[:, None], forces / self.CURVATURE, way)
        longest = np.sqrt(systems.maxima(np.einsum("ij,ij->i", way, way)))
        return positions + way * systems.spread(np.where(longest >= MAX_STEP, MAX_STEP / np.maximum(longest, 1e-300), 1.0))

    def _learn(self, move: FloatArray, change: FloatArray) -> None:
        """Remember a step; systems whose energy bends down along it learn nothing from it."""
        curvature = self.systems.dot(move, change)
        positive = curvature > 1e-14
        self.moves.append(move)
        self.changes.append(change)
        self.inverse.append(np.where(positive, 1.0 / np.where(positive, curvature, 1.0), 0.0))
        if len(self.moves) > self.MEMORY:
            for kept in (self.moves, self.changes, self.inverse):
                del kept[0]

    def keep(self, chosen: NDArray[np.intp], rows: NDArray[np.intp], systems: Systems) -> None:
        """See `Optimizer`."""
        self.systems = systems
        self.moves, self.changes = [m[rows] for m in self.moves], [c[rows] for c in self.changes]
        self.inverse = [inverse[chosen] for inverse in self.inverse]
        self.last = None if self.last is None else (self.last[0][rows], self.last[1][rows])


OPTIMIZERS: dict[str, type[Optimizer]] = {"LBFGS": Lbfgs, "FIRE": Fire}


def relax_systems(
    systems: Systems,
    positions: FloatArray,
    evaluator: Evaluator,
    *,
    fmax: float = 0.05,
    steps: int = 500,
    optimizer: str = "LBFGS",
    on_step: Callable[[int, int], None] | None = None,
) -> Relaxed:
    """Move the atoms of many systems downhill until no force is above `fmax`; cells stay as they are.

    Args:
        systems: Structures.
        positions: Initial positions [n_atoms, 3], Angstrom; not changed.
        evaluator: Evaluator of energies and forces.
        fmax: Largest force at convergence, eV/Angstrom.
        steps: Largest number of steps of a system.
        optimizer: Name of the optimizer, `LBFGS` or `FIRE`, in upper or lower case.
        on_step: Function that is called after every step with its number and the number of unfinished systems.

    Returns:
        Positions, energies, and how each system ended; a system that fails does not stop the others.

    Raises:
        OptionError: An option out of range.
        UnknownElementError: An element that the evaluator does not know.
    """
    method = check_relaxation(fmax, steps, optimizer)(systems)
    evaluator.check(systems)
    n = len(systems)
    ends = Relaxed(positions.copy(), np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, dtype=bool),
                   np.zeros(n, dtype=np.int64), {})  # fmt: skip
    active = np.arange(n)  # numbers, among all, of the systems in the batch
    places = np.arange(len(positions))  # and of their atoms
    running = np.ones(n, dtype=bool)  # of these, which still move
    here = positions.copy()
    for step in range(steps + 1):
        found = evaluator(systems, here)
        largest = np.sqrt(systems.maxima(np.einsum("ij,ij->i", found.forces, found.forces)))
        for k, text in found.problems.items():
            if running[k]:
                ends.problems[int(active[k])] = f"step {step}: {text}"
                running[k] = False
        now = active[running]
        ends.energies[now], ends.fmax[now], ends.steps[now] = found.energies[running], largest[running], step
        ends.converged[now] = largest[running] <= fmax
        atoms = running.take(systems.index)
        ends.positions[places[atoms]] = here[atoms]
        running &= largest > fmax
        if on_step is not None:
            on_step(step, int(running.sum()))
        if step == steps or not running.any():
            break
        moved = method.step(here, found.forces)
        here = np.where(running.take(systems.index)[:, None], moved, here)
        if running.mean() < SHRINK:
            chosen = running.nonzero()[0]
            rows = systems.rows(chosen)
            systems, here, active, places = systems.take(chosen), here[rows], active[chosen], places[rows]
            method.keep(chosen, rows, systems)
            running = np.ones(len(chosen), dtype=bool)
    return ends


def check_relaxation(fmax: float, steps: int, optimizer: str) -> type[Optimizer]:
    """The optimizer's class, after all options were looked at.

    Raises:
        OptionError: One of them is out of range.
    """
    if not (np.isfinite(fmax) and fmax > 0.0):
        raise OptionError(f"fmax is {fmax} eV/Angstrom; give a positive number, 0.05 for example")
    if steps < 0:
        raise OptionError(f"steps is {steps}; give 0 or more")
    if optimizer.upper() not in OPTIMIZERS:
        hint = suggestion(optimizer.upper(), OPTIMIZERS, after=" ")
        raise OptionError(f"unknown optimizer {optimizer!r}: {hint}choose {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[optimizer.upper()]


def relax_many(structures: Sequence[Atoms], evaluator: Evaluator, **options: float | str) -> tuple[list[Atoms], Relaxed]:
    """`relax_systems` for ASE's atoms: relaxed copies of the structures, and how each ended."""
    systems, positions = Systems.of(structures)
    ends = relax_systems(systems, positions, evaluator, **options)  # type: ignore[arg-type]
    copies = []
    for number, atoms in enumerate(structures):
        copy = atoms.copy()
        copy.positions = ends.positions[systems.starts[number] : systems.starts[number] + systems.sizes[number]]
        copies.append(copy)
    return copies, ends
