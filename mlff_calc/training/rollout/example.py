"""The commented recipe written by `mlff train --example rollout`. A test checks that it is valid."""

from __future__ import annotations

EXAMPLE_ROLLOUT_RECIPE = """\
# Recipe of a rollout, which predicts positions of one molecule at any later times: `mlff train recipe.yaml`
# Keys that are commented out show their defaults. Paths are relative to this file and may hold environment variables.

rollout:
  backbone:                # reads the first state
    name: hegnn            # or any other backbone
    l_max: 1               # highest degree of the features; 0 is EGNN
    channels: 32
    n_layers: 2
    # cutoff: auto         # 1.3 times the longest distance of atoms; or a length in Angstrom
    # avg_num_neighbors: auto
  # base: null             # valence (a force field fitted to the file), harmonic, rotor, start, none; null chooses
  # basis: graph           # modes of the bond graph; or atoms
  # hops: 2                # atoms that are joined in the graph: up to this number of bonds apart
  # modes: null            # number of lowest modes that evolve, or `eigenspaces`; all by default
  # ode: true              # false leaves all knowledge of time to the decoder
  # order: 2               # second-order equation; or 1
  # vectors: 4
  # scalars: 24
  # width: 32
  # layers: 1              # of the decoder
  # solver: {name: dopri5, rtol: 0.001, atol: 0.001}   # or rk4, exact

data:                      # a trajectory of one molecule in the layout of MD17
  file: ethanol.npz        # `mlff data trajectory ... --friction 0.02` makes one; the noise of more cannot be predicted
  horizon: 100             # longest time, fs
  times: {irregular: 8}    # or regular
  # timestep: null         # time between frames, fs; that of the file, or 0.5
  # heavy_atoms: false     # true leaves hydrogens out
  # split: {train: 0.6, valid: 0.15, test: 0.25}   # in order of time, with gaps of one horizon
  # limit: {train: 1000, valid: 200, test: 400}    # numbers of first frames

loss:                      # in units of the errors of the base
  positions: 1.0
  # velocities: 0.1
  # sigma: 0.1             # of the likelihood that trains error bars
  # beta: 0.5

optimizer:
  learning_rate: 0.002
  ema_decay: 0.99          # averaged weights are validated and kept
  batch_size: 50
  valid_batch_size: 200
  max_epochs: 40           # the budget: epochs, minutes, processor minutes; the first one reached ends the run
  # max_minutes: 30
  # warmup_steps: 100
  # schedule: cosine
  # gradient_clip: 10.0

trainer:
  device: auto             # cpu or cuda
  precision: float32       # or float64
  seed: 0
  # validate_every: 1      # epochs
  # checkpoint_every: 1    # epochs

card:                      # goes into the card of the rollout
  title: My molecule
  data: where the trajectory comes from

output: runs/my-rollout
"""
