"""Weights of butane and two dihaloethanes against the integral of a relaxed scan of their torsion, by GFN2-xTB."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import FixInternals
from ase.optimize import BFGS
from scipy.interpolate import CubicSpline

pytest.importorskip("rdkit")
pytest.importorskip("tblite")

from mlff_calc.sampling.calculators import Xtb
from mlff_calc.sampling.conformer_search import conformers
from mlff_calc.sampling.torsions import rotatable_torsions, torsion_angles, turned

pytestmark = pytest.mark.slow

TEMPERATURE = 298.15


def scan(ensemble, torsion, spacing=10):
    """Angles (degrees) and energies (eV) with all else relaxed, from 0 to 180 degrees; the profile is even."""
    molecule, xtb = ensemble.molecule, Xtb("GFN2-xTB")
    place = ensemble.positions[np.abs(torsion_angles(ensemble.positions, torsion)).argmax()]
    angles, energies = np.arange(180, -1, -spacing), []
    for angle in angles:
        now = torsion_angles(place[None], torsion)[0] % 360.0
        atoms = Atoms(molecule.numbers, turned(molecule, place, torsion, np.array([angle - now]))[0], calculator=xtb())
        atoms.set_constraint(FixInternals(dihedrals_deg=[[float(angle), list(torsion)]]))
        BFGS(atoms, logfile=None).run(fmax=0.01, steps=200)
        energies.append(atoms.get_potential_energy())
        place = atoms.positions.copy()
    return angles[::-1].astype(float), np.array(energies[::-1])


@pytest.mark.parametrize(
    ("smiles", "weights", "bar"),
    [
        ("CCCC", "energy", 0.01),
        ("CCCC", "torsions", 0.03),
        ("ClCCCl", "energy", 0.01),
        ("ClCCCl", "torsions", 0.03),
        ("FCCF", "torsions", 0.03),  # energies alone are 0.045 off: the barrier of its gauche well is half of kT
    ],
)
def test_weights_are_those_of_the_scan(smiles, weights, bar):
    found = conformers(smiles, "gfn2-xtb", seed=0, n=12, fmax=0.003, weights=weights)
    (torsion,) = rotatable_torsions(found.molecule)
    angles, energies = scan(found, torsion)
    fine = np.arange(0.0, 180.01, 0.5)
    heights = np.exp(-(CubicSpline(angles, energies)(fine) - energies.min()) / (units.kB * TEMPERATURE))
    barrier = fine[(fine > 90.0) & (fine < 150.0)][heights[(fine > 90.0) & (fine < 150.0)].argmin()]
    anti = heights[fine > barrier].sum() / heights.sum()
    assert len(found) == 3
    is_anti = np.abs(torsion_angles(found.positions, torsion)) > barrier
    assert found.weights[is_anti].sum() == pytest.approx(anti, abs=bar)
