"""Whether a structure still is the molecule it began as: the same bonds, the same stereo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlff_calc.datasets.molecules import Molecule, quiet, rdkit_chem
from mlff_calc.sampling.duplicates import MIRROR
from mlff_calc.sampling.symmetry import renumberings
from mlff_calc.sampling.systems import FloatArray

if TYPE_CHECKING:
    from rdkit.Chem import Mol

STRETCH = 1.35
"""Times the sum of covalent radii up to which a bond of the molecule holds. Raising it lets longer bonds pass as whole."""
TOUCH = 1.05
"""Times the sum of covalent radii below which two atoms without a bond have made one; atoms with one, two or three bonds
between them are judged by it as well. Raising it reports contacts as bonds."""
Labels = dict[tuple[int, ...], str]
"""R or S of an atom, E or Z of the two atoms of a double bond in rising order."""


def with_positions(molecule: Molecule, positions: FloatArray) -> Mol:
    """RDKit's molecule with one conformer at positions [n_atoms, 3] (Angstrom)."""
    from rdkit.Geometry import Point3D

    chem = rdkit_chem()
    mol = chem.Mol(molecule.mol)
    mol.RemoveAllConformers()
    conformer = chem.Conformer(mol.GetNumAtoms())
    for number, place in enumerate(positions):
        conformer.SetAtomPosition(number, Point3D(*map(float, place)))
    mol.AddConformer(conformer, assignId=True)
    return mol


class Identity:
    """Bonds and stereo of a molecule, to compare structures with.

    Args:
        molecule: Bonds and specified stereo are those that count; stereo that it leaves open may be anything.
    """

    def __init__(self, molecule: Molecule) -> None:
        chem = rdkit_chem()
        self.molecule = molecule
        table = chem.GetPeriodicTable()
        radii = np.array([table.GetRcovalent(z) for z in molecule.numbers])
        self.reach: FloatArray = radii[:, None] + radii[None, :]
        self.bonded: NDArray[np.bool_] = np.array(chem.GetAdjacencyMatrix(molecule.mol), dtype=bool)
        self.stereo = _stereo(molecule.mol)

    def change(self, positions: FloatArray) -> str | None:
        """What has changed in a structure [n_atoms, 3] (Angstrom), as a sentence; None where it is the same molecule."""
        if not np.isfinite(positions).all():
            return "positions are not finite"
        distances = np.linalg.norm(positions[:, None] - positions[None, :], axis=2)
        upper = np.triu(np.ones_like(self.bonded), 1)
        broken = np.argwhere(self.bonded & upper & (distances > STRETCH * self.reach))
        made = np.argwhere(~self.bonded & upper & (distances < TOUCH * self.reach))
        for pairs, verb in ((broken, "broke"), (made, "formed")):
            if len(pairs):
                i, j = map(int, pairs[0])
                symbols = [self.molecule.mol.GetAtomWithIdx(k).GetSymbol() for k in (i, j)]
                more = f" and {len(pairs) - 1} more" if len(pairs) > 1 else ""
                return f"bond {symbols[0]}{i}-{symbols[1]}{j}{more} {verb} ({distances[i, j]:.2f} Angstrom)"
        found = self._labels(positions)
        for place, label in self.stereo.items():
            if found.get(place) != label:
                return f"stereo of {self._name(place)} turned from {label} to {found.get(place, 'none')}"
        return None

    def image(self, positions: FloatArray) -> FloatArray | None:
        """The mirror image of a structure [n_atoms, 3] of the molecule where it is the molecule as well, else None.

        Of a meso compound, R and S are the other way round in it; its atoms are then numbered in another order that the
        bonds allow, so that labels are those of the molecule.
        """
        mirrored = positions * np.array(MIRROR)
        found = self._labels(mirrored)
        for order in renumberings(self.molecule).tolist():
            labels = (found.get(tuple(sorted(order[atom] for atom in place))) for place in self.stereo)
            if all(one == label for one, label in zip(labels, self.stereo.values(), strict=True)):
                image: FloatArray = mirrored[order]
                return image if self.change(image) is None else None
        return None

    def _labels(self, positions: FloatArray) -> Labels:
        """Labels of stereo in a structure [n_atoms, 3]."""
        mol = with_positions(self.molecule, positions)
        with quiet():
            rdkit_chem().AssignStereochemistryFrom3D(mol)
        return _stereo(mol)

    def _name(self, place: tuple[int, ...]) -> str:
        """What a place of stereo is called in messages."""
        if len(place) > 1:
            return "bond " + "=".join(map(str, place))
        return f"{self.molecule.mol.GetAtomWithIdx(place[0]).GetSymbol()}{place[0]}"


def _stereo(mol: Mol) -> Labels:
    """Labels of specified stereo."""
    chem = rdkit_chem()
    copy = chem.Mol(mol)
    with quiet():
        chem.AssignStereochemistry(copy, cleanIt=True, force=True)
        try:
            from rdkit.Chem import rdCIPLabeler

            rdCIPLabeler.AssignCIPLabels(copy)
        except (RuntimeError, ValueError):  # its limit of steps, in large symmetric molecules: older labels stay
            pass
    found: Labels = {(atom.GetIdx(),): atom.GetProp("_CIPCode") for atom in copy.GetAtoms() if atom.HasProp("_CIPCode")}
    for bond in copy.GetBonds():
        if bond.HasProp("_CIPCode"):
            found[tuple(sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())))] = bond.GetProp("_CIPCode")
    return found
