"""Trained potentials that ship with the package, one folder each; installed as `mlff_calc.shipped`."""
