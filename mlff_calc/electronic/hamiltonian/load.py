"""Loading a network for Fock matrices from its folder."""

from __future__ import annotations

from pathlib import Path

from mlff_calc.electronic.hamiltonian.build import build_hamiltonian
from mlff_calc.electronic.hamiltonian.model import HamiltonianNetwork
from mlff_calc.networks.load import load_network


def load_hamiltonian(name_or_path: str | Path) -> HamiltonianNetwork:
    """Load a network for Fock matrices by the name it ships under or the path of its folder, in float32 and evaluation mode.

    Raises:
        PotentialFileError: It is of another kind, is truncated or newer than this package, or was changed after it was
            written.
    """
    return load_network(name_or_path, HamiltonianNetwork.kind, build_hamiltonian)
