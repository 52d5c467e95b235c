"""Predictions that need no network: what a rollout must beat.

| row | positions at time t |
|---|---|
| last position | the first ones |
| constant velocity | x + v t |
| rotor of the start | the first structure, turning freely |
| rotor of the mean structure | the mean structure, fitted to the first one, turning freely |
| harmonic base alone | the same with normal modes, where a rollout adds to these |
| valence base alone | by the forces of the fitted force field, where a rollout adds to it |
| its own MD | dynamics at constant energy with a potential, from the first positions and velocities |
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import NamedTuple

import numpy as np
import torch
from ase import units
from torch import Tensor

from mlff_calc.errors import EvaluationError
from mlff_calc.graph.keys import POSITIONS
from mlff_calc.graph.many import NeighborLists
from mlff_calc.ode import verlet
from mlff_calc.potential import load_potential
from mlff_calc.potential.evaluate import check_elements
from mlff_calc.rollout import Rollout
from mlff_calc.rollout.base import Base
from mlff_calc.rollout.rotor import angular_momentum, centred, rigid_path
from mlff_calc.rollout.valence_base import ValenceBase

LAST, STRAIGHT, START, MEAN = "last position", "constant velocity", "rotor of the start", "rotor of the mean structure"
MOST_STEP = 0.5
"""Longest time step of the dynamics, fs."""
Forces = Callable[[Tensor], Tensor]


class Later(NamedTuple):
    """Later states.

    Attributes:
        x: Positions [n, n_times, n_atoms, 3] Angstrom.
        v: Velocities [n, n_times, n_atoms, 3] Angstrom/fs.
    """

    x: Tensor
    v: Tensor


class States(NamedTuple):
    """First states and later times.

    Attributes:
        x: Positions [n, n_atoms, 3] Angstrom.
        v: Velocities [n, n_atoms, 3] Angstrom/fs.
        times: [n, n_times] fs.
    """

    x: Tensor
    v: Tensor
    times: Tensor


def guesses(rollout: Rollout, states: States) -> dict[str, Later]:
    """Later states by each row, on the CPU; the mean structure where the rollout has one."""
    x, v, times = states
    masses, ahead = rollout.masses, times[..., None, None]
    places, centre = centred(x, masses)
    speeds, drift = centred(v, masses)
    moving = centre.unsqueeze(1) + drift.unsqueeze(1) * ahead
    drift, same = drift.unsqueeze(1), v.unsqueeze(1).expand(-1, times.shape[1], -1, -1)
    turning = rigid_path(places, angular_momentum(places, speeds, masses), masses, times)
    found = {
        LAST: Later(x.unsqueeze(1).expand_as(same), same),
        STRAIGHT: Later(x.unsqueeze(1) + same * ahead, same),
        START: Later(moving + turning[0], drift + turning[1]),
    }

    def of_base(base: Base | ValenceBase) -> Later:
        path = base(x, v, times)
        return Later(moving + path.positions, drift + path.velocities)

    if bool(rollout.base.reference.any()):
        rotor = Base("rotor", rollout.config["masses"], 0, 2, 1.0)
        rotor.reference.copy_(rollout.base.reference.cpu())
        found[MEAN] = of_base(rotor)
    if rollout.base.name in ("valence", "harmonic"):
        found[f"{rollout.base.name} base alone"] = of_base(copy.deepcopy(rollout.base).cpu())
    return found


class OwnDynamics:
    """Dynamics at constant energy, all first states in one batch.

    Args:
        forces: Function from positions [n, n_atoms, 3] (Angstrom) to forces (eV/Angstrom).
        horizon: Longest time, fs, of which steps of at most `MOST_STEP` are a whole part.

    Attributes:
        seconds: Processor time so far.
        steps: Number of steps so far, times first states.
    """

    def __init__(self, forces: Forces, horizon: float) -> None:
        self.forces = forces
        self.step = horizon / np.ceil(horizon / MOST_STEP - 1e-9)
        self.seconds, self.steps = 0.0, 0

    def __call__(self, starts: States, masses: Tensor) -> Later:
        """Later states; between steps they are interpolated.

        Raises:
            EvaluationError: The dynamics give values that are not finite.
        """
        began = time.process_time()
        h = self.step
        count = max(1, int(np.ceil(float(starts.times.max()) / h - 1e-9)))
        pull = units.fs**2 / masses[:, None]  # from eV/Angstrom to Angstrom/fs^2
        states = verlet(lambda x: pull * self.forces(x), starts.x, starts.v, h)
        frames = [torch.stack(state) for state in itertools.islice(states, count + 1)]
        path = torch.stack(frames, dim=2)  # [2, n, count + 1, n_atoms, 3]
        if not bool(torch.isfinite(path).all()):
            raise EvaluationError("dynamics with the potential are not finite; it does not know such states")
        place = (starts.times / h).clamp(max=count)
        left = torch.floor(place).long().clamp(max=count - 1)
        share = (place - left)[..., None, None]
        rows = torch.arange(len(starts.x)).unsqueeze(1)
        self.seconds, self.steps = self.seconds + time.process_time() - began, self.steps + len(starts.x) * count
        return Later(*(torch.lerp(one[rows, left], one[rows, left + 1], share) for one in path))


def forces_of(name: str | FilePath, numbers: list[int]) -> Forces:
    """Forces of a potential on many copies of a molecule.

    Args:
        name: Name or folder of the potential.
        numbers: Atomic numbers of the molecule.

    Raises:
        PotentialFileError: There is no such potential.
        UnknownElementError: It does not know an element.
    """
    potential, known = load_potential(name), np.array(numbers, dtype=np.int64)
    check_elements(known, potential, "the molecule")
    lists: dict[int, NeighborLists] = {}

    def forces(x: Tensor) -> Tensor:
        n = len(x)
        if n not in lists:
            sizes, cells, pbc = np.full(n, len(known)), np.zeros((n, 3, 3)), np.zeros((n, 3), dtype=bool)
            lists[n] = NeighborLists(np.tile(known, n), sizes, cells, pbc, potential.cutoff)
        graph = lists[n].graph(np.ascontiguousarray(x.flatten(0, 1).numpy()))
        graph.setdefault(POSITIONS, x.flatten(0, 1))
        return potential(graph)["forces"].detach().double().view(x.shape)

    return forces
