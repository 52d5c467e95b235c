"""Minima of molecules by the force field MMFF94, and distortions of them at a temperature.

Distortions are drawn from the classical normal distribution of the harmonic minimum, of covariance kT H^-1 in the space
without translations and rotations; displacements along a soft mode are limited. Source: Halgren, J. Comput. Chem. 17, 490
(1996).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import units

from mlff_calc.datasets.molecules import MoleculeError, quiet, rdkit_chem
from mlff_calc.graph.rmsd import FloatArray, rmsds

if TYPE_CHECKING:
    from rdkit.Chem import Mol

MOST_STEPS = 5000
"""Largest number of steps to a minimum. Raising it finds minima of larger molecules."""
STEP = 1e-3
"""Displacement of differences of gradients, Angstrom."""
WIDEST = 0.3
"""Largest standard deviation of a displacement along one mode, Angstrom. Raising it turns soft groups farther."""
SAME = 0.1
"""RMSD below which two minima are one, Angstrom. Raising it leaves fewer conformers."""


def minima(mol: Mol, starts: FloatArray) -> FloatArray:
    """Relax a molecule from several positions, and return the different minima by rising energy.

    Args:
        mol: RDKit's molecule with all hydrogens.
        starts: Positions [n_starts, n_atoms, 3], Angstrom.

    Returns:
        Positions [n_minima, n_atoms, 3], at least one, Angstrom.

    Raises:
        MoleculeError: MMFF94 lacks parameters (reason `parameters`), or no minimum was reached (`minimum`).
    """
    from rdkit.Chem import rdForceFieldHelpers

    with quiet():
        if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
            raise MoleculeError("parameters", "MMFF94 has no parameters for one of its atoms; leave it out")
        mol = _placed(mol, starts)
        ends = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(
            mol, numThreads=1, maxIters=MOST_STEPS, mmffVariant="MMFF94", ignoreInterfragInteractions=False
        )
    reached = [(energy, k) for k, (left, energy) in enumerate(ends) if left == 0]
    kept: list[FloatArray] = []
    for _, number in sorted(reached):
        positions = np.array(mol.GetConformer(number).GetPositions())
        if not kept or rmsds(positions, np.array(kept)).min() > SAME:
            kept.append(positions)
    if not kept:
        raise MoleculeError("minimum", f"MMFF94 reaches no minimum in {MOST_STEPS} steps; leave it out")
    return np.array(kept)


def distorted(mol: Mol, minimum: FloatArray, n: int, temperature: float, random: np.random.Generator) -> FloatArray:
    """Draw distortions of a minimum at a temperature.

    Args:
        mol: RDKit's molecule with all hydrogens.
        minimum: Positions [n_atoms, 3], Angstrom.
        n: Number of distortions.
        temperature: Kelvin.
        random: Generator.

    Returns:
        Positions [n, n_atoms, 3], Angstrom.
    """
    size = minimum.size
    inner = _inner_space(minimum)
    kT = units.kB * temperature
    values, modes = np.linalg.eigh(inner.T @ hessian(mol, minimum) @ inner)
    widths = np.minimum(np.sqrt(kT / np.maximum(values, kT / WIDEST**2)), WIDEST)
    spread = (modes * widths) @ modes.T  # the root of the covariance, which no choice of modes changes
    steps = random.normal(size=(n, size)) @ (inner @ spread @ inner.T)
    return minimum + steps.reshape(n, *minimum.shape)


def energy_and_gradient(mol: Mol, properties: Any, positions: FloatArray) -> tuple[float, FloatArray]:  # noqa: ANN401
    """Energy (eV) and its gradient [n_atoms, 3] (eV/Angstrom) by MMFF94 at positions [n_atoms, 3] (Angstrom).

    A new field is made each time: RDKit 2026.09 mixes distances of the last call into CalcGrad of other positions.

    Args:
        mol: RDKit's molecule with all hydrogens.
        properties: Result of RDKit's MMFFGetMoleculeProperties.
        positions: Positions.
    """
    from rdkit.Chem import rdForceFieldHelpers

    placed = _placed(mol, positions[None])  # the field reads the positions of this molecule, and does not keep it
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(placed, properties, ignoreInterfragInteractions=False)
    unit = units.kcal / units.mol
    return unit * float(field.CalcEnergy()), unit * np.array(field.CalcGrad()).reshape(-1, 3)


def hessian(mol: Mol, positions: FloatArray) -> FloatArray:
    """Second derivatives of the MMFF94 energy [3 n_atoms, 3 n_atoms], eV/Angstrom^2, by differences of gradients."""
    from rdkit.Chem import rdForceFieldHelpers

    size = positions.size
    steps = STEP * np.eye(size).reshape(size, *positions.shape)
    with quiet():
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)

        def gradient(place: FloatArray) -> FloatArray:
            return energy_and_gradient(mol, properties, place)[1].ravel()

        rows = np.array([gradient(positions + step) - gradient(positions - step) for step in steps]) / (2.0 * STEP)
    found: FloatArray = 0.5 * (rows + rows.T)
    return found


def _inner_space(positions: FloatArray) -> FloatArray:
    """Orthonormal displacements without translations and rotations [3 n_atoms, n_inner]."""
    centred = positions - positions.mean(axis=0)
    axes = np.eye(3)
    moves = [np.tile(axis, len(positions)) for axis in axes] + [np.cross(axis, centred).ravel() for axis in axes]
    left, sizes, _ = np.linalg.svd(np.array(moves).T, full_matrices=True)
    return np.asarray(left[:, int((sizes > 1e-6 * sizes[0]).sum()) :])


def _placed(mol: Mol, places: FloatArray) -> Any:  # noqa: ANN401
    """A copy of a molecule with these conformers."""
    from rdkit.Geometry import Point3D

    chem = rdkit_chem()
    copy = chem.Mol(mol)
    copy.RemoveAllConformers()
    for positions in places:
        conformer = chem.Conformer(len(positions))
        for number, place in enumerate(positions):
            conformer.SetAtomPosition(number, Point3D(*map(float, place)))
        copy.AddConformer(conformer, assignId=True)
    return copy
