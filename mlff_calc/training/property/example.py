"""The commented recipe written by `mlff train --example property`. A test checks that it is valid."""

from __future__ import annotations

EXAMPLE_PROPERTY_RECIPE = """\
# Recipe of a property, one number of a structure with an error bar: `mlff train recipe.yaml`
# Keys that are commented out show their defaults. Paths are relative to this file and may hold environment variables.

property:
  backbone:
    name: hegnn            # or any other backbone
    l_max: 2               # highest degree of the features
    channels: 64
    n_layers: 3
    cutoff: 5.0            # Angstrom
    # avg_num_neighbors: auto
  head:
    name: distribution     # an error bar of each structure; scalar (the default) for one number, with one error bar for all
    # bins: 64             # more bins for labels with little noise
    # layouts: [uniform, quantile, normal]
    # width: 0.75
    # gate: false
  pooling: mean            # sum for totals; references for totals such as energies, after a number for each element

# fine_tune_from: path     # a trained network to start from: a property with this head as a whole, of other kinds
                           # (potential, score, pretraining) the backbone; leave `property.backbone` out then
# fine_tuning:
  # heads: auto            # new takes only the backbone of a property as well
  # new_elements: refuse   # add begins elements anew that the start does not know
  # freeze: none           # backbone, or a number of lowest layers
  # layer_decay: 1.0       # factor of the learning rate from a layer to the one below

data:                      # files that ASE reads with the label in atoms.info, or tables (.csv) with SMILES
  train: molecules.extxyz
  # valid: other.extxyz    # in place of split.valid
  # test: another.extxyz
  split: {valid: 0.1, test: 0.1, seed: 0}
  label: gap               # name in atoms.info, or column of the table
  unit: eV                 # for reports; nothing is converted
  # smiles: smiles         # column of SMILES
  # failed: refuse         # skip leaves SMILES out that give no molecule
  # missing: refuse        # skip leaves frames out without a label

loss:
  expectation: 10.0        # weight of the error of the mean beside the cross entropy; for scalar: form l1, huber or mse

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
  title: My property
  data: where the labels come from

output: runs/my-property
"""
