"""Lattice, elastic constants and vacancy of a crystal (silicon by default).

    python md_runs/crystal_properties.py            # vacancy in 3 x 3 x 3 cells
    python md_runs/crystal_properties.py --potential my/potential --structure mine.cif --symmetry hexagonal_high
    python md_runs/crystal_properties.py --short    # vacancy in 2 x 2 x 2 cells

Prints the relaxed cell, the matrix of elastic constants (by matscipy, with atoms relaxed in every strained cell), the bulk
modulus, and the energy of removing one atom from a supercell of the relaxed cell.
"""

from __future__ import annotations

import argparse

import numpy as np
from ase.build import bulk
from ase.io import read
from ase.optimize import FIRE
from ase.units import GPa
from matscipy.elasticity import fit_elastic_constants

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.dynamics.relax import relax

STRAIN_STEP, STRAINS = 0.002, 5  # strains from -0.004 to 0.004; larger ones leave the linear range
REPEATS, SHORT_REPEATS = 3, 2  # unit cells along each direction for the vacancy; more of them separate its images further
FMAX = 1e-3  # largest force in strained cells, eV/Angstrom; a larger value is faster and less accurate


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="silicon", help="name or folder")
    parser.add_argument("--structure", help="file of a crystal that ASE reads; silicon by default")
    parser.add_argument("--symmetry", default="cubic", help="symmetry as named by matscipy; triclinic assumes none")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_REPEATS} cells a side instead of {REPEATS}")
    options = parser.parse_args()

    crystal = read(options.structure) if options.structure else bulk("Si", cubic=True)
    crystal.calc = MLFFCalculator(options.potential, precision="float64")
    relax(crystal, cell=True, fmax=0.1 * FMAX)
    print(f"cell             {', '.join(f'{length:.4f}' for length in crystal.cell.lengths())} Angstrom")
    print(f"energy           {crystal.get_potential_energy() / len(crystal):.4f} eV/atom")

    constants, _ = fit_elastic_constants(crystal, symmetry=options.symmetry, N_steps=STRAINS, delta=STRAIN_STEP,
                                         optimizer=FIRE, verbose=False, fmax=FMAX)  # fmt: skip
    print("elastic constants, GPa (xx yy zz yz xz xy)")
    for row in constants / GPa:
        print("   " + " ".join(f"{value:8.1f}" for value in row))
    print(f"bulk modulus     {np.mean(constants[:3, :3]) / GPa:.1f} GPa (Voigt average)")

    perfect = crystal.repeat(SHORT_REPEATS if options.short else REPEATS)
    perfect.calc = crystal.calc
    energy_per_atom = perfect.get_potential_energy() / len(perfect)
    vacancy = perfect.copy()
    del vacancy[0]
    vacancy.calc = crystal.calc
    unrelaxed = vacancy.get_potential_energy() - len(vacancy) * energy_per_atom
    vacancy.rattle(0.01, seed=0)  # leaves the symmetric saddle point
    relax(vacancy, fmax=10 * FMAX)
    relaxed = vacancy.get_potential_energy() - len(vacancy) * energy_per_atom
    print(f"vacancy          {relaxed:.3f} eV in {len(vacancy)} atoms ({unrelaxed:.3f} eV before they relaxed)")


if __name__ == "__main__":
    main()
