"""The commented recipe written by `mlff train --example propagator`. A test checks that it is valid."""

from __future__ import annotations

EXAMPLE_MOTION_RECIPE = """\
# Recipe of a propagator, which predicts positions at a later time: `mlff train recipe.yaml`
# Keys that are commented out show their defaults. Paths are relative to this file and may hold environment variables.

propagator:
  backbone:
    name: hegnn            # or any other backbone
    l_max: 3               # highest degree of the features; 0 is EGNN
    channels: 64
    n_layers: 4
    moves: true            # every layer moves the particles, and the next one sees their new positions
    # cutoff: auto         # 1.5 times the longest edge of the training samples; or a length in the unit of the data
    # avg_num_neighbors: auto
  # predict_velocities: false   # true needs velocities at the later time, and a weight in `loss`
  # centre: false          # true also gives positions relative to the centre of each system

data:                      # one file holds train, valid and test; its format is told by its content
  file: nbody5.npz         # `mlff data nbody` makes one
  # format: null           # nbody, md17, mocap or asf_amc where the content does not tell
  # horizon: null          # number of frames to predict ahead; null for that of the format's protocol
  # start: null            # first frame (N-body)
  # hops: 2                # edges along up to this number of bonds or bones (molecules, skeletons)
  # heavy_atoms: true      # leave hydrogens out (molecules)
  # neighbors: null        # number of nearest neighbours, instead of the edges of the format
  # times: null            # or {irregular: 8}: several times up to the horizon, on the windows of rollouts (molecules)
  # limit: {train: null, valid: null, test: null}   # number of samples from the first on

loss:
  positions: 1.0           # weights; mean squares in the units of the data
  # velocities: 0.0
  # form: mse              # or l2, the norm per particle

optimizer:
  name: adamw              # or adam
  learning_rate: 0.001
  weight_decay: 0.0
  warmup_steps: 100
  schedule: cosine         # to `floor` times the learning rate at the end of the budget; or constant
  # floor: 0.01            # learning rate at the end, as a share of the largest
  gradient_clip: 10.0      # null turns it off
  ema_decay: 0.999         # averaged weights are validated and kept; null turns averaging off
  batch_size: 100
  # valid_batch_size: 100
  max_epochs: 500          # the budget: epochs, minutes, processor minutes; the first one reached ends the run
  # max_minutes: 30
  # max_cpu_minutes: 30    # of all threads; suits machines that do other work as well

trainer:
  device: auto             # cpu or cuda
  precision: float32       # or float64
  seed: 0
  compile: false           # true compiles the training: minutes to start, worth it for long runs
  # early_stop: 50         # number of validations without improvement after which the run ends
  # checkpoint_every: 1    # epochs
  # validate_every: 1      # epochs

card:                      # goes into the card of the propagator
  title: My propagator
  data: where the trajectories come from
  not_for: what it should not be used for

output: runs/my-propagator
"""
