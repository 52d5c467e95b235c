"""A molecule (ethanol by default) at constant energy: drift, temperature and vibrational spectrum.

    python md_runs/nve_ethanol.py                 # 10 ps
    python md_runs/nve_ethanol.py --potential my/potential --structure mine.xyz
    python md_runs/nve_ethanol.py --short         # 50 fs, as a test
    python md_runs/nve_ethanol.py --resume        # after Ctrl-C or a kill; repeat the other options

Writes trajectory, log, plot, report and spectrum.csv into nve_ethanol/.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.io import read

from mlff_calc import run_md
from mlff_calc.dynamics import read_log
from mlff_calc.dynamics.observables import energy_drift, velocities_of, vibrational_spectrum

TEMPERATURE = 300.0  # temperature of the initial velocities, K
TIMESTEP = 0.5  # time step, fs; a larger one is faster and drifts more
TIME, SHORT_TIME = "10ps", "50fs"  # lengths of the run; a longer one resolves the spectrum better
FRAMES_FS = 4.0  # time between frames, at most half the period of the O-H stretch, which is 9 fs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="ethanol", help="name or folder")
    parser.add_argument("--structure", default="CH3CH2OH", help="file that ASE reads, or a molecule of its g2 set")
    parser.add_argument("--output", type=Path, default=Path("nve_ethanol"), help="folder for the results")
    parser.add_argument("--compile", action="store_true", help="compile the potential, for long runs")
    parser.add_argument("--resume", action="store_true", help="continue the run in the output folder")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_TIME} instead of {TIME}")
    options = parser.parse_args()

    result = run_md(
        options.structure,
        options.potential,
        ensemble="nve",
        temperature=TEMPERATURE,
        timestep=TIMESTEP,
        time=SHORT_TIME if options.short else TIME,
        log_interval="10fs",
        traj_interval=f"{FRAMES_FS}fs",
        checkpoint_interval="20fs",
        seed=1,
        output=options.output,
        compile=options.compile,
        resume=options.resume,
        show=True,
    )
    if not result.completed:
        raise SystemExit(f"stopped by {result.interrupted} at step {result.step}; go on with --resume")

    frames = read(options.output / "trajectory.traj", ":")
    log = read_log(options.output / "log.csv")
    drift = energy_drift(log["time_ps"], log["total_eV"], len(frames[0]))
    print(f"drift of the total energy: {drift.slope:.4f} +- {drift.error:.4f} meV/atom/ps")
    print(f"mean temperature: {np.mean(log['temperature_K']):.1f} K")

    wave_numbers, density = vibrational_spectrum(velocities_of(frames), FRAMES_FS, masses=frames[0].get_masses())
    table = np.column_stack([wave_numbers, density])
    np.savetxt(options.output / "spectrum.csv", table, delimiter=",", header="wave number (1/cm),density", comments="")
    print(f"highest peak of the spectrum: {wave_numbers[np.argmax(density)]:.0f} 1/cm")


if __name__ == "__main__":
    main()
