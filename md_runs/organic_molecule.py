"""Any organic molecule from its SMILES: relaxation, then dynamics at a temperature, and how far it moves from its minimum.

    python md_runs/organic_molecule.py                        # caffeine, 10 ps
    python md_runs/organic_molecule.py "CC(=O)Oc1ccccc1C(=O)O" --compile
    python md_runs/organic_molecule.py --potential my/potential
    python md_runs/organic_molecule.py --short                # 50 fs, as a test
    python md_runs/organic_molecule.py --resume               # after Ctrl-C or a kill; repeat the other options

Needs RDKit (pip install "mlff_calc[conformers]"). Writes relaxed.extxyz, trajectory, log and report into organic_molecule/.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.io import read, write

from mlff_calc import MLFFCalculator, atoms_from_smiles, relax, run_md
from mlff_calc.graph.rmsd import rmsds

CAFFEINE = "CN1C=NC2=C1C(=O)N(C)C(=O)N2C"
TEMPERATURE = 300.0  # K
TIMESTEP = 1.0  # fs; 0.5 for temperatures far above 300 K
TIME, SHORT_TIME = "10ps", "50fs"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("smiles", nargs="?", default=CAFFEINE, help="SMILES; dots separate molecules in contact")
    parser.add_argument("--potential", default="organic", help="name or folder")
    parser.add_argument("--output", type=Path, default=Path("organic_molecule"), help="folder for the results")
    parser.add_argument("--compile", action="store_true", help="compile the potential, for long runs")
    parser.add_argument("--resume", action="store_true", help="continue the run in the output folder")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_TIME} instead of {TIME}")
    options = parser.parse_args()

    relaxed = options.output.with_name(f"{options.output.name}_relaxed.extxyz")
    if not options.resume:
        atoms = atoms_from_smiles(options.smiles)
        atoms.calc = MLFFCalculator(options.potential, precision="float64")
        result = relax(atoms, fmax=0.01, steps=500)
        formula, last = atoms.get_chemical_formula(), result.last
        print(f"relaxed {formula}: {last.energy:.4f} eV, largest force {last.fmax:.4f} eV/Angstrom")
        write(relaxed, atoms)

    result = run_md(
        relaxed,
        options.potential,
        ensemble="langevin",
        temperature=TEMPERATURE,
        timestep=TIMESTEP,
        time=SHORT_TIME if options.short else TIME,
        log_interval="10fs",
        traj_interval="10fs",
        seed=1,
        output=options.output,
        compile=options.compile,
        resume=options.resume,
        show=True,
    )
    if not result.completed:
        raise SystemExit(f"stopped by {result.interrupted} at step {result.step}; go on with --resume")
    places = np.array([frame.positions for frame in read(options.output / "trajectory.traj", ":")])
    away = rmsds(read(relaxed).positions, places)
    print(f"distance from the minimum (RMSD): {away.mean():.3f} Angstrom on average, {away.max():.3f} at most")
    print(f"outside of the training data: {result.outside}")


if __name__ == "__main__":
    main()
