"""Errors of predicted Fock matrices by the definitions of the QH9 benchmark, and for each pair of elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlff_calc.electronic.scf.properties import frontier, occupied, orbitals

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class MatrixErrors:
    """Errors of Fock matrices; energies in Hartree.

    Means over molecules count every molecule once, whatever its size.

    Attributes:
        n_molecules: Number of molecules.
        h_mae: Mean absolute error of all entries.
        h_diagonal: Mean absolute error of blocks of one atom.
        h_off_diagonal: Mean absolute error of blocks of two atoms; NaN for single atoms.
        h_max: Largest absolute error of an entry.
        pairs: Mean absolute errors by block, `O-O` for one atom of oxygen, `H..O` for two atoms, over all entries.
        occupied_energies: Mean absolute error of energies of occupied orbitals.
        homo, lumo, gap: Mean absolute errors.
        psi: Mean absolute cosine between predicted and true occupied orbitals in atomic orbitals; orbitals of equal energy
            may mix, so that symmetric molecules have less than 1 for the smallest errors.
    """

    n_molecules: int
    h_mae: float
    h_diagonal: float
    h_off_diagonal: float
    h_max: float
    pairs: dict[str, float]
    occupied_energies: float
    homo: float
    lumo: float
    gap: float
    psi: float

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)


def matrix_errors(
    predicted: Sequence[Matrix],
    true: Sequence[Matrix],
    overlaps: Sequence[Matrix],
    symbols: Sequence[Sequence[str]],
    atom_of_orbital: Sequence[NDArray[np.int64]],
    n_electrons: Sequence[int],
) -> MatrixErrors:
    """Compare predicted Fock matrices with true ones.

    Args:
        predicted: Predicted Fock matrices [n, n] of each molecule, Hartree.
        true: True Fock matrices [n, n], Hartree, in the same order of orbitals.
        overlaps: Overlap matrices [n, n].
        symbols: Chemical symbols of the atoms of each molecule.
        atom_of_orbital: Number of the atom of each orbital [n], of each molecule.
        n_electrons: Number of electrons of each molecule, even.

    Raises:
        OptionError: Shapes differ, values are not finite, or electrons are odd in number.
        ValueError: The sequences have different lengths.
    """
    rows: list[dict[str, float]] = []
    sums: dict[str, list[float]] = {}
    for one, other, overlap, names, owner, electrons in zip(
        predicted, true, overlaps, symbols, atom_of_orbital, n_electrons, strict=True
    ):
        rows.append(_errors_of(np.asarray(one), np.asarray(other), np.asarray(overlap), np.asarray(owner), electrons))
        _add_pairs(sums, np.abs(np.asarray(one) - np.asarray(other)), list(names), np.asarray(owner))
    mean = {name: float(np.mean([row[name] for row in rows])) if rows else float("nan") for name in _NAMES}
    off = [row["h_off_diagonal"] for row in rows if not np.isnan(row["h_off_diagonal"])]
    mean["h_off_diagonal"] = float(np.mean(off)) if off else float("nan")
    largest = max((row["h_max"] for row in rows), default=float("nan"))
    pairs = {name: total / count for name, (total, count) in sorted(sums.items())}
    return MatrixErrors(n_molecules=len(rows), h_max=largest, pairs=pairs, **mean)


_NAMES = ("h_mae", "h_diagonal", "h_off_diagonal", "occupied_energies", "homo", "lumo", "gap", "psi")


def _errors_of(
    predicted: Matrix, true: Matrix, overlap: Matrix, owner: NDArray[np.int64], n_electrons: int
) -> dict[str, float]:
    """Errors of one molecule."""
    found, wanted = orbitals(predicted, overlap), orbitals(true, overlap)
    n = occupied(n_electrons, true.shape[-1])
    error = np.abs(predicted - true)
    same = owner[:, None] == owner[None, :]
    near, aim = frontier(found.energies, n_electrons), frontier(wanted.energies, n_electrons)
    one, other = found.coefficients[:, :n], wanted.coefficients[:, :n]
    lengths = np.linalg.norm(one, axis=0) * np.linalg.norm(other, axis=0)
    return {
        "h_mae": float(error.mean()),
        "h_diagonal": float(error[same].mean()),
        "h_off_diagonal": float(error[~same].mean()) if not same.all() else float("nan"),
        "h_max": float(error.max()),
        "occupied_energies": float(np.abs(found.energies[:n] - wanted.energies[:n]).mean()),
        "homo": float(abs(near.homo - aim.homo)),
        "lumo": float(abs(near.lumo - aim.lumo)),
        "gap": float(abs(near.gap - aim.gap)),
        "psi": float((np.abs((one * other).sum(axis=0)) / lengths).mean()),
    }


def _add_pairs(sums: dict[str, list[float]], error: Matrix, symbols: list[str], owner: NDArray[np.int64]) -> None:
    """Add the sums and numbers of entries of every kind of block of one molecule."""
    kinds = sorted(set(symbols))
    number = np.array([kinds.index(name) for name in symbols])
    of_orbital = number[owner]
    low, high = np.minimum.outer(of_orbital, of_orbital), np.maximum.outer(of_orbital, of_orbital)
    apart = owner[:, None] != owner[None, :]
    code = (low * len(kinds) + high) * 2 + apart
    totals, counts = np.bincount(code.ravel(), error.ravel()), np.bincount(code.ravel())
    for found in np.flatnonzero(counts):
        pair, far = divmod(int(found), 2)
        first, second = (kinds[index] for index in divmod(pair, len(kinds)))
        held = sums.setdefault(f"{first}{'..' if far else '-'}{second}", [0.0, 0.0])
        held[0] += float(totals[found])
        held[1] += float(counts[found])
