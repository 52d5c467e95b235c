"""Ethanol's hydroxyl torsion: the barrier from the trans to a gauche minimum, by a nudged elastic band.

    python md_runs/neb.py                 # about a minute
    python md_runs/neb.py --short         # a few steps, to see that everything works

Prints energies along the path, writes neb.extxyz (the images) and neb.png (energy against the torsion angle).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
from ase.build import molecule
from ase.io import write
from ase.mep import NEB
from ase.optimize import FIRE

from mlff_calc import MLFFCalculator, freeze
from mlff_calc.dynamics.relax import relax

mpl.use("Agg")
import matplotlib.pyplot as plt

TORSION = (0, 1, 2, 3)  # methyl C, methylene C, O, hydroxyl H
TRANS, GAUCHE = 180.0, 60.0  # degrees


def conformer(angle, calculator, fmax, steps):
    """Relaxed ethanol, started with the hydroxyl torsion at `angle` degrees."""
    atoms = molecule("CH3CH2OH")
    atoms.set_dihedral(*TORSION, angle, indices=[3])
    atoms.calc = calculator
    result = relax(atoms, fmax=fmax, steps=steps)
    print(
        f"minimum at {atoms.get_dihedral(*TORSION):6.1f} degrees: {result.last.energy:.5f} eV, converged: {result.converged}"
    )
    return atoms


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="ethanol", help="name or folder")
    parser.add_argument("--images", type=int, default=9, help="images of the band, ends included")
    parser.add_argument("--fmax", type=float, default=0.02, help="eV/Angstrom")
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the results")
    parser.add_argument("--short", action="store_true", help="five images, few steps")
    options = parser.parse_args()
    n_images, steps = (5, 10) if options.short else (options.images, 500)
    options.output.mkdir(parents=True, exist_ok=True)

    calculator = MLFFCalculator(options.potential, precision="float64")  # one for all images
    first, last = (conformer(angle, calculator, options.fmax / 2, steps) for angle in (TRANS, GAUCHE))

    images = [first.copy() for _ in range(n_images - 1)] + [last.copy()]
    for index, image in enumerate(images[1:-1], start=1):  # turn the hydroxyl; straight lines would shorten its bond
        image.set_dihedral(*TORSION, TRANS + (GAUCHE - TRANS) * index / (n_images - 1), indices=[3])
    for image in images:
        image.calc = calculator
    band = NEB(images, climb=True, method="improvedtangent", allow_shared_calculator=True)
    with FIRE(band, logfile=None) as optimizer:
        converged = optimizer.run(fmax=options.fmax, steps=steps)

    angles = [image.get_dihedral(*TORSION) for image in images]
    energies = [1000.0 * (image.get_potential_energy() - first.get_potential_energy()) for image in images]
    print("torsion (degrees)   energy (meV)")
    for angle, energy in zip(angles, energies, strict=True):
        print(f"{angle:17.1f}   {energy:12.2f}")
    state = "" if converged else f" (NOT converged in {steps} steps)"
    print(
        f"barrier trans to gauche: {max(energies):.1f} meV{state}; neighbour lists built: {calculator.stats.n_rebuilds}"
    )

    write(options.output / "neb.extxyz", [freeze(image) for image in images])  # each with its own energy and forces
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.plot(angles, energies, "o-")
    axes.set(xlabel="C-C-O-H torsion (degrees)", ylabel="energy (meV)", title=f"{options.potential}: trans to gauche")
    figure.savefig(options.output / "neb.png", dpi=150)


if __name__ == "__main__":
    main()
