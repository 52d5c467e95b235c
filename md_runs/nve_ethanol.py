"""Ethanol at constant energy: drift, temperature and vibrational spectrum.

    python md_runs/nve_ethanol.py                 # 10 ps
    python md_runs/nve_ethanol.py --short         # 50 fs, to see that everything works
    python md_runs/nve_ethanol.py --resume        # after Ctrl-C or a kill

Writes trajectory, log, picture and report into nve_ethanol/, and spectrum.csv beside them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.build import molecule
from ase.io import read
from rich.console import Console

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.dynamics import EnsembleOptions, MDRun, RunOptions, read_log
from mlff_calc.dynamics.observables import energy_drift, velocities_of, vibrational_spectrum
from mlff_calc.dynamics.progress import RunProgress
from mlff_calc.dynamics.report import write_report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="ethanol", help="name or folder")
    parser.add_argument("--output", type=Path, default=Path("nve_ethanol"), help="folder for the results")
    parser.add_argument("--compile", action="store_true", help="compile the potential, for long runs")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    parser.add_argument("--short", action="store_true", help="50 fs instead of 10 ps")
    options = parser.parse_args()

    calculator = MLFFCalculator(options.potential, precision="float32", compile=options.compile)
    if options.resume:
        run = MDRun.resume(options.output, calculator)
    else:
        atoms = molecule("CH3CH2OH")
        atoms.calc = calculator
        ensemble = EnsembleOptions(ensemble="nve", timestep_fs=0.5, temperature_K=300.0, seed=1)
        # A frame every 4 fs: the O-H stretch has a period of 9 fs, and its peak must lie below half the sampling rate.
        length = RunOptions(
            steps=100 if options.short else 20_000, log_interval=20, traj_interval=8, checkpoint_interval=40
        )
        run = MDRun.start(atoms, options.output, ensemble, length)
    with RunProgress(Console(), title="ethanol, NVE", start=run.state.step, steps=run.options.steps) as progress:
        result = run.run(progress)
    write_report(options.output, timing=calculator.stats.as_dict())
    if not result.completed:
        raise SystemExit(f"stopped by {result.interrupted} at step {result.step}; go on with --resume")

    log = read_log(options.output / "log.csv")
    n_atoms = len(run.atoms)
    drift = energy_drift(log["time_ps"], log["total_eV"], n_atoms)
    print(f"drift of the total energy: {drift.slope:.4f} +- {drift.error:.4f} meV/atom/ps")
    print(f"mean temperature: {np.mean(log['temperature_K']):.1f} K")

    frames = read(options.output / "trajectory.traj", ":")
    wave_numbers, density = vibrational_spectrum(velocities_of(frames), 4.0, masses=frames[0].get_masses())
    table = np.column_stack([wave_numbers, density])
    np.savetxt(options.output / "spectrum.csv", table, delimiter=",", header="wave number (1/cm),density", comments="")
    print(f"highest peak of the spectrum: {wave_numbers[np.argmax(density)]:.0f} 1/cm")


if __name__ == "__main__":
    main()
