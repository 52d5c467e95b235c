"""Electronic structure: matrices of molecules in atomic orbitals, in Hartree and Bohr."""

from __future__ import annotations

from mlff_calc.electronic.scf.guess import HamiltonianGuess

__all__ = ["HamiltonianGuess"]
