"""Torsions of bonds that can turn: their angles, and what the width of their wells adds to free energies.

A conformer is a well, not a point. With E(phi) the energy when one part of the molecule is turned about a bond, as it is,
and all else stays,

    F = E_min - kT sum_t ln integral over the well of exp(-(E_t(phi) - E_min) / kT) dphi,

where t goes over the bonds, and a well ends where the energy begins to fall. Harmonic oscillators assume that a well is
a parabola up to any energy, which fails where a barrier is as low as kT.

Source: Pitzer and Gwinn, J. Chem. Phys. 10, 428 (1942), for independent hindered rotors; here without their moments of
inertia, which conformers of a molecule have nearly in common.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms, units

from mlff_calc.datasets.molecules import Molecule, rdkit_chem
from mlff_calc.sampling.evaluators import Evaluator
from mlff_calc.sampling.systems import FloatArray, Systems

Torsion = tuple[int, int, int, int]
"""Numbers of four atoms; the bond that turns is between the second and the third."""
STEP, REACH = 5.0, 120.0
"""Distance of the angles at which the energy is taken, and how far from the minimum, degrees."""


def rotatable_torsions(molecule: Molecule) -> list[Torsion]:
    """Four atoms for each bond that can turn, hydroxyl and amino groups among them; methyl groups and the like are not."""
    chem = rdkit_chem()
    pattern = chem.MolFromSmarts("[!#1&!$(*#*)]-&!@[!#1&!$(*#*)]")
    ranks = list(chem.CanonicalRankAtoms(molecule.mol, breakTies=False))
    found = []
    for i, j in molecule.mol.GetSubstructMatches(pattern):
        ends = []
        for atom, other in ((i, j), (j, i)):
            around = [n.GetIdx() for n in molecule.mol.GetAtomWithIdx(atom).GetNeighbors() if n.GetIdx() != other]
            alike = len({ranks[n] for n in around}) == 1 and len(around) == 3
            ends.append(None if not around or alike else min(around, key=lambda n: (-molecule.numbers[n], n)))
        if ends[0] is not None and ends[1] is not None:
            found.append((ends[0], i, j, ends[1]))
    return found


def torsion_angles(positions: FloatArray, torsion: Torsion) -> FloatArray:
    """Angles [n] in degrees, from -180 to 180, of positions [n, n_atoms, 3]."""
    a, b, c, d = (positions[:, k] for k in torsion)
    axis, first, second = c - b, a - b, d - c
    one, two = np.cross(first, axis), np.cross(second, axis)
    sine = np.einsum("ij,ij->i", np.cross(one, two), axis) / np.linalg.norm(axis, axis=1)
    return np.degrees(np.arctan2(sine, np.einsum("ij,ij->i", one, two)))


def turned(molecule: Molecule, place: FloatArray, torsion: Torsion, angles: FloatArray) -> FloatArray:
    """A conformer [n_atoms, 3] with one part turned about a bond by angles [n] (degrees): [n, n_atoms, 3]."""
    _, one, other, _ = torsion
    bonds = np.array(rdkit_chem().GetAdjacencyMatrix(molecule.mol), dtype=bool)
    bonds[one, other] = bonds[other, one] = False
    part = np.zeros(len(place), dtype=bool)
    part[other] = True
    while (more := part | bonds[part].any(axis=0)).sum() > part.sum():
        part = more
    axis = (place[other] - place[one]) / np.linalg.norm(place[other] - place[one])
    arms = place[part] - place[other]
    sine, cosine = np.sin(np.radians(angles))[:, None, None], np.cos(np.radians(angles))[:, None, None]
    along = (arms @ axis)[:, None] * axis
    found = np.repeat(place[None], len(angles), axis=0)
    found[:, part] = place[other] + along + cosine * (arms - along) + sine * np.cross(axis, arms)
    return found


def torsional_free_energy(
    molecule: Molecule, place: FloatArray, evaluator: Evaluator, temperature: float
) -> float:
    """What the widths of its wells add to the energy of one conformer, eV; zero where no bond can turn.

    Args:
        molecule: Its bonds.
        place: Its minimum [n_atoms, 3], Angstrom.
        evaluator: Gives energies; where it fails, the energy counts as infinite.
        temperature: K.
    """
    torsions, kT = rotatable_torsions(molecule), units.kB * temperature
    if not torsions:
        return 0.0
    angles = np.arange(-REACH, REACH + 0.5 * STEP, STEP)
    places = np.concatenate([turned(molecule, place, torsion, angles) for torsion in torsions])
    energies = evaluator(*Systems.of([Atoms(molecule.numbers, one) for one in places])).energies
    lines = np.where(np.isnan(energies), np.inf, energies).reshape(len(torsions), len(angles))
    return float(-kT * sum(np.log(_well(line, kT)) for line in lines))


def _well(energies: FloatArray, kT: float) -> float:
    """Integral of exp(-(E - E_min) / kT) over the well in the middle of a scan, radian."""
    middle = len(energies) // 2
    lowest = middle - 2 + int(energies[middle - 2 : middle + 3].argmin())
    first = last = lowest
    while first > 0 and energies[first - 1] >= energies[first]:
        first -= 1
    while last < len(energies) - 1 and energies[last + 1] >= energies[last]:
        last += 1
    heights = np.exp(-(energies[first : last + 1] - energies[middle]) / kT)
    return float(np.radians(STEP) * (heights.sum() - 0.5 * (heights[0] + heights[-1])))
