"""Models of Fock matrices in closed form, for tests without a network."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from mlff_calc.electronic.scf.mean_field import mean_field
from mlff_calc.electronic.scf.orders import to_ours
from mlff_calc.electronic.scf.settings import SCFSettings


class NoisyModel:
    """The converged Fock matrix with symmetric noise.

    `noise` is its standard deviation in Hartree; None gives random matrices instead of Fock matrices. `drift` adds the same
    matrix to all predictions, times its value in Hartree.
    """

    def __init__(self, settings: SCFSettings, noise: float | None, needs_initial: bool = False, drift: float = 0.0):
        self.settings, self.noise, self.needs_initial, self.drift = settings, noise, needs_initial, drift
        self.elements = [1, 8]
        self.seen: list[tuple] = []
        self._solved: dict[bytes, np.ndarray] = {}
        self._rng = np.random.default_rng(0)

    def predict(self, atoms_list, overlaps=None, initials=None):
        self.seen.append((overlaps, initials))
        return [self._one(atoms) for atoms in atoms_list]

    def _one(self, atoms: Atoms) -> np.ndarray:
        mf = mean_field(atoms, self.settings)
        n = mf.mol.nao
        noise = self._rng.normal(size=(n, n))
        constant = np.random.default_rng(7).normal(size=(n, n))
        if self.noise is None:
            return 0.5 * (noise + noise.T)
        key = atoms.positions.tobytes()
        if key not in self._solved:
            mf.kernel()
            self._solved[key] = to_ours(mf.mol, mf.get_fock())
        return self._solved[key] + 0.5 * self.noise * (noise + noise.T) + 0.5 * self.drift * (constant + constant.T)


def frames(n: int, scale: float = 0.05) -> list[Atoms]:
    """Distorted molecules of water."""
    rng = np.random.default_rng(3)
    start = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
    return [Atoms("OH2", start + scale * rng.normal(size=(3, 3))) for _ in range(n)]


def vibration(n: int, step: float = 0.1) -> list[Atoms]:
    """Steps of a smooth motion of water with equal time steps: stretching and a slow turn."""
    start = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
    found = []
    for k in range(n):
        size, angle = 1.0 + 0.04 * np.sin(step * k), 0.2 * step * k
        turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
        found.append(Atoms("OH2", size * start @ turn.T))
    return found
