"""The commented recipe written by `mlff train --example pretraining`. A test checks that it is valid."""

from __future__ import annotations

EXAMPLE_PRETRAINING_RECIPE = """\
# Recipe of a pretraining, which gives a backbone to fine-tune from: `mlff train recipe.yaml`
# Keys that are commented out show their defaults. Paths are relative to this file and may hold environment variables.

pretraining:
  backbone:                # the potential or property that starts from it has the same backbone
    name: hegnn            # or any other backbone
    l_max: 2               # highest degree of the features
    channels: 64
    n_layers: 3
    cutoff: 5.0            # Angstrom
    # avg_num_neighbors: auto
  objective:
    name: georecon         # denoising; or supervised, with labels of a cheap method
    # noise: cartesian     # of copies to denoise; fractional or bond_angle_torsion for molecules
    # sigma: 0.04          # noise to denoise, Angstrom
    sigma_reconstruction: 0.2   # noise to reconstruct, Angstrom
    # pooling: sum         # or mean
    # width: 0             # entries of the code; 0 for the number of channels
    # decoder_layers: 1
    # conditioning: fusion # or adaptive_norm
    # code: true           # constant trains without codes, for comparison

data:                      # structures without labels, in any format of ASE
  train: structures.extxyz
  # valid: other.extxyz    # in place of split.valid
  # test: another.extxyz
  split: {valid: 0.05, test: 0.05, seed: 0}
  # keys: {energy: energy, forces: forces}   # for supervised

loss:
  reconstruction: 1.0
  denoising: 1.0
  # clean: 0.0             # 0.1: no noise should be found in structures without noise
  # energy: 0.0            # for supervised
  # forces: 0.0

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
  # validate_every: 1      # epochs
  # checkpoint_every: 1    # epochs

card:                      # goes into the card of the network
  title: My backbone
  data: where the structures come from

output: runs/my-backbone
"""
