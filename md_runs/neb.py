"""Reaction path between two minima by a nudged elastic band: the barrier and the images along the path.

    python md_runs/neb.py                                  # ethanol, whose hydroxyl group rotates from trans to gauche
    python md_runs/neb.py --potential my/potential --start start.xyz --end end.xyz
    python md_runs/neb.py --short                          # a few steps, as a test

Both ends must have the same atoms in the same order. They are relaxed first, without changing their cells. Prints energies
along the path, and writes neb.extxyz (the images) and neb.png (energy against the length of the path).
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from ase.build import molecule
from ase.geometry import find_mic
from ase.io import read, write
from ase.mep import NEB
from ase.optimize import FIRE

from mlff_calc import MLFFCalculator, freeze
from mlff_calc.dynamics.relax import relax

mpl.use("Agg")
import matplotlib.pyplot as plt

TORSION = (0, 1, 2, 3)  # methyl C, methylene C, O, hydroxyl H
TRANS, GAUCHE = 180.0, 60.0  # degrees


def ethanol(angle):
    """Return ethanol with the hydroxyl torsion at `angle` degrees."""
    atoms = molecule("CH3CH2OH")
    atoms.set_dihedral(*TORSION, angle, indices=[3])
    return atoms


def relaxed(name, atoms, calculator, fmax, steps):
    """Relax a structure in place to the nearest minimum, and return it."""
    atoms.calc = calculator
    result = relax(atoms, fmax=fmax, steps=steps)
    print(f"{name}: {result.last.energy:.5f} eV, converged: {result.converged}")
    return atoms


def lengths(images):
    """Return the distance of each image from the first along the path, Angstrom."""
    steps = [find_mic(b.positions - a.positions, a.cell, a.pbc)[0] for a, b in pairwise(images)]
    return np.cumsum([0.0, *(np.linalg.norm(step) for step in steps)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="ethanol", help="name or folder")
    parser.add_argument("--start", help="file that ASE reads; trans ethanol if both ends are left out")
    parser.add_argument("--end", help="file that ASE reads; gauche ethanol if both ends are left out")
    parser.add_argument("--images", type=int, default=9, help="number of images of the band, including the ends")
    parser.add_argument("--fmax", type=float, default=0.02, help="largest force at convergence, eV/Angstrom")
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the results")
    parser.add_argument("--short", action="store_true", help="five images, few steps")
    options = parser.parse_args()
    if (options.start is None) != (options.end is None):
        parser.error("give --start and --end, or neither")
    first, last = (read(options.start), read(options.end)) if options.start else (ethanol(TRANS), ethanol(GAUCHE))
    if not np.array_equal(first.numbers, last.numbers):
        parser.error(f"the ends are {first.symbols} and {last.symbols}; they need the same atoms in the same order")
    n_images, steps = (5, 10) if options.short else (options.images, 500)
    options.output.mkdir(parents=True, exist_ok=True)

    calculator = MLFFCalculator(options.potential, precision="float64")  # one for all images
    for name, end in (("start", first), ("end", last)):
        relaxed(name, end, calculator, options.fmax / 2, steps)

    images = [*(first.copy() for _ in range(n_images - 1)), last.copy()]
    for image in images:
        image.calc = calculator
    band = NEB(images, climb=True, method="improvedtangent", allow_shared_calculator=True)
    if options.start:
        band.interpolate("idpp", mic=bool(first.pbc.any()))  # linear interpolation would shorten bonds that rotate
    else:
        for index, image in enumerate(images[1:-1], start=1):
            image.set_dihedral(*TORSION, TRANS + (GAUCHE - TRANS) * index / (n_images - 1), indices=[3])
    with FIRE(band, logfile=None) as optimizer:
        converged = optimizer.run(fmax=options.fmax, steps=steps)

    path = lengths(images)
    energies = [1000.0 * (image.get_potential_energy() - first.get_potential_energy()) for image in images]
    print("length (Angstrom)   energy (meV)")
    for length, energy in zip(path, energies, strict=True):
        print(f"{length:17.3f}   {energy:12.2f}")
    state = "" if converged else f" (NOT converged in {steps} steps)"
    print(
        f"barrier from start to end: {max(energies):.1f} meV{state}; neighbour lists built: {calculator.stats.n_rebuilds}"
    )

    write(options.output / "neb.extxyz", [freeze(image) for image in images])  # each image keeps its energy and forces
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.plot(path, energies, "o-")
    title = f"{first.get_chemical_formula()}, {Path(options.potential).name}"
    axes.set(xlabel="length of the path (Angstrom)", ylabel="energy (meV)", title=title)
    figure.savefig(options.output / "neb.png", dpi=150)


if __name__ == "__main__":
    main()
