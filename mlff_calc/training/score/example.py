"""The commented recipe written by `mlff train --example score`. A test checks that it is valid."""

from __future__ import annotations

EXAMPLE_SCORE_RECIPE = """\
# Recipe of a score model, which draws structures of one molecule or cluster: `mlff train recipe.yaml`
# Keys that are commented out show their defaults. Paths are relative to this file and may hold environment variables.

score:
  backbone:
    name: hegnn            # or any other backbone
    l_max: 2               # highest degree of the features
    channels: 64
    n_layers: 3
    n_basis: 16            # number of radial functions
    # cutoff: auto         # 1.3 times the longest distance of atoms; or a length in Angstrom
    # avg_num_neighbors: auto
  temperature: 500         # of the dynamics that made the frames, K; or kT in the unit of their energies
  # bonds: auto            # none for clusters without bonds
  # sigma_min: auto        # smallest and largest noise, Angstrom
  # sigma_max: auto
  # spacing: geometric     # or karras

data:                      # frames of one molecule with forces, in any format of ASE
  train: dynamics.extxyz
  # valid: other.extxyz    # in place of split.valid
  # test: another.extxyz
  split: {valid: 0.1, test: 0.1, seed: 0}
  # keys: {forces: forces}
  # units: {energy: eV, length: Angstrom}

loss:
  target: optimal          # mixture of forces and noise; or directional (the same by direction, for molecules), piecewise,
                           # dsm (noise alone), tsm (forces alone)
  # window: null           # noise below which piecewise takes forces, Angstrom
  # anchor: 0.0            # share of frames without noise
  # clip: null             # largest norm of F/kT of a frame, 1/Angstrom

optimizer:
  learning_rate: 0.002
  ema_decay: 0.999         # averaged weights are validated and kept
  batch_size: 32
  max_minutes: 30          # the budget: minutes, max_cpu_minutes or max_epochs; the first one reached ends the run
  # warmup_steps: 100
  # schedule: cosine
  # gradient_clip: 10.0

trainer:
  device: auto             # cpu or cuda
  precision: float32       # or float64
  seed: 0
  compile: false           # true compiles the training: minutes to start, worth it for long runs
  # validate_every: 1      # epochs
  # checkpoint_every: 1    # epochs

card:                      # goes into the card of the model
  title: My molecule
  data: where the frames come from

output: runs/my-score-model
"""
