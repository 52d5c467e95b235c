"""Relaxation of a crystal and its phonons along a path in the Brillouin zone, by phonopy if it is installed, else by ASE.

    python md_runs/relax_and_phonons.py            # silicon, with a 4x4x4 supercell of the primitive cell (128 atoms)
    python md_runs/relax_and_phonons.py --potential my/potential --structure primitive.cif --repeat 3
    python md_runs/relax_and_phonons.py --short    # 2x2x2

Prints the lattice and the frequencies at the special points, and writes relaxed.extxyz and phonons.png.
"""

from __future__ import annotations

import argparse
import tempfile
from importlib.util import find_spec
from pathlib import Path

import matplotlib as mpl
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.io import read, write
from ase.phonons import Phonons
from ase.units import _e, _hplanck

from mlff_calc import MLFFCalculator, freeze
from mlff_calc.dynamics.relax import relax

mpl.use("Agg")
import matplotlib.pyplot as plt

EV_TO_THZ = _e / _hplanck * 1e-12
DISPLACEMENT = 0.01  # displacement of an atom, Angstrom; a larger one includes more anharmonicity, a smaller one more noise
FMAX = 1e-4  # largest force in the relaxed cell, eV/Angstrom; a larger value is faster and less accurate
POINTS, SHORT_POINTS = 120, 30  # numbers of points along the path
SILICON_PATH = "GXWKGL"


def frequencies_phonopy(atoms, repeat, kpts):
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(symbols=atoms.get_chemical_symbols(), cell=atoms.cell.array, positions=atoms.positions)
    phonons = Phonopy(cell, supercell_matrix=np.eye(3, dtype=int) * repeat, primitive_matrix=np.eye(3))
    phonons.generate_displacements(distance=DISPLACEMENT)
    forces = []
    for displaced in phonons.supercells_with_displacements:
        large = Atoms(displaced.symbols, displaced.positions, cell=displaced.cell, pbc=True, calculator=atoms.calc)
        forces.append(large.get_forces())
    phonons.forces = forces
    phonons.produce_force_constants()
    phonons.symmetrize_force_constants()
    phonons.run_qpoints(kpts)
    return phonons.qpoints.frequencies  # THz


def frequencies_ase(atoms, repeat, kpts):
    with tempfile.TemporaryDirectory() as folder:
        phonons = Phonons(
            atoms, atoms.calc, supercell=(repeat,) * 3, delta=DISPLACEMENT, name=str(Path(folder) / "phonons")
        )
        phonons.run()
        phonons.read(acoustic=True)
        return phonons.band_structure(kpts, verbose=False) * EV_TO_THZ


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="silicon", help="name or folder")
    parser.add_argument("--structure", help="file of a primitive cell that ASE reads; silicon by default")
    parser.add_argument("--path", help="special points, such as GXWKGL; by default ASE's path for the lattice")
    parser.add_argument("--repeat", type=int, default=4, help="number of primitive cells along each side of the supercell")
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the results")
    parser.add_argument("--engine", choices=("auto", "phonopy", "ase"), default="auto")
    parser.add_argument("--short", action="store_true", help="a smaller supercell")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    atoms = read(options.structure) if options.structure else bulk("Si", "diamond", a=5.43)
    atoms.calc = MLFFCalculator(options.potential, precision="float64")  # float32 forces are too noisy for phonons
    result = relax(atoms, fmax=FMAX, cell=True, optimizer="BFGS")
    lattice = atoms.cell.get_bravais_lattice(eps=1e-3)
    print(f"lattice {lattice}, converged: {result.converged}")
    write(options.output / "relaxed.extxyz", freeze(atoms))

    points = options.path or (None if options.structure else SILICON_PATH)
    path = atoms.cell.bandpath(points, npoints=SHORT_POINTS if options.short else POINTS, eps=1e-3)
    engine = ("phonopy" if find_spec("phonopy") else "ase") if options.engine == "auto" else options.engine
    compute = frequencies_phonopy if engine == "phonopy" else frequencies_ase
    bands = compute(atoms, 2 if options.short else options.repeat, path.kpts)
    for name in dict.fromkeys(name for name in path.path if name in path.special_points):
        at = int(np.argmin(np.linalg.norm(path.kpts - path.special_points[name], axis=1)))
        print(f"{name}: " + " ".join(f"{frequency:7.3f}" for frequency in bands[at]) + f" THz ({engine})")

    x, ticks, labels = path.get_linear_kpoint_axis()
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.plot(x, bands, color="C0")
    axes.set(
        xticks=ticks, xticklabels=labels, ylabel="frequency (THz)", title=f"{options.potential}: phonons ({engine})"
    )
    axes.axhline(0.0, color="0.7", linewidth=0.8)
    figure.savefig(options.output / "phonons.png", dpi=150)


if __name__ == "__main__":
    main()
