"""Further starting structures: snapshots of hot dynamics and of replica exchange, all replicas in one batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms

from mlff_calc.datasets.molecules import Molecule
from mlff_calc.errors import SimulationError
from mlff_calc.sampling.evaluators import Evaluator
from mlff_calc.sampling.identity import Identity
from mlff_calc.sampling.langevin import Langevin
from mlff_calc.sampling.replica_exchange import exchange, geometric_ladder
from mlff_calc.sampling.systems import FloatArray, Systems

HOT = 800.0
"""Temperature of searches by dynamics and the highest of exchanges, K. Raising it crosses higher barriers, and breaks weak
bonds more often; snapshots whose bonds changed are left out."""
TIMESTEP = 1.0  # fs
FRICTION = 5.0  # 1/ps
BETWEEN = 250
"""Number of steps between snapshots. Raising it makes them differ more."""


def by_dynamics(
    molecule: Molecule,
    starts: FloatArray,
    evaluator: Evaluator,
    *,
    n_snapshots: int,
    seed: int,
    on_snapshot: Callable[[int], None] | None = None,
) -> FloatArray:
    """Snapshots of Langevin dynamics at `HOT` from several starts.

    Args:
        molecule: Molecule; replicas that lose its bonds or stereo start again from their initial positions, and all do where
            one cannot be evaluated any more.
        starts: Initial positions [n_replicas, n_atoms, 3], Angstrom.
        evaluator: Evaluator of energies and forces.
        n_snapshots: Number of snapshots of all replicas.
        seed: Seed of velocities and noise.
        on_snapshot: Function that is called after each snapshot with its number.

    Returns:
        Structures [n_found, n_atoms, 3] that still are the molecule.

    Raises:
        SimulationError: A start cannot be evaluated.
    """
    atoms = [Atoms(molecule.numbers, place) for place in starts]
    systems, positions = Systems.of(atoms)
    identity, found = Identity(molecule), []
    run = Langevin(systems, positions, evaluator, temperatures=HOT, timestep=TIMESTEP, friction=FRICTION, seed=seed)
    for number in range(n_snapshots):
        stays = True
        try:
            run.run(BETWEEN)
        except SimulationError:
            stays = False
        shapes = run.positions.reshape(starts.shape)
        whole = np.array([identity.change(place) is None for place in shapes])
        found.append(shapes[whole].copy())
        if not (stays and whole.all()):
            run.place(np.where((whole & stays)[:, None, None], shapes, starts).reshape(-1, 3))
        if on_snapshot is not None:
            on_snapshot(number)
    return np.concatenate(found)


def by_exchange(
    molecule: Molecule,
    start: FloatArray,
    evaluator: Evaluator,
    *,
    temperature: float,
    n_replicas: int,
    n_snapshots: int,
    seed: int,
    on_snapshot: Callable[[int], None] | None = None,
) -> FloatArray:
    """Snapshots of a replica exchange between `temperature` and `HOT` (K), of all temperatures.

    Returns:
        Structures [n_found, n_atoms, 3] that still are the molecule.

    Raises:
        SimulationError: A replica breaks down.
        OptionError: A temperature that is not below `HOT`.
    """
    found = exchange(
        Atoms(molecule.numbers, start),
        evaluator,
        temperatures=geometric_ladder(temperature, HOT, n_replicas),
        n_attempts=n_snapshots,
        steps_between=BETWEEN,
        timestep=TIMESTEP,
        friction=FRICTION,
        seed=seed,
        on_attempt=on_snapshot,
    )
    identity = Identity(molecule)
    shapes = found.positions.reshape(-1, *start.shape)
    return shapes[[identity.change(place) is None for place in shapes]]
