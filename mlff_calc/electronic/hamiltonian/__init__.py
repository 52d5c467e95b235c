"""Learned Fock matrices: equivariant networks that predict the matrix of a molecule from its geometry."""

from __future__ import annotations

from mlff_calc.electronic.hamiltonian.build import build_hamiltonian
from mlff_calc.electronic.hamiltonian.load import load_hamiltonian
from mlff_calc.electronic.hamiltonian.model import HamiltonianNetwork

__all__ = ["HamiltonianNetwork", "build_hamiltonian", "load_hamiltonian"]
