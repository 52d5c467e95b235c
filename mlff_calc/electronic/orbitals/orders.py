"""Matrices and vectors of molecules in orders of other programs, and how to tell which of them a matrix is in."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.electronic.orders import ORDERS, Reordering
from mlff_calc.errors import OptionError, OrbitalError

if TYPE_CHECKING:
    from mlff_calc.electronic.orbitals.layout import MatrixLayout

SAME_OVERLAP = 1e-4
"""Largest difference of two overlap matrices that are taken for the same one. Wrong orders differ by 0.01 and more; a larger
value accepts coordinates that were rounded more coarsely."""

Values = TypeVar("Values", NDArray[np.floating], Tensor)


def reordering(basis: OrbitalBasis, numbers: ArrayLike, order: str) -> Reordering:
    """How orbitals of a molecule in `order` become ours.

    Args:
        basis: Basis of the orbitals.
        numbers: Atomic numbers [n_atoms].
        order: Name of the order, one of `ORDERS`.

    Raises:
        OptionError: The order is unknown.
        UnknownElementError: The basis lacks an element.
    """
    return Reordering.of_shells(basis.molecule_shells(numbers), order)


def to_our_order(values: Values, basis: OrbitalBasis, numbers: ArrayLike, order: str = "pyscf", n_axes: int = 2) -> Values:
    """Bring matrices or vectors of a molecule into our order.

    Args:
        values: Arrays or tensors [..., n, n], or [..., n] with `n_axes` 1, in the other order.
        basis: Basis of the orbitals.
        numbers: Atomic numbers [n_atoms].
        order: Name of the other order, one of `ORDERS`.
        n_axes: Number of axes of orbitals, counted from the last: 2 for matrices, 1 for vectors.

    Returns:
        New array or tensor of the same type and shape.

    Raises:
        OrbitalError: The last axes do not have the size of the molecule.
        OptionError: The order is unknown.
    """
    return _reordered(values, reordering(basis, numbers, order), n_axes)


def from_our_order(values: Values, basis: OrbitalBasis, numbers: ArrayLike, order: str, n_axes: int = 2) -> Values:
    """Bring matrices or vectors in our order into another one; the inverse of `to_our_order`, with its arguments."""
    return _reordered(values, reordering(basis, numbers, order).back(), n_axes)


def to_pyscf_order(values: Values, basis: OrbitalBasis, numbers: ArrayLike, n_axes: int = 2) -> Values:
    """Bring matrices or vectors in our order into that of PySCF; see `to_our_order` for the arguments."""
    return from_our_order(values, basis, numbers, "pyscf", n_axes)


def detect_order(
    overlap: ArrayLike | Tensor, reference: ArrayLike | Tensor, layout: MatrixLayout, tolerance: float = SAME_OVERLAP
) -> str:
    """Find the order of an overlap matrix, and so of all matrices that came with it.

    Args:
        overlap: Overlap of one molecule in an unknown order [n, n].
        reference: Overlap of the same molecule in our order [n, n].
        layout: Layout of the molecule.
        tolerance: Largest difference of entries that counts as equal.

    Returns:
        Name of the order, one of `ORDERS`; the first of them where a molecule has the same matrices in several.

    Raises:
        OrbitalError: Other sizes or several molecules, values that are not finite, no order fits, or orders that differ fit
            both, as for a free atom.
    """
    given, true = (np.asarray(torch.as_tensor(matrix).detach().cpu(), dtype=np.float64) for matrix in (overlap, reference))
    if layout.n_systems != 1 or given.shape != true.shape or given.shape != (layout.n_orbitals[0],) * 2:
        raise OrbitalError(
            f"overlaps of shape {given.shape} and {true.shape} do not fit one molecule: the layout has "
            f"{layout.n_systems} of {[int(n) for n in layout.n_orbitals]} orbitals in basis {layout.basis.name}"
        )
    if not (np.isfinite(given).all() and np.isfinite(true).all()):
        raise OrbitalError("an overlap has values that are not finite, so that its order cannot be told; compute it again")
    tables = {order: reordering(layout.basis, layout.numbers, order) for order in ORDERS}
    apart = {order: float(np.abs(_reordered(given, table, 2) - true).max(initial=0.0)) for order, table in tables.items()}
    fits = [order for order in ORDERS if apart[order] <= tolerance]
    if not fits:
        found = ", ".join(f"{order} by {apart[order]:.2g}" for order in ORDERS)
        raise OrbitalError(
            f"the overlap fits no known order of orbitals in basis {layout.basis.name}: entries differ for {found}. "
            "Look whether geometry, unit, order of atoms and basis are those of the matrix"
        )
    first = tables[fits[0]]
    if any((tables[order].index != first.index).any() or (tables[order].signs != first.signs).any() for order in fits):
        raise OrbitalError(
            f"the overlap fits the orders {' and '.join(fits)} alike, and so cannot tell them apart; "
            "use a molecule without symmetry"
        )
    return fits[0]


def _reordered(values: Values, how: Reordering, n_axes: int) -> Values:
    n = len(how.index)
    if n_axes not in (1, 2):
        raise OptionError(f"n_axes is {n_axes}; give 1 for vectors or 2 for matrices")
    if tuple(values.shape[-n_axes:]) != (n,) * n_axes:
        raise OrbitalError(f"shape {tuple(values.shape)} does not end in the {n} orbitals of the molecule, {n_axes} times")
    if isinstance(values, Tensor):
        index = torch.from_numpy(how.index).to(values.device)
        signs = torch.from_numpy(how.signs).to(values)
        if n_axes == 1:
            return values.index_select(-1, index) * signs
        return values.index_select(-1, index).index_select(-2, index) * (signs * signs.unsqueeze(1))
    chosen = values[..., how.index] * how.signs.astype(values.dtype)
    return chosen if n_axes == 1 else chosen[..., how.index, :] * how.signs.astype(values.dtype)[:, None]
