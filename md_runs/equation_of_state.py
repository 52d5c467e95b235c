"""Equation of state of a crystal (silicon by default): equilibrium cell and bulk modulus, with a plot.

    python md_runs/equation_of_state.py            # 11 volumes, +-6 % in volume
    python md_runs/equation_of_state.py --potential my/potential --structure mine.cif
    python md_runs/equation_of_state.py --short    # 5 volumes

Prints the Birch-Murnaghan fit and writes equation_of_state.png. The three lengths of the cell change by a common factor.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.eos import EquationOfState
from ase.io import read
from ase.units import GPa
from matplotlib.figure import Figure

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.dynamics.relax import relax

STRAIN = 0.06  # largest relative change of the volume; a larger one tests the potential further from equilibrium
POINTS, SHORT_POINTS = 11, 5  # numbers of volumes
FMAX = 1e-4  # largest force in the relaxed cell, eV/Angstrom; a larger value is faster and less accurate


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="silicon", help="name or folder")
    parser.add_argument("--structure", help="file of a crystal that ASE reads; silicon by default")
    parser.add_argument("--output", type=Path, default=Path("equation_of_state.png"), help="file of the plot")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_POINTS} volumes instead of {POINTS}")
    options = parser.parse_args()

    crystal = read(options.structure) if options.structure else bulk("Si", cubic=True)
    crystal.calc = MLFFCalculator(options.potential, precision="float64")
    relax(crystal, cell=True, fmax=FMAX)

    volumes, energies = [], []
    for factor in np.linspace(1.0 - STRAIN, 1.0 + STRAIN, SHORT_POINTS if options.short else POINTS):
        strained = crystal.copy()
        strained.set_cell(crystal.cell * factor ** (1 / 3), scale_atoms=True)
        strained.calc = crystal.calc
        volumes.append(strained.get_volume() / len(strained))
        energies.append(strained.get_potential_energy() / len(strained))

    volume, energy, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    lengths = crystal.cell.lengths() * (volume * len(crystal) / crystal.get_volume()) ** (1 / 3)
    print(f"cell             {', '.join(f'{length:.4f}' for length in lengths)} Angstrom")
    print(f"energy           {energy:.4f} eV/atom")
    print(f"bulk modulus     {modulus / GPa:.1f} GPa")

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(volumes, np.array(energies) - energy, "o-")
    axes.set(xlabel="volume (Angstrom$^3$/atom)", ylabel="energy above the minimum (eV/atom)")
    axes.set_title(f"{crystal.get_chemical_formula()}, {options.potential}")
    figure.savefig(options.output, dpi=150)


if __name__ == "__main__":
    main()
