"""The commented recipe written by `mlff train --example hamiltonian`. A test checks that it is valid."""

from __future__ import annotations

EXAMPLE_HAMILTONIAN_RECIPE = """\
# Recipe of a network for Fock matrices: `mlff train recipe.yaml`
# Keys that are commented out show their defaults. Paths are relative to this file and may hold environment variables.

hamiltonian:
  target: initial          # adds to the Fock matrix of the initial density; or means, which needs no Fock build
  # inputs: []             # matrices that are read besides the geometry: overlap, initial
  # l_max: 4               # highest degree of features: twice that of orbitals (4 for d, 6 for f) loses nothing
  channels: 16             # of atoms
  hidden: 32               # width of pairs
  # products: 16           # width of SO(2) tensor products; 0 for none
  # product_target: atoms  # or pairs
  layers: 2
  # scalars: 32
  # n_basis: 16
  # cutoff: 6.0            # of messages, Angstrom
  # pair_cutoff: 10.0      # of predicted blocks, Angstrom
  # flow: {prior: expansion, steps: 3}   # flow matching from noise; or goe; null for regression
  # fine_tune_from: runs/my-hamiltonian/hamiltonian   # instead of all other keys here: goes on from a trained network

data:
  file: matrices.h5        # `mlff data hamiltonian` makes one
  # format: null           # mlff (HDF5), npz, qh9 or schnorb, whose files say less: xc, basis, order
  # split: {valid: 0.1, test: 0.1, seed: 0}   # counts or shares, drawn at random; the rest is for training

loss:
  mae: 1.0
  # mse: 1.0
  # orbital_energies: 0.0  # of occupied orbitals and the lowest empty one, to first order

optimizer:
  learning_rate: 0.002
  ema_decay: 0.999         # averaged weights are validated and kept
  batch_size: 10
  valid_batch_size: 50
  max_epochs: 500          # the budget: epochs, minutes, processor minutes; the first one reached ends the run
  # max_minutes: 180
  # warmup_steps: 100
  # schedule: cosine
  gradient_clip: 1.0

trainer:
  device: auto             # cpu or cuda
  precision: float32       # or float64
  seed: 0
  # validate_every: 1      # epochs
  # checkpoint_every: 1    # epochs

card:                      # goes into the card of the network
  title: My molecule
  data: where the geometries come from

output: runs/my-hamiltonian
"""
