"""Equivariant layers that networks are built from."""
