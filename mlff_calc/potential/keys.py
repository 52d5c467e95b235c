"""Keys of graphs that potentials read and give."""

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
ATOMIC_VIRIAL: Final = declare("atomic_virial", "atom", (3, 3), DOUBLE, "eV", "the virial's share of each atom")

# A fixed point: where its solves begin, what they found, and what training measures on it.
for _name, _doc in (
    ("start_state", "where the solve of a fixed point begins"),
    ("start_adjoint", "where the solve of its adjoint begins"),
    ("state", "fixed point z [n_atoms, (l_max+1)^2, channels], e3nn order"),
    ("adjoint", "adjoint lambda of the fixed point, of the same shape"),
    ("embedding", "u, the features that f writes on"),
    ("probe", "direction of a power iteration in training"),
):
    declare(_name, "atom", (None, None), None, "", _doc)
for _name, _doc in (
    ("path_states", "states that a solve tried on its way [n_counts, n_atoms, (l_max+1)^2, channels]"),
    ("path_adjoints", "adjoints that a solve tried on its way, of the same shape"),
    ("past_embeddings", "embeddings of the last steps [window, n_atoms, (l_max+1)^2, channels], newest first"),
    ("past_states", "states of the last steps"),
    ("past_adjoints", "adjoints of the last steps"),
):
    declare(_name, "atom", (None, None, None), None, "", _doc, axis=1)
for _name, _doc in (
    ("state_secants", "changes of z and of f(z) - z in earlier solves [2, kept, n_atoms, (l_max+1)^2, channels]"),
    ("adjoint_secants", "the same of the adjoint"),
    ("new_state_secants", "changes of z and of f(z) - z in this solve"),
    ("new_adjoint_secants", "the same of the adjoint"),
):
    declare(_name, "atom", (2, None, None, None), None, "", _doc, axis=2)
declare("residual", "system", (), DOUBLE, "", "relative residual of z")
declare("adjoint_residual", "system", (), DOUBLE, "", "relative residual of lambda")
declare("evaluations", "system", (), INT, "", "evaluations of f that the solve took")
declare("adjoint_evaluations", "system", (), INT, "", "products with the transposed Jacobian that it took")
declare("growth", "system", (), None, "", "how much the transposed Jacobian lengthens the probe")

# A step of a trajectory on a fixed point, and its memory in rows.
declare("mix", WHOLE, (None,), DOUBLE, "", "weights of the last steps in the start; all zero: least squares decides")
declare("ridges", WHOLE, (2,), DOUBLE, "", "ridges of the least-squares mix and of the acceleration")
declare("cold", WHOLE, (), torch.bool, "", "whether the step begins at the embedding, whatever the memory holds")
declare("memory", "atom", (None, None), None, "", "memory of a fixed point in rows [n_atoms, slots, width]")
declare("control", WHOLE, (4,), DOUBLE, "", "mode, ridge of the start, ridge of the acceleration, and a zero")
declare("residuals", WHOLE, (2,), DOUBLE, "", "relative residuals of state and adjoint, of all processes")
