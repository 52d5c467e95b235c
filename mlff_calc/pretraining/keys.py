"""Keys of graphs in pretraining: copies of structures, their noise, codes, and parts that turn about bonds.

A batch of pretraining holds each structure several times, as copies with different noise. `copy_role` says what a copy is
for, and `code_of` the copy without noise that it belongs to.
"""

from __future__ import annotations

from typing import Final

import torch

from mlff_calc.graph.keys import DOUBLE, INT, declare

CLEAN, RECONSTRUCTED, DENOISED = 0, 1, 2
"""Roles of copies: without noise, with noise that the decoder finds, with noise that the features of atoms tell."""

COPY_ROLE: Final = declare("copy_role", "system", (), INT, "", "0 without noise, 1 to reconstruct, 2 to denoise")
CODE_OF: Final = declare("code_of", "system", (), INT, "", "system whose code the decoder reads", points_to="system")
CODE: Final = declare("code", "system", (None,), None, "", "code of the structure [n_systems, width]")
NOISE_TARGET: Final = declare("noise_target", "atom", (3,), DOUBLE, "", "noise to find, in units of its standard deviation")
RECONSTRUCTION: Final = declare(
    "reconstruction", "atom", (3,), DOUBLE, "", "noise found with the code, in units of its standard deviation; else 0"
)
HINGES: Final = declare(
    "hinges", "system", (None, 3), INT, "", "atoms i, j, h of bonds i-j that turn, counted in the system; -1 for none"
)
HINGE_SCALES: Final = declare(
    "hinge_scales", "system", (None, 3), DOUBLE, "", "noise of length (Angstrom), angle and torsion (radian) of each bond"
)
HINGE_ATOMS: Final = declare("hinge_atoms", "atom", (None,), torch.bool, "", "whether a bond of the system moves the atom")
