"""A molecule with a learned exchange-correlation functional: its energy minimum, then dynamics at constant energy.

    python md_runs/learned_functional.py                  # water, water_egxc, 20 fs; some minutes on one core
    python md_runs/learned_functional.py --functional runs/mine/functional --structure mine.xyz
    python md_runs/learned_functional.py --short          # 1 fs from a rough minimum, as a test

Each SCF begins with the orbitals of the last structure. Writes trajectory, log and report into learned_functional/, and
prints what an SCF cost. Needs the extra `electronic`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mlff_calc import EGXCCalculator, run_md
from mlff_calc.dynamics.relax import relax
from mlff_calc.dynamics.structures import structure_to_start

FMAX, SHORT_FMAX = 0.02, 2.0  # largest force at the minimum, eV/Angstrom
TEMPERATURE = 300.0  # temperature of the initial velocities, K
TIMESTEP = 0.5  # time step, fs
TIME, SHORT_TIME = "20fs", "1fs"  # lengths of the run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functional", default="water_egxc", help="name or folder of a functional")
    parser.add_argument("--structure", default="H2O", help="file that ASE reads, or a molecule of its g2 set")
    parser.add_argument("--output", type=Path, default=Path("learned_functional"), help="folder for the results")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_TIME} from a rough minimum")
    options = parser.parse_args()

    atoms = structure_to_start(options.structure)
    calculator = EGXCCalculator(options.functional)
    atoms.calc = calculator
    found = relax(atoms, fmax=SHORT_FMAX if options.short else FMAX, optimizer="LBFGS")
    print(f"energy minimum: {atoms.get_potential_energy():.5f} eV, {found.last.step} steps")
    print(f"dipole moment: {atoms.get_dipole_moment().round(4).tolist()} e Angstrom")
    run_md(
        atoms,
        calculator,
        ensemble="nve",
        temperature=TEMPERATURE,
        timestep=TIMESTEP,
        time=SHORT_TIME if options.short else TIME,
        log_interval=1,
        seed=1,
        output=options.output,
        overwrite=True,
        show=True,
    )
    print(calculator.stats)


if __name__ == "__main__":
    main()
