"""Conversion of structures of other packages to ASE atoms.

pymatgen is imported only when one of its objects is given; such objects are recognized by the module of their class.
"""

from __future__ import annotations

import warnings
from typing import Any

from ase import Atoms

from mlff_calc.errors import StructureError

_ISOTOPES = {"D": 2.014101778, "T": 3.016049281}  # masses of the atoms in amu (pymatgen has masses of the nuclei)
_ROUNDING = 1e-6  # elementary charges; smaller total charges are rounding errors of fractional oxidation states


def to_atoms(structure: object) -> Atoms:
    """Convert a structure of ASE or pymatgen to ASE atoms.

    Args:
        structure: `ase.Atoms`, or pymatgen's `Structure`, `IStructure` (periodic along all three directions) or
            `Molecule`, `IMolecule` (no cell).

    Returns:
        The object itself if it is `ase.Atoms`; otherwise new atoms without a calculator. A charge other than 0 and a
        spin multiplicity other than 1 are stored in `info` as `charge` and `multiplicity`. Deuterium and tritium become
        hydrogen with the mass of the isotope.

    Raises:
        StructureError: The object is no structure, or a site is shared by several elements or partly empty.
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
    """Set masses of deuterium and tritium, which pymatgen treats as elements and ASE as hydrogen."""
    species = [getattr(site.specie, "element", site.specie) for site in structure]  # of an ion, its element
    names = [getattr(one, "name", "") for one in species]
    heavy = {index: _ISOTOPES[name] for index, name in enumerate(names) if name in _ISOTOPES}
    if heavy:
        masses = atoms.get_masses()
        masses[list(heavy)] = list(heavy.values())
        atoms.set_masses(masses)


def _charge_and_spin(structure: Any) -> dict[str, float]:
    """Return total charge and multiplicity of a pymatgen object where they differ from 0 and 1."""
    with warnings.catch_warnings():  # pymatgen warns if the charge is not the sum of oxidation states
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
    """Whether the object is a pymatgen structure or molecule, or of a derived class."""
    names = {"IStructure", "IMolecule"}
    return any(cls.__module__.startswith("pymatgen.") and cls.__name__ in names for cls in type(structure).__mro__)
