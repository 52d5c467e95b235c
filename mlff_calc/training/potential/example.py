"""The commented recipe written by `mlff train --example`. A test checks that it is valid."""

from __future__ import annotations

EXAMPLE_RECIPE = """\
# Recipe of a training run: `mlff train recipe.yaml`. Keys that are commented out show their defaults.
# Paths are relative to this file and may hold environment variables: ${MLFF_DATA}/ethanol.npz
# The page "Keys of a recipe" of the documentation lists every key; `mlff train --schema` gives the same to editors.

potential:
  backbone:
    name: hegnn            # the smallest error for its cost in use and in training
    cutoff: 5.0            # Angstrom
    l_max: 3               # highest degree of the features; higher is more accurate and slower
    channels: 64
    n_layers: 2            # 4 for molecules, where a step costs little
  # other backbones, each with its learning rate (for `optimizer`):
  # backbone: {name: equiformer, cutoff: 5.0, l_max: 2, channels: 32, n_layers: 2}   # 0.002
  # backbone: {name: cg_egnn, cutoff: 5.0, channels: 28, n_layers: 2, hops: 2}       # 0.005
  # backbone: {name: deq, block: hegnn, cutoff: 5.0, l_max: 3}   # 0.005; fixed_point: {contraction: 1, spectral_radius: 0.5}
  # forces: gradient       # gradient of the energy; or direct: cheaper, but without conserved energy and stress
  # repulsion: {}          # adds the short-range ZBL repulsion, which keeps atoms apart where there is no data
  # uncertainty: {}        # adds standard deviations of energies and forces, which change nothing else
  # elements: auto         # or a list, [H, C, O], to include elements of later data
  # scale: auto            # eV; auto measures it on the training forces
  # avg_num_neighbors: auto

# fine_tune_from: ethanol  # instead of `potential`: fine-tune a shipped potential or one in a folder; of a network of
                           # another kind (property, score, pretraining) the backbone is taken, and heads are new
# fine_tuning:
  # heads: auto            # new takes only the backbone of a potential as well
  # new_elements: refuse   # add begins elements anew that the start does not know
  # freeze: none           # backbone, or a number of lowest layers
  # layer_decay: 1.0       # factor of the learning rate from a layer to the one below

data:
  train: {file: structures.extxyz}      # any file ASE reads, or an rMD17 archive (.npz)
  split: {valid: 0.1, test: 0.1, seed: 0}   # counts (50) or fractions (0.1) of the `train` file
  # valid: {file: valid.extxyz}         # separate files instead of a split
  # test: {file: test.extxyz}
  # train: {file: ethanol.npz, part: train}   # rMD17 archives hold the parts train and test
  # train: [bulk.extxyz, {file: surfaces/*.extxyz, index: ":100"}]   # several files; patterns take all matches, sorted
  keys: {energy: energy, forces: forces}      # names of the labels in the file; config_type: config_type
  # for a stress, one of  stress: NAME (tensile positive);  virial: NAME, virial_sign: 1 (or -1);
  # vasp_stress: NAME (kbar, positive in compression, xx yy zz xy yz zx); stress_order: xx yy zz xy xz yz for another order
  # forces_sign: -1 for a gradient in place of forces
  units: {energy: eV, length: Angstrom}       # and, if not derived from these, forces: Hartree/Bohr, stress: GPa
  # keep_isolated_atoms: false    # true trains on frames with config_type=IsolatedAtom as on others

reference_energies: auto   # from frames with config_type=IsolatedAtom if there are any (isolated requires them), else
                           # fit, least squares over the training energies; or given in eV: {H: -13.6, O: -432.0}

loss:
  energy: 1.0              # weights; energies count per atom (eV), forces in eV/Angstrom, stress in eV/Angstrom^3
  forces: 1.0
  stress: 0.0              # a weight above 0 requires the label in the data
  # for crystals with stress: energy: 8.0, forces: 1.0, stress: 10.0, form: mse, and in `optimizer` batch_size: 2 (64 atoms)
  form: l2                 # l2 (norm per atom), huber (see huber_delta) or mse: a quarter less error on molten silicon
  # huber_delta: 0.01
  # config_weights: {surface: 4, Default: 1}   # weights of frames by config_type, 1 for all others
  # frame_weights: true    # use weights in the frames: config_weight, config_energy_weight, config_forces_weight, ...

optimizer:
  name: adamw              # or adam
  learning_rate: 0.004     # that of hegnn
  weight_decay: 0.0
  warmup_steps: 100
  schedule: cosine         # to `floor` times the learning rate at the end of the budget; or constant
  # floor: 0.01
  gradient_clip: 10.0      # null turns it off
  ema_decay: 0.999         # averaged weights are validated and kept; null turns averaging off
  batch_size: 8
  # valid_batch_size: 8
  max_epochs: 200          # the budget: epochs, minutes, processor minutes; the first one reached ends the run
  # max_minutes: 30
  # max_cpu_minutes: 30    # of all threads; suits machines that do other work as well

trainer:
  device: auto             # cpu or cuda
  n_devices: 1             # more than one trains data-parallel; batch_size is per device
  precision: float32       # mixed or float64
  seed: 0
  compile: false           # true compiles the training: about 2 minutes to start with hegnn, 6 with equiformer, then
                           # several times faster
  # early_stop: 50         # number of validations without improvement after which the run ends
  # checkpoint_every: 1    # epochs
  # validate_every: 1      # epochs

card:                      # goes into the card of the potential
  title: My potential
  level_of_theory: PBE/def2-SVP
  data: where the structures come from
  not_for: what it should not be used for

output: runs/my-potential
"""
