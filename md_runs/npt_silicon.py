"""A crystal (silicon by default) at constant pressure: volume, temperature and pressure.

    python md_runs/npt_silicon.py                 # 64 atoms, 10 ps
    python md_runs/npt_silicon.py --potential my/potential --structure mine.cif --repeat 3
    python md_runs/npt_silicon.py --short         # one cell and 100 fs, as a test
    python md_runs/npt_silicon.py --resume        # after Ctrl-C or a kill

Writes trajectory, log, plot and report into npt_silicon/.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.io import read

from mlff_calc import run_md
from mlff_calc.dynamics import read_log
from mlff_calc.dynamics.observables import mean_with_error

TIMESTEP = 2.0  # time step, fs; a larger one is faster and less accurate
TAUT, TAUP = 200.0, 1000.0  # time constants of thermostat and barostat, fs; larger ones couple more weakly
TIME, SHORT_TIME = "10ps", "100fs"  # lengths of the run
EQUILIBRATION = 0.2  # fraction of the run left out of averages; a larger one removes more of the equilibration


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="silicon", help="name or folder")
    parser.add_argument("--structure", help="file of a crystal that ASE reads; silicon by default")
    parser.add_argument("--repeat", type=int, default=2, help="number of cells along each side")
    parser.add_argument("--temperature", type=float, default=300.0, help="temperature, K")
    parser.add_argument("--pressure", type=float, default=0.0, help="pressure, GPa")
    parser.add_argument("--output", type=Path, default=Path("npt_silicon"), help="folder for the results")
    parser.add_argument("--compile", action="store_true", help="compile the potential, for long runs")
    parser.add_argument("--resume", action="store_true", help="continue the run in the output folder")
    parser.add_argument("--short", action="store_true", help=f"one cell, {SHORT_TIME}")
    options = parser.parse_args()

    cell = read(options.structure) if options.structure else bulk("Si", cubic=True, a=5.43)
    repeat = 1 if options.short else options.repeat
    result = run_md(
        cell.repeat(repeat),
        options.potential,
        ensemble="npt-iso",
        temperature=options.temperature,
        pressure=options.pressure,
        timestep=TIMESTEP,
        taut=TAUT,
        taup=TAUP,
        time=SHORT_TIME if options.short else TIME,
        log_interval="10fs",
        traj_interval="50fs",
        seed=1,
        output=options.output,
        compile=options.compile,
        resume=options.resume,
        show=True,
    )
    if not result.completed:
        raise SystemExit(f"stopped by {result.interrupted} at step {result.step}; go on with --resume")

    log = read_log(options.output / "log.csv")
    kept = slice(int(EQUILIBRATION * len(log["step"])), None)
    stretch = np.cbrt(log["volume_A3"][kept] / log["volume_A3"][0])  # factor of each length of the cell
    length, error = mean_with_error(stretch * cell.cell.lengths()[0])
    print(f"lattice constant: {length:.4f} +- {error:.4f} Angstrom (a of the cell that was repeated)")
    print(f"mean temperature: {np.mean(log['temperature_K'][kept]):.1f} K")
    print(f"mean pressure: {np.mean(log['pressure_GPa'][kept]):.3f} GPa")


if __name__ == "__main__":
    main()
