"""Building networks for Fock matrices from plain dicts."""
from __future__ import annotations

from typing import Any

from mlff_calc.electronic.hamiltonian.model import HamiltonianNetwork

DEFAULTS = {
    "l_max": 4, "channels": 24, "hidden": 48, "products": 16, "scalars": 32, "layers": 3, "n_basis": 16, "cutoff": 6.0,
    "pair_cutoff": 8.0, "avg_num_neighbors": 2.0, "target": "initial", "product_target": "atoms",
}


def build_hamiltonian(config: dict[str, Any], seed: int | None = None) -> HamiltonianNetwork:
    return HamiltonianNetwork.seeded(DEFAULTS | config, seed)
