"""Warm structures of a molecule: Langevin dynamics with MMFF94, which cost nearly nothing beside any teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from mlff_calc.datasets.mmff import energy_and_gradient
from mlff_calc.datasets.molecules import quiet
from mlff_calc.sampling.evaluators import Evaluation, Evaluator
from mlff_calc.sampling.langevin import Langevin
from mlff_calc.sampling.systems import FloatArray, Systems

if TYPE_CHECKING:
    from rdkit.Chem import Mol

EVERY = 60
"""Number of steps between frames. Raising it gives frames that differ more."""
TIMESTEP, FRICTION = 0.5, 20.0  # fs and 1/ps


class MMFF(Evaluator):
    """MMFF94 for many structures of one molecule.

    Args:
        mol: RDKit's molecule with all hydrogens, of whose atoms MMFF94 has parameters.
    """

    def __init__(self, mol: Mol) -> None:
        from rdkit.Chem import rdForceFieldHelpers

        self.mol, self._properties = mol, rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)

    def __call__(self, systems: Systems, positions: FloatArray) -> Evaluation:
        """See `Evaluator`."""
        with quiet():
            found = [
                energy_and_gradient(self.mol, self._properties, place) for place in positions.reshape(len(systems), -1, 3)
            ]
        return Evaluation(np.array([energy for energy, _ in found]), -np.concatenate([gradient for _, gradient in found]))


def warm_frames(
    mol: Mol, starts: Sequence[Atoms], temperatures: Sequence[float], n: int, seed: int
) -> list[tuple[Atoms, float]]:
    """Draw structures from trajectories of all starts at all temperatures.

    Args:
        mol: RDKit's molecule.
        starts: Structures in which trajectories begin.
        temperatures: Temperatures, K.
        n: Number of structures.
        seed: Seed of velocities and noise.

    Returns:
        Structures and their temperatures, all temperatures in turn.

    Raises:
        SimulationError: Dynamics broke down.
    """
    replicas = [(start, temperature) for start in starts for temperature in temperatures][: max(1, n)]
    systems, positions = Systems.of([start for start, _ in replicas])
    at = np.array([temperature for _, temperature in replicas])
    run = Langevin(systems, positions, MMFF(mol), temperatures=at, timestep=TIMESTEP, friction=FRICTION, seed=seed)
    found: list[tuple[Atoms, float]] = []
    while len(found) < n:
        run.run(EVERY)
        for number, (start, temperature) in enumerate(replicas):
            atoms = start.copy()
            atoms.positions = systems.atoms(number, run.positions).positions
            found.append((atoms, temperature))
    return found[:n]
