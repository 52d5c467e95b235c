"""Evaluation of a potential on a batch of ASE structures, without a calculator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from mlff_calc.errors import UnknownElementError
from mlff_calc.graph import collate, graph_from_atoms

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_calc.potential.model import Potential


class Knows(Protocol):
    """A potential in any form: eager, compiled or exported."""

    @property
    def elements(self) -> Sequence[int]:
        """Atomic numbers that it knows."""


def check_elements(numbers: np.ndarray, potential: Knows, where: str = "the structure") -> None:
    """Check that a potential knows all elements of `numbers` [n_atoms].

    Raises:
        UnknownElementError: an element is unknown; the message names it, its first atom and the known elements.
    """
    from ase.data import chemical_symbols

    unknown = ~np.isin(numbers, potential.elements)
    if unknown.any():
        first = int(np.flatnonzero(unknown)[0])
        known = " ".join(chemical_symbols[z] for z in potential.elements)
        number = int(numbers[first])
        symbol = chemical_symbols[number] if number < len(chemical_symbols) else f"number {number}"
        msg = f"unknown element {symbol} (atom {first} of {where}); this potential knows {known}"
        raise UnknownElementError(msg)


def evaluate_atoms(potential: Potential, structures: Sequence[Atoms]) -> dict[str, np.ndarray]:
    """Return the potential's outputs for a batch of structures, as float64 numpy arrays (shapes as in `Potential.forward`).

    Raises:
        UnknownElementError: the potential does not know an element.
        StructureError: see `graph_from_atoms`.
    """
    for index, atoms in enumerate(structures):
        check_elements(atoms.numbers, potential, f"structure {index}")
    device = next(potential.parameters()).device
    batch = collate([graph_from_atoms(atoms, potential.cutoff) for atoms in structures])
    with torch.enable_grad():  # forces are a gradient, even if the caller switched gradients off
        outputs = potential({key: value.to(device) for key, value in batch.items()})
    return {key: value.detach().cpu().numpy() for key, value in outputs.items()}
