"""Whether atoms are the molecule that a rollout knows, in its order and with its bonds, and their first state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.data import chemical_symbols, covalent_radii
from ase.formula import Formula
from numpy.typing import NDArray
from torch import Tensor

from mlff_calc.errors import StructureError
from mlff_calc.graph.bonds import bonds_of

BROKEN, FORMED = 1.6, 0.95
"""Distances of bonded and of other atoms, in units of the sum of covalent radii, beyond which a molecule counts as another.
Raising the first and lowering the second accepts more distorted ones."""
CRUSHED = 0.65
"""Distance of bonded atoms, in the same units, below which a chain has lost its molecule; triple bonds have 0.77. Raising it
ends chains earlier."""
CHUNK = 2_000_000
"""Largest number of distances that are looked at in one go."""
OTHER_MASS = 0.02
"""Relative difference of masses from which on atoms are other isotopes, or have another number of hydrogens."""

FloatArray = NDArray[np.float64]


def kept_atoms(numbers: NDArray[np.int64], *, heavy_atoms: bool) -> NDArray[np.int64]:
    """Numbers of the atoms that are predicted: all, or those that are not hydrogen."""
    return np.flatnonzero(numbers > 1) if heavy_atoms else np.arange(len(numbers))


def with_hydrogens(masses: FloatArray, numbers: NDArray[np.int64], bonds: list[list[int]]) -> FloatArray:
    """Masses [n], those of other atoms with the hydrogens that are bonded to them."""
    found = masses.copy()
    for i, j in bonds:
        for light, heavy in ((i, j), (j, i)):
            if numbers[light] == 1 and numbers[heavy] > 1:
                found[heavy] += masses[light]
    return found


def check_bonds(numbers: NDArray[np.int64], positions: FloatArray, bonds: Any, place: str) -> None:  # noqa: ANN401
    """Refuse a frame in which bonds are broken or new.

    Args:
        numbers: Atomic numbers [n].
        positions: [n, 3] Angstrom.
        bonds: Pairs of bonded atoms.
        place: Name of the frame, for the message.

    Raises:
        StructureError: A distance does not fit; the message names the atoms.
    """
    found = changed_bond(numbers, positions[None], bonds)
    if found is not None:
        _, i, j, distance, bonded = found
        a, b = (f"{chemical_symbols[numbers[k]]}{k}" for k in (i, j))
        said = "are bonded in the training data and" if bonded else "are not bonded in the training data, and"
        raise StructureError(
            f"{place}: {a} and {b} {said} are {distance:.2f} Angstrom apart; a rollout knows one molecule with its bonds: "
            "take that molecule, with atoms in the same order"
        )


def changed_bond(
    numbers: NDArray[np.int64], positions: FloatArray, bonds: Any  # noqa: ANN401
) -> tuple[int, int, int, float, bool] | None:
    """First change of the bonds in frames [n_frames, n, 3]: frame, both atoms, distance, and whether they are bonded."""
    for begin, wrong, distances, bonded in _changes(numbers, positions, bonds):
        if wrong.any():
            frame, i, j = (int(k) for k in np.argwhere(wrong)[0])
            return begin + frame, i, j, float(distances[frame, i, j]), bool(bonded[i, j])
    return None


def whole_frames(numbers: NDArray[np.int64], positions: FloatArray, bonds: Any) -> NDArray[np.bool_]:  # noqa: ANN401
    """Whether each of the frames [n_frames, n, 3] has these bonds, none of them crushed, and no others."""
    found = [~wrong.any(axis=(1, 2)) for _, wrong, _, _ in _changes(numbers, positions, bonds, CRUSHED)]
    return np.concatenate([np.zeros(0, dtype=bool), *found])


def _changes(
    numbers: NDArray[np.int64], positions: FloatArray, bonds: Any, crushed: float = 0.0  # noqa: ANN401
) -> Iterator[tuple[int, NDArray[np.bool_], FloatArray, NDArray[np.bool_]]]:
    """By chunk of frames: number of the first, changed pairs [n_frames, n, n], distances, and bonded pairs [n, n]."""
    n = len(numbers)
    bonded = np.zeros((n, n), dtype=bool)
    for i, j in bonds:
        bonded[i, j] = bonded[j, i] = True
    sums = covalent_radii[numbers][:, None] + covalent_radii[numbers][None, :]
    size = max(1, CHUNK // n**2)
    for begin in range(0, len(positions), size):
        part = positions[begin : begin + size]
        distances = np.linalg.norm(part[:, :, None] - part[:, None], axis=-1)
        lost = (distances > BROKEN * sums) | (distances < crushed * sums)
        wrong = np.where(bonded, lost, distances < FORMED * sums) & ~np.eye(n, dtype=bool)
        yield begin, wrong, distances, bonded


def first_state(atoms: Atoms, config: dict[str, Any], place: str) -> tuple[FloatArray, FloatArray]:
    """Positions [n, 3] (Angstrom) and velocities (Angstrom/fs) of the atoms that are predicted.

    Args:
        atoms: Structure with velocities.
        config: Configuration of the rollout.
        place: Name of the structure, for messages.

    Raises:
        StructureError: It is another molecule or another order of atoms, is periodic, has broken bonds, no velocities, or
            values that are not finite.
    """
    chosen = kept_atoms(atoms.numbers, heavy_atoms=bool(config["heavy_atoms"]))
    numbers, known = atoms.numbers[chosen], np.array(config["numbers"])
    if sorted(numbers.tolist()) != sorted(known.tolist()):
        raise StructureError(
            f"{place} is {_formula(numbers)}, and the rollout knows {_formula(known)}"
            f"{' without hydrogens' if config['heavy_atoms'] else ''}; take that molecule, or train on this one"
        )
    if not np.array_equal(numbers, known):
        first = int(np.flatnonzero(numbers != known)[0])
        raise StructureError(
            f"{place} has another order of atoms: atom {first} is {chemical_symbols[numbers[first]]}, and "
            f"{chemical_symbols[known[first]]} in the training data "
            f"({' '.join(chemical_symbols[z] for z in known)}); sort them"
        )
    _check_masses(atoms, chosen, config, place)
    if atoms.pbc.any():
        raise StructureError(f"{place} is periodic, and a rollout knows a single molecule; turn pbc off, and unwrap it")
    if not atoms.has("momenta"):
        raise StructureError(
            f"{place} has no velocities, from which a rollout begins; set them (atoms.set_velocities, or "
            "MaxwellBoltzmannDistribution of ase), or take a frame of a run that keeps them"
        )
    positions, velocities = atoms.positions[chosen], atoms.get_velocities()[chosen] * units.fs
    for name, values in (("positions", positions), ("velocities", velocities)):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise StructureError(f"{place}: the {name} of atom {bad[0]} are not finite; correct them")
    check_bonds(numbers, positions, config["bonds"], place)
    return positions, velocities


def _check_masses(atoms: Atoms, chosen: NDArray[np.int64], config: dict[str, Any], place: str) -> None:
    """Refuse other isotopes and, where hydrogens are left out, other numbers of these.

    Raises:
        StructureError: A mass differs; the message names the atom.
    """
    masses = atoms.get_masses()
    if config["heavy_atoms"]:
        if not (atoms.numbers == 1).any():
            return  # hydrogens are left out of the structure as well
        masses = with_hydrogens(masses, atoms.numbers, bonds_of(atoms.numbers, atoms.positions[None]))
    known, known_z = np.array(config["masses"]), atoms.numbers[chosen]
    other = np.flatnonzero(np.abs(masses[chosen] / known - 1.0) > OTHER_MASS)
    if len(other):
        k = int(other[0])
        what = f"{chemical_symbols[known_z[k]]}{chosen[k]}{' with its hydrogens' if config['heavy_atoms'] else ''}"
        raise StructureError(
            f"{place}: {what} has a mass of {masses[chosen[k]]:.4g}, and {known[k]:.4g} in the training data; it is another "
            "isotope or molecule, which moves in another way: train on it"
        )


def _formula(numbers: NDArray[np.int64]) -> str:
    return Formula.from_list([chemical_symbols[z] for z in numbers]).format("hill")


def bond_lengths(positions: Tensor, bonds: Tensor) -> Tensor:
    """Lengths [..., n_bonds] of bonds [n_bonds, 2], at positions [..., n_atoms, 3]."""
    return torch.linalg.vector_norm(positions[..., bonds[:, 0], :] - positions[..., bonds[:, 1], :], dim=-1)
