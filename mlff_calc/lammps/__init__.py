"""Potentials in LAMMPS: `pair_style mlff` and its build, runs through `fix external`, and the self-test."""
