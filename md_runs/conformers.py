"""Conformers of a molecule, and whether the search has found them all. Ethylene glycol, unless you name another one.

    python md_runs/conformers.py                                        # with GFN2-xTB
    python md_runs/conformers.py "NCCC(=O)O" --calculator gfn2-xtb      # any SMILES, .sdf or .xyz
    python md_runs/conformers.py CCO --calculator ethanol               # any potential
    python md_runs/conformers.py --short                                # ethanol with the potential that ships, few starts

Searches twice, with different seeds. What one of them finds and the other does not says how far the search can be trusted:
raise --n until both agree. Prints the joined ensemble, and writes conformers.sdf, .csv and .html (open it in a browser).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mlff_calc.sampling import conformers, write_ensemble
from mlff_calc.sampling.duplicates import KCAL
from mlff_calc.sampling.symmetry import best_rmsd

SAME_ENERGY, SAME_RMSD = 0.1 * KCAL, 0.25  # eV and Angstrom


def share_found(one, other):
    """Weight of the conformers of one ensemble that another one holds as well."""
    lowest = min(one.energies.min(), other.energies.min())
    found = 0.0
    for weight, energy, place in zip(one.weights, one.energies - lowest, one.positions, strict=True):
        near = np.abs(other.energies - lowest - energy) < SAME_ENERGY
        found += weight * any(best_rmsd(one.molecule, place, there) < SAME_RMSD for there in other.positions[near])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("molecule", nargs="?", help="SMILES or file")
    parser.add_argument("--calculator", help="a potential, gfn2-xtb, or module:function")
    parser.add_argument("--n", type=int, help="number of starting structures")
    parser.add_argument("--weights", default="torsions", help="energy, torsions or rrho")
    parser.add_argument("--output", type=Path, default=Path("conformers.sdf"), help="the SDF; others stand beside it")
    parser.add_argument("--short", action="store_true", help="ethanol with the potential that ships, few starts")
    options = parser.parse_args()
    molecule = options.molecule or ("CCO" if options.short else "OCCO")
    calculator = options.calculator or ("ethanol" if options.short else "gfn2-xtb")
    n = options.n or (6 if options.short else None)

    runs = [
        conformers(molecule, calculator, n=n, weights=options.weights, fmax=0.05 if options.short else 0.02, seed=seed)
        for seed in (1, 2)
    ]
    print(runs[0].summary())
    for row in runs[0].rows():
        print(f"  {row['conformer']:3d}  {row['relative_energy']:6.2f} kcal/mol  {100 * row[runs[0].weight_name]:5.1f} %")
    shares = [share_found(runs[0], runs[1]), share_found(runs[1], runs[0])]
    print(f"seed 2 found {100 * shares[0]:.1f} % of the weight of seed 1, and seed 1 {100 * shares[1]:.1f} % of seed 2's")
    for ending in (".sdf", ".csv", ".html"):
        write_ensemble(runs[0], options.output.with_suffix(ending))
    print(f"written: {options.output}, and .csv and .html beside it")


if __name__ == "__main__":
    main()
