"""Structures of other packages, taken where ASE atoms are taken.

pymatgen is imported only when one of its objects arrives: what an object is, is read from the module its class is
defined in.
"""

from __future__ import annotations

import warnings
from typing import Any

from ase import Atoms

from mlff_calc.errors import StructureError

_ISOTOPES = {"D": 2.014101778, "T": 3.016049281}  # amu, of the atoms (pymatgen has those of the nuclei)
_ROUNDING = 1e-6  # elementary charges, of a sum of fractional oxidation states


def to_atoms(structure: object) -> Atoms:
    """ASE atoms for a structure of ASE or pymatgen.

    Args:
        structure: `ase.Atoms`, or pymatgen's `Structure`, `IStructure` (periodic along all three directions) or
            `Molecule`, `IMolecule` (no cell).

    Returns:
        The object itself where it is `ase.Atoms`; otherwise new atoms, without a calculator. A charge other than 0 and a
        spin multiplicity other than 1 are in `info` as `charge` and `multiplicity`, where ASE has no place for them.
        Deuterium and tritium are hydrogen with a mass of their own.

    Raises:
        StructureError: an object of another kind, or a site that is shared by several elements or partly empty.
    """
    if isinstance(structure, Atoms):
        return structure
    if not _is_pymatgen(structure):
        kind = f"{type(structure).__module__}.{type(structure).__qualname__}"
        raise StructureError(
            f"cannot take {kind} as a structure; give ase.Atoms (ase.io.read for files), or a pymatgen Structure or Molecule"
        )
    sites: Any = structure
    for index, site in enumerate(sites):
        if not site.is_ordered:
            raise StructureError(
                f"site {index} of the structure is disordered ({site.species_string}), a potential needs one element "
                "per site; choose an ordered structure, for example with pymatgen's OrderDisorderedStructureTransformation"
            )
    from pymatgen.io.ase import AseAtomsAdaptor

    adapted = AseAtomsAdaptor.get_atoms(sites)
    atoms = Atoms(adapted)  # plain atoms: the adaptor returns a class of its own, with a calculator on some inputs
    atoms.calc = None
    _set_isotopes(atoms, sites)
    atoms.info.update(_charge_and_spin(sites))
    return atoms


def _set_isotopes(atoms: Atoms, structure: Any) -> None:
    """Masses of deuterium and tritium, which are elements of their own for pymatgen, and hydrogen for ASE."""
    species = [getattr(site.specie, "element", site.specie) for site in structure]  # of an ion, its element
    names = [getattr(one, "name", "") for one in species]
    heavy = {index: _ISOTOPES[name] for index, name in enumerate(names) if name in _ISOTOPES}
    if heavy:
        masses = atoms.get_masses()
        masses[list(heavy)] = list(heavy.values())
        atoms.set_masses(masses)


def _charge_and_spin(structure: Any) -> dict[str, float]:
    """What pymatgen's object says of the whole, where it is not neutral or not closed-shell."""
    with warnings.catch_warnings():  # pymatgen's, where the charge is not the sum of oxidation states
        warnings.simplefilter("ignore")
        charge = structure.charge
    multiplicity = getattr(structure, "spin_multiplicity", 1)
    found = {}
    if abs(charge) > _ROUNDING:
        found["charge"] = charge
    if multiplicity != 1:
        found["multiplicity"] = multiplicity
    return found


def _is_pymatgen(structure: object) -> bool:
    """Whether a class of pymatgen's structure module, or one derived from it, made the object."""
    names = {"IStructure", "IMolecule"}
    return any(cls.__module__.startswith("pymatgen.") and cls.__name__ in names for cls in type(structure).__mro__)
