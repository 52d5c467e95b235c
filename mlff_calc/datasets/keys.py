"""Keys of labels. Networks declare the same keys for their predictions; the registry refuses differing declarations."""

from __future__ import annotations

from typing import Final, Literal

from mlff_calc.graph.keys import DOUBLE, declare

ENERGY: Final[Literal["energy"]] = "energy"
FORCES: Final[Literal["forces"]] = "forces"
STRESS: Final[Literal["stress"]] = "stress"
declare(ENERGY, "system", (), DOUBLE, "eV", "total energy")
declare(FORCES, "atom", (3,), DOUBLE, "eV/Angstrom", "force on each atom")
declare(STRESS, "system", (3, 3), DOUBLE, "eV/Angstrom^3", "tensile positive: -virial / volume")
