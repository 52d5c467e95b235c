"""What a functional was trained for, compared with a molecule and a grid of PySCF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mlff_calc.electronic.functional.bases import BASES
from mlff_calc.electronic.functional.model import FunctionalNetwork
from mlff_calc.electronic.scf.pyscf_door import pyscf_module
from mlff_calc.errors import OptionError, UnknownElementError


@dataclass(frozen=True)
class Allowed:
    """What is allowed beyond the training.

    Attributes:
        charge: Whether other charges are.
        elements: Whether other elements are.
        basis: Whether another basis is.
        grid: Whether another grid is.
    """

    charge: bool = False
    elements: bool = False
    basis: bool = False
    grid: bool = False


def check_molecule(network: FunctionalNetwork, mol: Any, allowed: Allowed) -> None:
    """Compare charge, elements and basis of a molecule of PySCF with those of the training.

    Raises:
        OptionError: Charge or basis are others.
        UnknownElementError: An element was not trained on.
    """
    trained = network.config["charges"]
    if mol.charge not in trained and not allowed.charge:
        seen = "neutral molecules" if trained == [0] else f"charges of {', '.join(str(one) for one in trained)} e"
        raise OptionError(
            f"the molecule has a charge of {mol.charge} e, and the functional was trained on {seen}; set allow_charge=True "
            "to compute it all the same, with errors that nobody has measured"
        )
    symbols = [mol.atom_pure_symbol(k) for k in range(mol.natm)]
    unknown = sorted({symbol for symbol in symbols if atomic_numbers[symbol] not in network.elements})
    if unknown and not allowed.elements:
        known = ", ".join(chemical_symbols[number] for number in network.elements)
        raise UnknownElementError(
            f"the functional was trained on {known}, not on {', '.join(unknown)}; set allow_other_elements=True to "
            "compute it all the same, with errors that nobody has measured and no fitted constant"
        )
    if not allowed.basis:
        _check_basis(network.basis, mol)


def _check_basis(name: str, mol: Any) -> None:
    trained = {}
    for k in range(mol.natm):
        symbol, label = mol.atom_pure_symbol(k), mol.atom_symbol(k)
        if symbol not in trained:
            try:
                trained[symbol] = pyscf_module("pyscf.gto").format_basis({symbol: name})[symbol]
            except Exception:  # PySCF's own error for an element that the basis lacks; it is another basis then
                trained[symbol] = None
        own = mol._basis.get(label, mol._basis.get(symbol))
        if trained[symbol] is None or not _same(own, trained[symbol]):
            shown = mol.basis if isinstance(mol.basis, str) else "another one"
            raise OptionError(
                f"the basis of {label} is {shown}, and the functional was trained with {name}, whose errors its weights "
                f"compensate; build the molecule with basis={name!r}, or set allow_other_basis=True to use it all the same"
            )


def _same(one: Any, other: Any) -> bool:
    """Whether two shells, or lists of shells, have equal degrees, exponents and coefficients."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    return bool(np.ndim(one) == np.ndim(other) == 0 and one == other)


def check_use(network: FunctionalNetwork, grids: Any, xc: str, allowed: Allowed) -> None:
    """Compare the grid and the name of the functional in a mean field with those of the training.

    Raises:
        OptionError: They are others.
    """
    if xc != BASES[network.base]:
        raise OptionError(
            f"xc of the mean field is {xc!r}, but it computes a learned functional on {BASES[network.base]!r}; leave xc "
            "as it is, or make another mean field by pyscf.dft.RKS"
        )
    if allowed.grid:
        return
    if grids.level != network.grid_level or grids.prune or grids.atom_grid:
        pruned = "" if not grids.prune else ", pruned"
        raise OptionError(
            f"the grid is of level {grids.level}{pruned}, and the functional was trained with level {network.grid_level}, "
            "not pruned, whose errors its weights compensate; leave mf.grids as it is, or set allow_other_grid=True"
        )
