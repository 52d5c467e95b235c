"""Frames of files in our order of orbitals."""

from __future__ import annotations

from dataclasses import replace

from mlff_calc.datasets.matrix_frames import MatrixFrame
from mlff_calc.electronic.orbitals.orders import to_our_order
from mlff_calc.electronic.orbitals.shells import OrbitalBasis


def in_our_order(frame: MatrixFrame, basis: OrbitalBasis) -> MatrixFrame:
    """Return a frame in our order of orbitals.

    Args:
        frame: A frame in the order that its attribute `order` names.
        basis: Basis of its orbitals.

    Raises:
        OrbitalError: The matrices do not have the size of the molecule in this basis.
        UnknownElementError: The basis lacks an element.
    """
    matrices = {name: getattr(frame, name) for name in ("fock", "overlap", "initial")}
    ours = {
        name: to_our_order(matrix, basis, frame.numbers, frame.order)
        for name, matrix in matrices.items()
        if matrix is not None
    }
    return replace(frame, order="ours", **ours)
