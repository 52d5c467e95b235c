"""Fock matrices of molecules: orbitals, self-consistent fields, and learned matrices."""
