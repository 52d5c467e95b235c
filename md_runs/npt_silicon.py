"""Silicon at constant pressure: the lattice constant at 300 K from isotropic MTK dynamics.

    python md_runs/npt_silicon.py                 # 64 atoms, 10 ps
    python md_runs/npt_silicon.py --repeat 3      # 216 atoms
    python md_runs/npt_silicon.py --short         # 8 atoms and a few steps, to see that everything works
    python md_runs/npt_silicon.py --resume        # after Ctrl-C or a kill

Writes trajectory, log, picture and report into npt_silicon/.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.build import bulk
from rich.console import Console

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.dynamics import EnsembleOptions, MDRun, RunOptions, read_log
from mlff_calc.dynamics.observables import mean_with_error
from mlff_calc.dynamics.progress import RunProgress
from mlff_calc.dynamics.report import write_report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="silicon", help="name or folder")
    parser.add_argument("--repeat", type=int, default=2, help="cubic cells along each side: 2 is 64 atoms, 3 is 216")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--pressure", type=float, default=0.0, help="GPa")
    parser.add_argument("--output", type=Path, default=Path("npt_silicon"), help="folder for the results")
    parser.add_argument("--compile", action="store_true", help="compile the potential, for long runs")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    parser.add_argument("--short", action="store_true", help="8 atoms, 50 steps")
    options = parser.parse_args()

    calculator = MLFFCalculator(options.potential, precision="float32", compile=options.compile)
    if options.resume:
        run = MDRun.resume(options.output, calculator)
    else:
        atoms = bulk("Si", cubic=True, a=5.43).repeat(1 if options.short else options.repeat)
        atoms.calc = calculator
        ensemble = EnsembleOptions(
            ensemble="npt-iso",
            timestep_fs=2.0,
            temperature_K=options.temperature,
            pressure_GPa=options.pressure,
            taut_fs=200.0,
            taup_fs=1000.0,
            seed=1,
        )
        length = RunOptions(steps=50 if options.short else 5000, log_interval=5, traj_interval=25)
        run = MDRun.start(atoms, options.output, ensemble, length)
    with RunProgress(Console(), title="silicon, NPT", start=run.state.step, steps=run.options.steps) as progress:
        result = run.run(progress)
    write_report(options.output, timing=calculator.stats.as_dict())
    if not result.completed:
        raise SystemExit(f"stopped by {result.interrupted} at step {result.step}; go on with --resume")

    log = read_log(options.output / "log.csv")
    kept = slice(len(log["step"]) // 5, None)  # the first fifth is equilibration
    cells = len(run.atoms) / 8  # cubic cells of eight atoms
    lattice, error = mean_with_error(np.cbrt(log["volume_A3"][kept] / cells))
    print(f"lattice constant: {lattice:.4f} +- {error:.4f} Angstrom")
    print(f"mean temperature: {np.mean(log['temperature_K'][kept]):.1f} K")
    print(f"mean pressure: {np.mean(log['pressure_GPa'][kept]):.3f} GPa")


if __name__ == "__main__":
    main()
