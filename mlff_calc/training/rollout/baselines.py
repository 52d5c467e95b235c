"""Predictions that need no network: what a rollout must beat.

| row | positions at time t |
|---|---|
| last position | the first ones |
| constant velocity | x + v t |
| rotor of the start | the first structure, turning freely |
| rotor of the mean structure | the mean structure, fitted to the first one, turning freely |
| harmonic base alone | the same with normal modes, which a rollout with `base: harmonic` adds to |
| its own MD | dynamics at constant energy with a potential, from the first positions and velocities |
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlff_calc.rollout import Rollout
from mlff_calc.rollout.base import Base
from mlff_calc.rollout.rotor import angular_momentum, centred, rigid_path
from mlff_calc.sampling.calculators import evaluator_of
from mlff_calc.sampling.constant_energy import ConstantEnergy
from mlff_calc.sampling.systems import Systems

LAST, STRAIGHT, START, MEAN = "last position", "constant velocity", "rotor of the start", "rotor of the mean structure"
HARMONIC = "harmonic base alone"
MOST_STEP = 0.5
"""Longest time step of the dynamics, fs."""


class Later(NamedTuple):
    """Later states.

    Attributes:
        x: Positions [n, n_times, n_atoms, 3] Angstrom.
        v: Velocities [n, n_times, n_atoms, 3] Angstrom/fs.
    """

    x: Tensor
    v: Tensor


class Motion(NamedTuple):
    """First states and later times.

    Attributes:
        x: Positions [n, n_atoms, 3] Angstrom.
        v: Velocities [n, n_atoms, 3] Angstrom/fs.
        times: [n, n_times] fs.
    """

    x: Tensor
    v: Tensor
    times: Tensor


def guesses(rollout: Rollout, motion: Motion) -> dict[str, Later]:
    """Later states by each row; the mean structure where the rollout has one."""
    x, v, times = motion
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

    def of_base(base: Base) -> Later:
        path = base(x, v, times)
        return Later(moving + path.positions, drift + path.velocities)

    if bool(rollout.base.reference.any()):
        rotor = Base("rotor", rollout.config["masses"], 0, 2, 1.0)
        rotor.reference.copy_(rollout.base.reference)
        found[MEAN] = of_base(rotor)
    if rollout.base.name == "harmonic":
        found[HARMONIC] = of_base(rollout.base)
    return found


class OwnDynamics:
    """Dynamics of a potential at constant energy, all first states in one batch.

    Args:
        calculator: Name or folder of a potential, or whatever else `evaluator_of` takes.
        numbers: Atomic numbers of the molecule.

    Attributes:
        seconds: Processor time so far.
        steps: Number of steps so far, times first states.

    Raises:
        PotentialFileError: There is no such potential.
        UnknownElementError: It does not know an element.
    """

    def __init__(self, calculator: Any, numbers: list[int]) -> None:  # noqa: ANN401
        self.evaluator = evaluator_of(calculator)
        self.numbers = numbers
        apart = np.outer(np.arange(len(numbers)), [3.0, 0.0, 0.0])
        self.evaluator.check(Systems.of([Atoms(numbers=numbers, positions=apart)])[0])
        self.seconds, self.steps = 0.0, 0

    def __call__(self, motion: Motion, masses: Tensor) -> Later:
        """Later states; between steps they are interpolated.

        Raises:
            SimulationError: The dynamics give values that are not finite.
        """
        began = time.process_time()
        count = int(np.ceil(float(motion.times.max()) / MOST_STEP - 1e-9))
        h = float(motion.times.max()) / count
        structures = [Atoms(numbers=self.numbers, positions=one, masses=masses.numpy()) for one in motion.x.numpy()]
        systems, x = Systems.of(structures)
        run = ConstantEnergy(systems, x, motion.v.flatten(0, 1).numpy(), self.evaluator, h)
        frames: list[Tensor] = []

        def keep(run: ConstantEnergy) -> None:
            both = np.stack([run.positions, run.velocities])
            frames.append(torch.from_numpy(both).view(2, *motion.x.shape))

        keep(run)
        run.run(count, keep)
        path = torch.stack(frames, dim=2)  # [2, n, count + 1, n_atoms, 3]
        place = (motion.times / h).clamp(max=count)
        left = torch.floor(place).long().clamp(max=count - 1)
        share = (place - left)[..., None, None]
        rows = torch.arange(len(motion.x)).unsqueeze(1)
        self.seconds, self.steps = self.seconds + time.process_time() - began, self.steps + len(motion.x) * count
        return Later(*(torch.lerp(one[rows, left], one[rows, left + 1], share) for one in path))
