"""Molecules with their matrices in atomic orbitals, as files hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlff_calc.bounded import shorten
from mlff_calc.errors import DatasetError, OptionError

FloatArray = NDArray[np.float64]
ORDERS = ("ours", "pyscf", "orca")
"""Names of orders of orbitals, which `electronic/orders.py` describes."""
SYMMETRIC = 1e-6
"""Largest difference of two entries across the diagonal, in units of the matrix. Raising it accepts coarser rounding."""


@dataclass(frozen=True, eq=False)
class MatrixFrame:
    """A molecule and its matrices; what a file does not hold is None.

    Attributes:
        numbers: Atomic numbers [n_atoms], int64.
        positions: Positions [n_atoms, 3], Angstrom.
        fock: Fock or Kohn-Sham matrix [n, n], Ha.
        overlap: Overlap of the orbitals [n, n].
        initial: Fock matrix of the density minao [n, n], Ha.
        energy: Total energy, Ha.
        forces: Forces [n_atoms, 3], Ha/Bohr.
        charge: Total charge, e.
        cycles: Number of cycles of the SCF.
        source: Number of the structure in what the file was made of, from 0.
        order: Order of the orbitals, one of `ORDERS`.
    """

    numbers: NDArray[np.int64]
    positions: FloatArray
    fock: FloatArray
    overlap: FloatArray | None = None
    initial: FloatArray | None = None
    energy: float | None = None
    forces: FloatArray | None = None
    charge: int = 0
    cycles: int | None = None
    source: int = 0
    order: str = "ours"

    @property
    def atoms(self) -> Atoms:
        """The molecule; `info['charge']` is set where it is charged."""
        return Atoms(self.numbers, self.positions, info={"charge": self.charge} if self.charge else None)


class MatrixSource(Protocol):
    """What a reader of matrices gives.

    Attributes:
        settings: Level of the matrices as plain values, as `SCFSettings.to_dict` gives it.
    """

    settings: dict[str, Any]

    def __len__(self) -> int:
        """Return the number of frames."""

    def __getitem__(self, number: int) -> MatrixFrame:
        """Read the frame of this number; raises an IndexError outside, and a DatasetError where it is damaged."""


def known_order(order: str) -> str:
    """Return the name of an order of orbitals.

    Raises:
        OptionError: It is unknown.
    """
    if order not in ORDERS:
        raise OptionError(f"unknown order of orbitals {order!r}; choose one of {', '.join(ORDERS)}")
    return order


def frame_number(number: int, count: int, path: object) -> int:
    """Return the number of a frame counted from the first; raises an IndexError where there is no such frame."""
    if not -count <= number < count:
        raise IndexError(f"{path} has {count} frames, so there is no frame {number}")
    return number % count


def orbital_counts(basis: Mapping[str, Any]) -> NDArray[np.int64]:
    """Count the orbitals of each element of a basis, by atomic number; zero for other elements.

    Args:
        basis: Name and shells, as `OrbitalBasis.to_dict` gives them.

    Raises:
        ValueError: It is no basis.
    """
    counts = np.zeros(len(chemical_symbols), dtype=np.int64)
    shells = basis.get("shells")
    if not isinstance(shells, Mapping) or not isinstance(basis.get("name"), str):
        raise ValueError("its basis has no name or no shells")
    for number, degrees in shells.items():
        valid = isinstance(degrees, Sequence) and all(type(degree) is int and 0 <= degree < 10 for degree in degrees)
        if not valid or not str(number).isdecimal() or not 0 < int(number) < len(counts):
            raise ValueError(f"its basis has the shells {shorten(degrees)} for Z = {shorten(number)}")
        counts[int(number)] = sum(2 * degree + 1 for degree in degrees)
    return counts


def count_orbitals(numbers: NDArray[np.int64], counts: NDArray[np.int64], place: str) -> int:
    """Count the orbitals of a molecule.

    Args:
        numbers: Atomic numbers [n_atoms].
        counts: Number of orbitals by atomic number, see `orbital_counts`.
        place: Where the molecule stands, for messages.

    Raises:
        DatasetError: An element has no orbitals.
    """
    found = counts[np.where((numbers > 0) & (numbers < len(counts)), numbers, 0)]
    if not found.all():
        known = ", ".join(chemical_symbols[number] for number in np.flatnonzero(counts))
        raise DatasetError(f"{place}: the basis is for {known}, not for Z = {int(numbers[np.argmin(found)])}")
    return int(found.sum())


def check_frame(frame: MatrixFrame, place: str, n_orbitals: int | None = None) -> MatrixFrame:
    """Check the shapes and values of a frame.

    Args:
        frame: The frame.
        place: Where it stands, for messages.
        n_orbitals: Number of orbitals that its basis gives; None where that is unknown.

    Returns:
        The same frame.

    Raises:
        DatasetError: An array has another shape, a value is not finite, or a matrix is not symmetric.
    """
    n_atoms = len(frame.numbers)
    if not n_atoms:
        raise DatasetError(f"{place} has no atoms")
    n = frame.fock.shape[0] if n_orbitals is None else n_orbitals
    shapes = {"positions": (n_atoms, 3), "forces": (n_atoms, 3), "fock": (n, n), "overlap": (n, n), "initial": (n, n)}
    for name, shape in shapes.items():
        values = getattr(frame, name)
        if values is None:
            continue
        if values.shape != shape:
            found = list(values.shape)
            raise DatasetError(f"{place}: {name} has shape {found}, expected {list(shape)}; is it the right basis?")
        if not np.isfinite(values).all():
            raise DatasetError(f"{place}: {name} holds values that are not finite; leave the frame out, or make it again")
        if shape == (n, n) and n:
            apart = float(np.abs(values - values.T).max())
            if apart > SYMMETRIC:
                raise DatasetError(f"{place}: {name} is not symmetric, entries differ by {apart:.2g} across the diagonal")
    if frame.energy is not None and not np.isfinite(frame.energy):
        raise DatasetError(f"{place}: the energy is {frame.energy}; leave the frame out, or make it again")
    return frame
