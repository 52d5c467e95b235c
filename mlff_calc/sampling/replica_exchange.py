"""Replica exchange: copies of a structure at a ladder of temperatures that swap them.

Every few steps neighbouring temperatures k and k+1 are swapped between their replicas with probability

    min(1, exp((1/kT_k - 1/kT_l) (E_k - E_l))),

which keeps the joint distribution; velocities are scaled by the root of the ratio of temperatures. Pairs with even and odd
k take turns.

Source: Sugita and Okamoto, Chem. Phys. Lett. 314, 141 (1999), Eqs. 12-17.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from mlff_calc.errors import OptionError
from mlff_calc.sampling.evaluators import Evaluator
from mlff_calc.sampling.langevin import Langevin
from mlff_calc.sampling.systems import FloatArray, Systems


def geometric_ladder(lowest: float, highest: float, n: int) -> FloatArray:
    """Temperatures [n] (K) of equal ratios, between which equal heat capacities give equal acceptance.

    Raises:
        OptionError: Fewer than two temperatures, or a highest that is not above the lowest.
    """
    if n < 2 or not 0.0 < lowest < highest:
        raise OptionError(
            f"a ladder of {n} temperatures from {lowest} to {highest} K; give at least 2 that rise from above 0"
        )
    return np.geomspace(lowest, highest, n)


@dataclass(frozen=True)
class Exchanged:
    """What a replica exchange gave.

    Attributes:
        temperatures: [n_temperatures] K.
        positions: Samples [n_temperatures, n_samples, n_atoms, 3] (Angstrom), by temperature.
        energies: [n_temperatures, n_samples] eV.
        tried, accepted: Numbers of swaps between neighbours [n_temperatures - 1].
        visits: Temperature of each replica after every attempt [n_attempts, n_temperatures].
    """

    temperatures: FloatArray
    positions: FloatArray
    energies: FloatArray
    tried: NDArray[np.int64]
    accepted: NDArray[np.int64]
    visits: NDArray[np.int64]

    @property
    def acceptance(self) -> FloatArray:
        """Fraction of accepted swaps [n_temperatures, n_temperatures]; zero between temperatures that are not neighbours."""
        n = len(self.temperatures)
        matrix = np.zeros((n, n))
        rates = self.accepted / np.maximum(self.tried, 1)
        matrix[np.arange(n - 1), np.arange(1, n)] = matrix[np.arange(1, n), np.arange(n - 1)] = rates
        return matrix

    def reduced_energies(self) -> tuple[FloatArray, NDArray[np.int64]]:
        """Reduced energies u_kn [n_temperatures, n_temperatures * n_samples] and numbers of samples, as MBAR takes them."""
        energies = self.energies.reshape(-1)
        beta = 1.0 / (units.kB * self.temperatures)
        return beta[:, None] * energies[None, :], np.full(len(beta), self.energies.shape[1], dtype=np.int64)


def exchange(
    atoms: Atoms,
    evaluator: Evaluator,
    *,
    temperatures: FloatArray,
    n_attempts: int,
    steps_between: int = 100,
    timestep: float = 0.5,
    friction: float = 1.0,
    seed: int = 0,
    on_attempt: Callable[[int], None] | None = None,
) -> Exchanged:
    """Sample a structure at several temperatures at once.

    Args:
        atoms: Initial structure of all replicas; not changed.
        evaluator: Evaluator of energies and forces.
        temperatures: Ladder [n_temperatures], K, rising.
        n_attempts: Number of times that swaps are tried; after each, a sample of every temperature is kept.
        steps_between: Number of steps between attempts.
        timestep: Time step, fs.
        friction: Friction, 1/ps.
        seed: Seed of velocities, noise and swaps.
        on_attempt: Function that is called after each attempt with its number.

    Raises:
        OptionError: An option out of range.
        SimulationError: A replica breaks down.
    """
    ladder = np.asarray(temperatures, dtype=np.float64)
    if len(ladder) < 2 or not (np.diff(ladder) > 0.0).all() or n_attempts < 1 or steps_between < 1:
        raise OptionError(
            f"temperatures {ladder.tolist()} K, {n_attempts} attempts, {steps_between} steps between them; give at least "
            "two temperatures that rise, and at least one attempt and step"
        )
    systems, positions = Systems.of([atoms] * len(ladder))
    n, n_atoms = len(ladder), len(atoms)
    run = Langevin(systems, positions, evaluator, temperatures=ladder, timestep=timestep, friction=friction, seed=seed)
    random = np.random.Generator(np.random.Philox(seed + 1))
    beta = 1.0 / (units.kB * ladder)
    holder = np.arange(n)  # replica at each temperature
    tried, accepted = np.zeros(n - 1, dtype=np.int64), np.zeros(n - 1, dtype=np.int64)
    samples, energies = np.empty((n, n_attempts, n_atoms, 3)), np.empty((n, n_attempts))
    visits = np.empty((n_attempts, n), dtype=np.int64)
    for attempt in range(n_attempts):
        run.run(steps_between)
        samples[:, attempt] = run.positions.reshape(n, n_atoms, 3)[holder]
        energies[:, attempt] = run.energies[holder]
        swap(holder, run.energies, beta, attempt % 2, random, tried, accepted)
        level = np.empty(n, dtype=np.int64)
        level[holder] = np.arange(n)
        run.set_temperatures(ladder[level])
        visits[attempt] = level
        if on_attempt is not None:
            on_attempt(attempt)
    return Exchanged(ladder, samples, energies, tried, accepted, visits)


def swap(
    holder: NDArray[np.int64],
    energies: FloatArray,
    beta: FloatArray,
    first: int,
    random: np.random.Generator,
    tried: NDArray[np.int64],
    accepted: NDArray[np.int64],
) -> None:
    """Try to swap neighbouring temperatures, in place.

    Args:
        holder: Replica at each temperature [n].
        energies: Energies of the replicas [n], eV.
        beta: Values of 1 / kT of the temperatures [n], 1/eV.
        first: Index of the lower temperature of the first pair, 0 or 1.
        random: Source of random numbers.
        tried: Number of attempts [n - 1], which is raised.
        accepted: Number of swaps [n - 1], which is raised.
    """
    for k in range(first, len(holder) - 1, 2):
        exponent = (beta[k] - beta[k + 1]) * (energies[holder[k]] - energies[holder[k + 1]])
        tried[k] += 1
        if exponent >= 0.0 or random.random() < np.exp(exponent):
            holder[k], holder[k + 1] = holder[k + 1], holder[k]
            accepted[k] += 1
