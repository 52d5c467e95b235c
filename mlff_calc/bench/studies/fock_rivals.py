"""Fock matrices without a network, and energies of one Fock build: what networks are compared with, and by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from mlff_calc.datasets.matrix_frames import MatrixFrame
from mlff_calc.electronic.orbitals.rotation import rotate
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.electronic.scf.mean_field import mean_field
from mlff_calc.electronic.scf.observables import matrix_properties, one_shot_energy
from mlff_calc.electronic.scf.orders import to_theirs
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.rollout.rotor import centred, fitted

Matrix = NDArray[np.float64]


def rivals(known: Sequence[MatrixFrame], asked: Sequence[MatrixFrame], basis: OrbitalBasis) -> dict[str, list[Matrix]]:
    """Guesses of Fock matrices by name, in our order, Hartree.

    `minao` is the matrix of that density. Where all molecules are the same, atom by atom, `nearest frame` is the matrix of
    the known molecule that is nearest after turning or reflecting it, turned with it; `nearest change` is the matrix of
    minao and what self-consistency adds to it in the nearest molecule.

    Args:
        known: Molecules with matrices.
        asked: Molecules whose matrices are guessed.
        basis: Basis of the orbitals.
    """
    found: dict[str, list[Matrix]] = {}
    has_initials = all(one.initial is not None for one in [*known, *asked])
    if has_initials:
        found["minao"] = [_initial(one) for one in asked]
    numbers = asked[0].numbers
    if not all(np.array_equal(one.numbers, numbers) for one in [*known, *asked]):
        return found
    places, turns = nearest(known, asked)

    def turned(matrices: Sequence[Matrix]) -> list[Matrix]:
        pairs = zip(matrices, turns, strict=True)
        return [rotate(torch.from_numpy(one), turn, basis, numbers).numpy() for one, turn in pairs]

    near = [known[place] for place in places]
    found["nearest frame"] = turned([one.fock for one in near])
    if has_initials:
        changes = turned([one.fock - _initial(one) for one in near])
        found["nearest change"] = [a + b for a, b in zip(found["minao"], changes, strict=True)]
    return found


def _initial(frame: MatrixFrame) -> Matrix:
    return cast("Matrix", frame.initial)


def nearest(known: Sequence[MatrixFrame], asked: Sequence[MatrixFrame]) -> tuple[list[int], torch.Tensor]:
    """Number of the nearest known molecule for each that is asked, and the orthogonal matrices [n, 3, 3] that turn it there.

    Args:
        known: Molecules.
        asked: Molecules with the same atoms in the same order.
    """
    weights = torch.ones(len(asked[0].numbers), dtype=torch.float64)
    places = [torch.from_numpy(np.stack([one.positions for one in part])) for part in (known, asked)]
    theirs, ours = (centred(part, weights)[0] for part in places)
    turns = fitted(ours[:, None], theirs, weights)
    apart = (ours[:, None] - theirs @ turns.transpose(-1, -2)).square().sum(dim=(2, 3))
    least = apart.argmin(dim=1)
    return least.tolist(), turns[torch.arange(len(ours)), least]


class OneShot:
    """Energies of the densities of Fock matrices, by one Fock build of PySCF each.

    Args:
        frames: Molecules with energies.
        settings: Plain settings of their matrices.

    Raises:
        OptionError: PySCF is not installed.
    """

    def __init__(self, frames: Sequence[MatrixFrame], settings: dict[str, Any]) -> None:
        level = SCFSettings.from_dict(settings)
        self.energies = [one.energy for one in frames]
        self.fields = [mean_field(one.atoms, level) for one in frames]

    def __call__(self, matrices: Sequence[Matrix]) -> float | None:
        """Mean error of the energy, Hartree, of matrices of the first molecules in our order; None without energies."""
        found = []
        for field, energy, matrix in zip(self.fields, self.energies, matrices, strict=False):
            if energy is not None:
                density = matrix_properties(field.mol, to_theirs(field.mol, matrix)).density
                found.append(one_shot_energy(field, density) - energy)
        return float(np.mean(found)) if found else None
