"""Dynamics of students in one batch, each trajectory until it becomes implausible.

A trajectory ends where two atoms are nearer than `NEAR` times their covalent radii, where a force is larger than allowed,
where its temperature is above `HOT` times that of the thermostat, or where a bond breaks or forms. Its last plausible
frame is then a candidate for a label, whatever its spread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii
from numpy.typing import NDArray

from mlff_calc.distillation.sections import ExploreSection
from mlff_calc.distillation.students import Judgement
from mlff_calc.errors import StructureError
from mlff_calc.graph.bonds import BOND
from mlff_calc.sampling.evaluators import Evaluation, Evaluator
from mlff_calc.sampling.langevin import Langevin
from mlff_calc.sampling.systems import FloatArray, Systems

NEAR = 0.6
"""Times the sum of covalent radii below which two atoms are too near."""
HOT = 3.0
"""Times the temperature of the thermostat above which a trajectory is too hot."""
WITH_HYDROGEN, USUAL = 0.5, 2.0
"""Time steps where none is given, fs."""
COVALENT = {"H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Ge", "As", "Se", "Br", "I"}
"""Elements whose molecules have bonds that are looked at; others bind as they like."""
BROKEN, MADE = 1.6, 1.05
"""Times the sum of covalent radii above which a bond has broken, and below which one has formed."""


@dataclass
class Explored:
    """Frames of trajectories.

    Attributes:
        frames: Plausible frames, with `replica`, `step` and `temperature` in `info`.
        spreads: Largest spread of a force in each frame, eV/Angstrom.
        last: Numbers of the last plausible frames of trajectories that ended.
        ends: Reason why a trajectory ended, by its number.
    """

    frames: list[Atoms] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    ends: dict[int, str] = field(default_factory=dict)

    @property
    def endings(self) -> Counter[str]:
        """Number of trajectories for each reason why they ended."""
        return Counter(self.ends.values())


class Judge(Protocol):
    """What gives forces and their spread."""

    def judge(self, systems: Systems, positions: FloatArray) -> Judgement:
        """Energies, forces and spreads at positions [n_atoms, 3] (Angstrom); a StructureError where there are none."""
        ...

    def fails(self, systems: Systems, positions: FloatArray) -> NDArray[np.bool_]:
        """Whether each system [n_systems] cannot be judged."""
        ...


class _Watched(Evaluator):
    """Forces of students; trajectories that have ended stand still in the eyes of the students, and feel no force."""

    def __init__(self, students: Judge, starts: FloatArray, max_force: float) -> None:
        self.students, self.starts, self.max_force = students, starts, max_force
        self.ended: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self.why: dict[int, str] = {}
        self.spreads: FloatArray = np.zeros(0)

    def end(self, numbers: NDArray[np.bool_], why: str) -> None:
        """End trajectories."""
        for number in np.flatnonzero(numbers & ~self.ended):
            self.why[int(number)] = why
        self.ended |= numbers

    def __call__(self, systems: Systems, positions: FloatArray) -> Evaluation:
        """See `Evaluator`."""
        if not len(self.ended):
            self.ended = np.zeros(len(systems), dtype=bool)
        self.end(~np.isfinite(systems.sums(positions).sum(axis=1)), "positions that are not finite")
        try:
            found = self.students.judge(systems, self._seen(systems, positions))
        except StructureError:
            self.end(self.students.fails(systems, self._seen(systems, positions)), "atoms that overlap")
            found = self.students.judge(systems, self._seen(systems, positions))
        lengths = systems.maxima(np.linalg.norm(found.forces, axis=1))
        self.end(~(lengths <= self.max_force) | ~np.isfinite(found.energies), "forces that are too large")
        self.spreads = np.where(self.ended, 0.0, systems.maxima(found.spreads))
        quiet = systems.spread(self.ended.astype(np.float64)) > 0.0
        return Evaluation(np.where(self.ended, 0.0, found.energies), np.where(quiet, 0.0, found.forces))

    def _seen(self, systems: Systems, positions: FloatArray) -> FloatArray:
        """Positions, those of the start where a trajectory has ended."""
        return np.where(systems.spread(self.ended.astype(np.float64)) > 0.0, self.starts, positions)


def explore(
    students: Judge, starts: Sequence[Atoms], section: ExploreSection, n_steps: int, seed: int
) -> Explored:
    """Run a trajectory from each start.

    Args:
        students: What gives the forces.
        starts: Structures that are plausible, with `system` in `info`.
        section: Temperatures, time step and limits.
        n_steps: Number of steps.
        seed: Seed of velocities and noise.
    """
    systems, positions = Systems.of(starts)
    temperatures = np.resize(np.asarray(section.temperatures, dtype=np.float64), len(starts))
    watched = _Watched(students, positions, section.max_force)
    usual = WITH_HYDROGEN if (systems.numbers == 1).any() else USUAL
    run = Langevin(
        systems, positions, watched, temperatures=temperatures, timestep=section.timestep or usual,
        friction=section.friction, seed=seed,
    )  # fmt: skip
    shapes = [_Shape(atoms, reactive=section.reactive) for atoms in starts]
    found, last = Explored(), dict[int, int]()
    for _ in range(max(1, n_steps // section.every)):
        run.run(section.every)
        kinetic = 2.0 * run.kinetic_energies() / (units.kB * np.maximum(3 * systems.sizes - 3, 1))
        most = HOT * temperatures * (1.0 + 2.0 / np.sqrt(systems.sizes))
        watched.end(kinetic > most, "a temperature that is too high")
        for number in np.flatnonzero(~watched.ended).tolist():
            atoms = systems.atoms(number, run.positions)
            why = shapes[number].change(atoms)
            if why is not None:
                watched.end(np.arange(len(systems)) == number, why)
                continue
            last[number] = len(found.frames)
            atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
            info = starts[number].info
            atoms.info |= {name: info[name] for name in ("system", "charge") if name in info}
            atoms.info |= {"replica": number, "step": run.n_steps, "temperature": float(temperatures[number])}
            found.frames.append(atoms)
            found.spreads.append(float(watched.spreads[number]))
        if watched.ended.all():
            break
    found.ends = dict(watched.why)
    found.last = sorted(last[number] for number in watched.why if number in last)
    return found


class _Shape:
    """Distances that a plausible structure has."""

    def __init__(self, atoms: Atoms, *, reactive: bool) -> None:
        radii = covalent_radii[atoms.numbers]
        self.reach = radii[:, None] + radii[None, :]
        self.upper = np.triu(np.ones((len(atoms), len(atoms)), dtype=bool), 1)
        self.bonded: NDArray[np.bool_] | None = None
        if not (reactive or atoms.pbc.any()) and set(atoms.get_chemical_symbols()) <= COVALENT:
            self.bonded = self._distances(atoms) < BOND * self.reach

    @staticmethod
    def _distances(atoms: Atoms) -> FloatArray:
        return np.asarray(atoms.get_all_distances(mic=bool(atoms.pbc.any())))

    def change(self, atoms: Atoms) -> str | None:
        """What makes a structure implausible; None where nothing does."""
        distances = self._distances(atoms)
        if (self.upper & (distances < NEAR * self.reach)).any():
            return "atoms that are too near"
        if self.bonded is not None:
            if (self.upper & self.bonded & (distances > BROKEN * self.reach)).any():
                return "a bond that broke"
            if (self.upper & ~self.bonded & (distances < MADE * self.reach)).any():
                return "a bond that formed"
        return None
