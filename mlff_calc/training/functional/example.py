"""The commented recipe written by `mlff train --example functional`. A test checks that it is valid."""

from __future__ import annotations

EXAMPLE_FUNCTIONAL_RECIPE = """\
# Recipe of a learned exchange-correlation functional: `mlff train recipe.yaml`
# Keys that are commented out show their defaults. Paths are relative to this file and may hold environment variables.

functional:
  base: pbe                # or lda, r2scan: the training starts exactly at it
  basis: 6-31g*            # the functional is for this basis and grid only
  grid_level: 1            # of PySCF, without pruning; take 2 or more for forces
  # cutoff: 5.0            # from nuclei, Bohr
  # l_max: 1               # highest degree of features
  # filters: 8             # radial functions
  # channels: 16
  # layers: 1              # of messages between atoms; 0 for none
  # width: 16              # of perceptrons
  # reweight: nonlocal     # or local (semi-local weights), none
  # readout: true          # energies of atoms beside the weighted energy density

densities:
  epochs: 60               # between refreshes: two to four rounds are enough
  # loss: frozen           # or unrolled: recorded self-consistent fields, slow, for small molecules
  # cycles: 15             # of a recorded field
  # workers: 1             # processes that converge densities
  # conv_tol: 1.0e-9       # Hartree
  # max_cycle: 50

data:
  train: train.extxyz      # energies of one level: `mlff data energies` makes them
  split: {valid: 0.1, test: 0.2}
  # units: {energy: eV, length: Angstrom}
  # keys: {energy: REF_energy}

# loss:
#   relative: true         # for several molecules: errors of a batch count after constants of elements are fitted to them;
#                          # take batches that hold each molecule twice or more

optimizer:
  learning_rate: 0.01
  ema_decay: 0.99          # averaged weights are validated and kept
  batch_size: 3
  max_epochs: 120          # the budget: epochs, minutes, processor minutes; the first one reached ends the run
  # max_minutes: 60
  warmup_steps: 20
  # gradient_clip: 10.0

trainer:
  device: cpu
  seed: 0
  validate_every: 10       # epochs
  checkpoint_every: 10     # epochs

card:                      # goes into the card of the functional
  title: My molecule
  data: where the geometries come from
  # level_of_theory: null  # by default what the files say

output: runs/my-functional
"""
