"""Comparison with other programs, which are installed into separate environments."""
