"""Equivariant parts that networks are made of."""
