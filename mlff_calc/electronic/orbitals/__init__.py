"""Orbitals of molecules: shells, orders, rotations, and blocks of matrices."""

from __future__ import annotations

from mlff_calc.electronic.orbitals.layout import MatrixLayout
from mlff_calc.electronic.orbitals.orders import ORDERS, detect_order, from_our_order, to_our_order, to_pyscf_order
from mlff_calc.electronic.orbitals.pairs import BlockPairs
from mlff_calc.electronic.orbitals.rotation import OUR_AXES, block_rotation, orbital_rotation, rotate, shell_rotations
from mlff_calc.electronic.orbitals.shells import OrbitalBasis

__all__ = [
    "ORDERS",
    "OUR_AXES",
    "BlockPairs",
    "MatrixLayout",
    "OrbitalBasis",
    "block_rotation",
    "detect_order",
    "from_our_order",
    "orbital_rotation",
    "rotate",
    "shell_rotations",
    "to_our_order",
    "to_pyscf_order",
]
