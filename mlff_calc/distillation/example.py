"""The commented recipe written by `mlff distill --example`. A test checks it, and that its defaults are those."""

from __future__ import annotations

EXAMPLE_RECIPE = """\
# Recipe of a distillation: `mlff distill recipe.yaml`. Keys that are commented out show their defaults.
# Paths are relative to this file.

teacher:
  name: gfn2-xtb           # gfn2-xtb, gfn1-xtb, emt, 7net-0, chgnet, or name or folder of a potential of this package
  # python: my_teacher:calculator   # instead of a name: a function that makes an ASE calculator, in eV and Angstrom
  # options: {}            # its keyword arguments, such as {accuracy: 0.1}
  # environment: ~/other/bin/python   # another Python, in which the teacher is installed; it needs ASE and NumPy, and not us

systems:
  smiles: [CCO]            # molecules; O.CO is two of them in contact
  # fragments: false       # fragments of the SMILES by the rules of BRICS are systems too
  # pairs: 0               # so many pairs of the SMILES in contact are systems too
  # vacancies: 0           # so many supercells of each crystal in `files` that lack an atom
  # surfaces: []           # slabs of each crystal by Miller indices, such as [[1, 0, 0], [1, 1, 1]]
  # files: [ethanol.xyz]   # structures: frames of one composition are one system
  # frames: null           # most frames that a system gives at first; by default what the budget of labels allows
  # conformers: 3          # of a SMILES
  # temperatures: [300, 600, 1000]   # of dynamics by MMFF94, K
  # rattle: [0.02, 0.05, 0.1]        # random displacements, Angstrom
  # strain: 0.03           # of periodic cells
  # held_out: 0.2          # share of the systems (of one system: of its frames) that is never learned

explore:                   # dynamics of the students
  # temperatures: [300, 600, 1000]   # K; the first of several rounds takes the lowest
  # replicas: 12           # trajectories, and a third as many for the audit
  # steps: 400
  # every: 10              # steps between frames
  # timestep: null         # fs; by default 0.5 where there is hydrogen, else 2
  # friction: 10.0         # 1/ps
  # max_force: 50.0        # eV/Angstrom; a trajectory ends above it
  # reactive: false        # true lets bonds of molecules break

student:
  # committee: 3           # students whose spread is the uncertainty; 1 takes one with heads of errors
  # potential: {backbone: {name: hegnn, cutoff: 5.0, l_max: 2, channels: 32, n_layers: 2}}   # as in `mlff train --example`
  # loss: {energy: 1.0, forces: 1.0}
  # optimizer: {learning_rate: 0.004, batch_size: 8}
  # trainer: {compile: false}
  # steps: 500             # of a student in a round; by default what the time allows
  # final_steps: 5000      # of the last training; by default the rest of the time

label:
  # workers: 1             # processes of one thread each
  # timeout: 60.0          # s
  # retries: null          # options for structures that failed, a set for each further attempt; by default the teacher's own
  # stress: auto           # asked for where all structures are crystals

stop:
  # target: 0.03           # mean absolute error of forces on audit frames, eV/Angstrom
  # tolerance: 0.06        # error of the worst force of a frame in 90 of 100 cases; by default twice the target
  # candidates: 0.01       # share of frames above the tolerance below which nothing is left to learn

budget:
  minutes: 15              # all of it, the last training included
  # labels: 1000
  # rounds: 4
  # final: 0.4             # share of the time for the last training

# seed: 0
output: runs/my-distillation
"""
