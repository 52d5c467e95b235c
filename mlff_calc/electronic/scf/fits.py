"""Checks that a PySCF mean field is of the level for which a model was trained."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mlff_calc.electronic.scf.pyscf_door import check_mole, pyscf_module
from mlff_calc.errors import OptionError, UnknownElementError

_PLAIN = {"b3lyp": "b3lypg"}
"""Names that a configuration file of PySCF may give another meaning, and those that have one meaning only."""


def same_functional(one: str, other: str) -> bool:
    """Whether two names are one functional in the installed PySCF: as `B3LYP` and `b3lypg` are."""
    return _parsed(one) == _parsed(other)


def _parsed(name: str) -> tuple[Any, ...]:
    """A functional as numbers; equal parts are joined."""
    libxc = pyscf_module("pyscf.dft.libxc")
    try:
        hybrid, parts = libxc.parse_xc(_PLAIN.get(name.lower().strip(), name))
    except (KeyError, ValueError) as error:
        raise OptionError(f"PySCF does not know the functional {name!r} ({error}); give another name for it") from error
    summed: dict[int, float] = {}
    for number, factor in parts:
        summed[int(number)] = summed.get(int(number), 0.0) + float(factor)
    kept = tuple(sorted((number, round(factor, 10)) for number, factor in summed.items() if factor))
    return (*(round(float(part), 10) for part in hybrid), kept)


def check_closed_shell(mf: Any) -> None:
    """Refuse mean fields other than restricted closed shells of molecules in spherical orbitals of all electrons.

    Raises:
        OptionError, StructureError: Names what is not supported.
    """
    scf, gto = pyscf_module("pyscf.scf"), pyscf_module("pyscf.gto")
    mol = getattr(mf, "mol", None)
    if not isinstance(mol, gto.Mole) or hasattr(mf, "kpts") or hasattr(mf, "cell") or not isinstance(mf, scf.hf.SCF):
        raise OptionError(
            f"{type(mf).__module__}.{type(mf).__name__} is not a mean field of PySCF for a molecule; make one by "
            "dft.RKS(mol) (gpu4pyscf: mf.to_cpu())"
        )
    check_mole(mol)
    if not isinstance(mf, scf.hf.RHF) or isinstance(mf, scf.rohf.ROHF):
        raise OptionError(f"{type(mf).__name__} is not a restricted closed shell; make the mean field by dft.RKS(mol)")


def check_fits(mf: Any, model: Any) -> None:
    """Refuse mean fields of another level, charge, spin or elements than those of a model.

    Args:
        mf: Mean field of PySCF.
        model: Model with `settings`, and where it has them `elements` (symbols or atomic numbers), `charge` (default 0).

    Raises:
        OptionError, StructureError: The level, charge or spin differ, or something is not supported.
        UnknownElementError: An element is unknown to the model.
    """
    check_closed_shell(mf)
    mol, settings = mf.mol, model.settings
    charge = int(getattr(model, "charge", 0))
    if mol.charge != charge:
        raise OptionError(
            f"the molecule has a charge of {mol.charge} e, and the model was trained for {charge} e; "
            "use a model for this charge, or start from minao"
        )
    elements = getattr(model, "elements", None)
    if elements is not None:
        _check_elements(mol, {one if isinstance(one, str) else chemical_symbols[int(one)] for one in elements})
    own = getattr(mf, "xc", "hf")
    if not same_functional(own, settings.xc):
        raise OptionError(
            f"the functional of the mean field is {own!r}, and the model was trained for {settings.xc!r}. Set mf.xc, or use "
            "another model (b3lyp is another functional than b3lyp5, which PySCF before 2.3 called b3lyp)"
        )
    _check_basis(mol, settings.basis)


def _check_elements(mol: Any, known: set[str]) -> None:
    for index in range(mol.natm):
        symbol = mol.atom_pure_symbol(index)
        if symbol not in known:
            raise UnknownElementError(
                f"unknown element {symbol} at atom {index}; the model knows {' '.join(sorted(known))}. Use a model trained "
                f"for {symbol}, or start from minao"
            )


def _check_basis(mol: Any, name: str) -> None:
    """Compare shells, exponents and contractions of every element with those of a basis by name."""
    gto = pyscf_module("pyscf.gto")
    firsts: dict[str, int] = {}  # an atom of every label, since PySCF gives a basis to each label
    for index in range(mol.natm):
        firsts.setdefault(mol.atom_symbol(index), index)
    for index in firsts.values():
        symbol = mol.atom_pure_symbol(index)
        try:
            alone = gto.M(atom=[(symbol, (0.0, 0.0, 0.0))], basis=name, spin=None, verbose=0)
        except (KeyError, RuntimeError, ValueError) as error:
            raise OptionError(f"the model's basis {name} has no functions for {symbol} in this PySCF ({error})") from error
        if not _same_shells(_shells(mol, index), _shells(alone, 0)):
            given = mol.basis if isinstance(mol.basis, str) else "of another kind"
            raise OptionError(
                f"the basis of atom {index} ({symbol}) is {given}, and the model was trained for {name}; "
                f"set mol.basis = {name!r}, or use another model"
            )


def _same_shells(found: list[tuple[int, Any, Any]], wanted: list[tuple[int, Any, Any]]) -> bool:
    return len(found) == len(wanted) and all(
        one[0] == other[0]
        and all(a.shape == b.shape and np.allclose(a, b, rtol=1e-6) for a, b in zip(one[1:], other[1:], strict=True))
        for one, other in zip(found, wanted, strict=True)
    )


def _shells(mol: Any, atom: int) -> list[tuple[int, Any, Any]]:
    """Degree, exponents and contractions of the shells of an atom, in PySCF's order."""
    shells = mol.atom_shell_ids(atom)
    return [(int(mol.bas_angular(one)), mol.bas_exp(one), mol.bas_ctr_coeff(one)) for one in shells]
