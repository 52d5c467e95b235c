"""Keys of graphs that potentials read and return."""

from __future__ import annotations

from typing import Final

import torch

from mlff_calc.graph.keys import DOUBLE, INT, WHOLE, declare
from mlff_calc.heads.direct_forces import FORCES
from mlff_calc.heads.energy import ENERGIES

__all__ = ["ATOMIC_VIRIAL", "ENERGIES", "ENERGY", "FORCES", "STRESS", "VIRIAL"]

ENERGY: Final = declare("energy", "system", (), DOUBLE, "eV", "total energy")
STRESS: Final = declare("stress", "system", (3, 3), DOUBLE, "eV/Angstrom^3", "tensile positive: -virial / volume")
VIRIAL: Final = declare("virial", "system", (3, 3), DOUBLE, "eV", "minus the sum of r (x) dE/dr, positive in compression")
ATOMIC_VIRIAL: Final = declare("atomic_virial", "atom", (3, 3), DOUBLE, "eV", "contribution of each atom to the virial")

# Keys of a fixed point: starts and results of its solves, and what training measures.
for _name, _doc in (
    ("start_state", "start of the solve for the fixed point"),
    ("start_adjoint", "start of the solve for the adjoint"),
    ("state", "fixed point z [n_atoms, *state_shape], e3nn order"),
    ("adjoint", "adjoint lambda of the fixed point, of the same shape"),
    ("embedding", "u, the features that f adds to"),
    ("probe", "direction of a power iteration in training"),
):
    declare(_name, "atom", (None, None), None, "", _doc)
for _name, _doc in (
    ("path_states", "iterates of the state in a solve [n_counts, n_atoms, *state_shape]"),
    ("path_adjoints", "iterates of the adjoint, of the same shape"),
    ("past_embeddings", "embeddings of the last steps [window, n_atoms, *state_shape], newest first"),
    ("past_states", "states of the last steps"),
    ("past_adjoints", "adjoints of the last steps"),
):
    declare(_name, "atom", (None, None, None), None, "", _doc, axis=1)
for _name, _doc in (
    ("state_secants", "changes of z and of f(z) - z in earlier solves [2, kept, n_atoms, *state_shape]"),
    ("adjoint_secants", "the same of the adjoint"),
    ("new_state_secants", "changes of z and of f(z) - z in this solve"),
    ("new_adjoint_secants", "the same of the adjoint"),
):
    declare(_name, "atom", (2, None, None, None), None, "", _doc, axis=2)
declare("residual", "system", (), DOUBLE, "", "relative residual of z")
declare("adjoint_residual", "system", (), DOUBLE, "", "relative residual of lambda")
declare("evaluations", "system", (), INT, "", "number of evaluations of f in the solve")
declare("adjoint_evaluations", "system", (), INT, "", "number of products with the transposed Jacobian in the solve")
declare("growth", "system", (), None, "", "factor by which the transposed Jacobian lengthens the probe")

# Keys of a step of a trajectory on a fixed point, and of its memory in rows.
declare("mix", WHOLE, (None,), DOUBLE, "", "weights of the last steps in the start; all zero: least squares decides")
declare("ridges", WHOLE, (2,), DOUBLE, "", "ridges of the least-squares mix and of the acceleration")
declare("cold", WHOLE, (), torch.bool, "", "whether the step begins at the embedding and ignores the memory")
declare("memory", "atom", (None, None), None, "", "memory of a fixed point in rows [n_atoms, slots, width]")
declare("control", WHOLE, (4,), DOUBLE, "", "mode, ridge of the start, ridge of the acceleration, tolerance of the engine")
declare("residuals", WHOLE, (2,), DOUBLE, "", "relative residuals of state and adjoint, of all processes")
