"""Equation of state of diamond silicon: lattice constant and bulk modulus, with a picture.

    python md_runs/equation_of_state.py            # 11 volumes, +-6 % in volume
    python md_runs/equation_of_state.py --short    # 5 volumes

Prints the Birch-Murnaghan fit and writes equation_of_state.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.eos import EquationOfState
from ase.units import GPa
from matplotlib.figure import Figure

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.dynamics.relax import relax


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="silicon", help="name or folder")
    parser.add_argument("--output", type=Path, default=Path("equation_of_state.png"), help="the picture")
    parser.add_argument("--short", action="store_true", help="5 volumes instead of 11")
    options = parser.parse_args()

    crystal = bulk("Si", cubic=True)
    crystal.calc = MLFFCalculator(options.potential, precision="float64")
    relax(crystal, cell=True, fmax=1e-4)

    volumes, energies = [], []
    for factor in np.linspace(0.94, 1.06, 5 if options.short else 11):
        strained = crystal.copy()
        strained.set_cell(crystal.cell * factor ** (1 / 3), scale_atoms=True)
        strained.calc = crystal.calc
        volumes.append(strained.get_volume() / len(strained))
        energies.append(strained.get_potential_energy() / len(strained))

    volume, energy, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    print(f"lattice constant {(8 * volume) ** (1 / 3):.4f} Angstrom")
    print(f"energy           {energy:.4f} eV/atom")
    print(f"bulk modulus     {modulus / GPa:.1f} GPa")

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(volumes, np.array(energies) - energy, "o-")
    axes.set(xlabel="volume (Angstrom$^3$/atom)", ylabel="energy above the minimum (eV/atom)", title="Silicon, diamond")
    figure.savefig(options.output, dpi=150)


if __name__ == "__main__":
    main()
