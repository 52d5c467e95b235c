"""Orbitals of molecules: shells, orders, rotations, blocks of matrices, and their assembly from features."""

from __future__ import annotations

from mlff_calc.electronic.orbitals.assembly import BlockAssembly, ElementBlocks, symmetric_blocks
from mlff_calc.electronic.orbitals.block_coupling import BlockCoupling
from mlff_calc.electronic.orbitals.contraction import BlockContraction
from mlff_calc.electronic.orbitals.in_frame import FrameBlocks
from mlff_calc.electronic.orbitals.layout import MatrixLayout
from mlff_calc.electronic.orbitals.orders import ORDERS, detect_order, from_our_order, to_our_order, to_pyscf_order
from mlff_calc.electronic.orbitals.pairs import BlockPairs
from mlff_calc.electronic.orbitals.rotation import OUR_AXES, block_rotation, orbital_rotation, rotate, shell_rotations
from mlff_calc.electronic.orbitals.shells import OrbitalBasis

__all__ = [
    "ORDERS",
    "OUR_AXES",
    "BlockAssembly",
    "BlockContraction",
    "BlockCoupling",
    "BlockPairs",
    "ElementBlocks",
    "FrameBlocks",
    "MatrixLayout",
    "OrbitalBasis",
    "block_rotation",
    "detect_order",
    "from_our_order",
    "orbital_rotation",
    "rotate",
    "shell_rotations",
    "symmetric_blocks",
    "to_our_order",
    "to_pyscf_order",
]
