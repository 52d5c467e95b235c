"""Whether matrices of a file are in the order of orbitals, the basis and the unit that they are said to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mlff_calc.datasets.matrix_frames import MatrixFrame
from mlff_calc.electronic.frames import in_our_order
from mlff_calc.electronic.orbitals.layout import MatrixLayout
from mlff_calc.electronic.orbitals.orders import ORDERS, SAME_OVERLAP, detect_order
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.electronic.scf.labels import basis_of, initial_fock, label, overlap_of
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import OrbitalError


def check_overlap(frame: MatrixFrame, settings: SCFSettings, tolerance: float = SAME_OVERLAP) -> float:
    """Compare the overlap of a frame with that of its molecule.

    Args:
        frame: A frame with an overlap, in the order that its attribute `order` names.
        settings: Level of the frame; only the basis matters.
        tolerance: Largest difference of entries that counts as equal.

    Returns:
        The largest difference.

    Raises:
        OrbitalError: The frame has no overlap, or it is that of another order, geometry or basis; the message names the
            order that fits.
        OptionError, StructureError: See `label`.
    """
    if frame.overlap is None:
        raise OrbitalError("the frame has no overlap, so that its order cannot be told from it; use `check_fock`")
    basis = OrbitalBasis.from_dict(basis_of(settings.basis, frame.numbers))
    true = overlap_of(frame.atoms, settings.basis)
    ours = in_our_order(frame, basis).overlap
    apart = float(np.abs(ours - true).max()) if ours is not None else np.inf
    if apart > tolerance:
        found = detect_order(frame.overlap, true, MatrixLayout(basis, frame.numbers), tolerance)
        raise OrbitalError(
            f"the matrices are said to be in the order {frame.order!r}, but the overlap is in that of {found!r} (in the "
            f"former it differs by up to {apart:.2g}); read the file with order {found!r}"
        )
    return apart


def check_fock(frame: MatrixFrame, settings: SCFSettings) -> float:
    """Compare the Fock matrix of a frame without overlap with that of the density minao, which takes a Fock build.

    Args:
        frame: A frame in the order that its attribute `order` names.
        settings: Level of the frame.

    Returns:
        Mean absolute difference of the two, Ha; a few hundredths at most where all is right.

    Raises:
        OrbitalError: The matrix is nearer to it in another order than in the one that is named.
        OptionError, StructureError: See `label`.
    """
    basis = OrbitalBasis.from_dict(basis_of(settings.basis, frame.numbers))
    near = initial_fock(frame.atoms, settings)
    apart = {
        order: float(np.abs(in_our_order(replace(frame, order=order, overlap=None, initial=None), basis).fock - near).mean())
        for order in (frame.order, *ORDERS)
    }
    best = min(apart, key=lambda order: apart[order])
    if apart[best] < apart[frame.order]:
        raise OrbitalError(
            f"the matrices are said to be in the order {frame.order!r}, but fit that of {best!r}: they differ from the Fock "
            f"matrix of the density minao by {apart[frame.order]:.2g} and {apart[best]:.2g} Ha on average; read the file "
            f"with order {best!r}"
        )
    return apart[frame.order]


def level_difference(frame: MatrixFrame, settings: SCFSettings) -> float:
    """Compare the Fock matrix of a frame with a label of our own, which takes an SCF.

    Both kinds of B3LYP differ by 4e-4 Ha in water; matrices of one level agree to 1e-6 Ha.

    Args:
        frame: A frame in the order that its attribute `order` names.
        settings: Level that the frame is said to have.

    Returns:
        Mean absolute difference, Ha.

    Raises:
        OptionError, StructureError, ConvergenceError: See `label`.
    """
    basis = OrbitalBasis.from_dict(basis_of(settings.basis, frame.numbers))
    ours = in_our_order(frame, basis).fock
    return float(np.abs(ours - label(frame.atoms, settings, gradient=False).fock).mean())
