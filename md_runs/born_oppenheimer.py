"""A molecule (water by default) at constant energy on the surface of density functional theory, with starts of the SCF.

    python md_runs/born_oppenheimer.py                    # 100 fs of B3LYP/def2-SVP; some minutes on one core
    python md_runs/born_oppenheimer.py --model my/hamiltonian      # starts from a learned Fock matrix, at its level
    python md_runs/born_oppenheimer.py --structure mine.xyz
    python md_runs/born_oppenheimer.py --short            # 3 fs in a small basis, as a test
    python md_runs/born_oppenheimer.py --resume           # after Ctrl-C or a kill; repeat the other options

Writes trajectory, log, plot and report into born_oppenheimer/, and prints what a step cost. Needs the extra `electronic`.
Set OMP_NUM_THREADS to the number of cores that PySCF may use.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ase.io import read

from mlff_calc import run_md
from mlff_calc.calculators import SCFCalculator
from mlff_calc.dynamics import read_log
from mlff_calc.dynamics.observables import energy_drift
from mlff_calc.electronic import HamiltonianGuess

XC, BASIS, GRID_LEVEL = "b3lyp", "def2-svp", 3  # level without a model; a smaller grid is faster and drifts more
SHORT_XC, SHORT_BASIS, SHORT_GRID_LEVEL = "pbe", "sto-3g", 0
CONV_TOL = 1e-9  # tolerance of the energy, Hartree; a larger one saves cycles and drifts more
ORDER = 3  # order of the extrapolation, 0 to 4; a higher one has a longer memory
TEMPERATURE = 300.0  # temperature of the initial velocities, K
TIMESTEP = 0.5  # time step, fs
TIME, SHORT_TIME = "100fs", "3fs"  # lengths of the run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of a trained Hamiltonian; without one, densities are extrapolated")
    parser.add_argument("--structure", default="H2O", help="file that ASE reads, or a molecule of its g2 set")
    parser.add_argument("--output", type=Path, default=Path("born_oppenheimer"), help="folder for the results")
    parser.add_argument("--resume", action="store_true", help="continue the run in the output folder")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_TIME} of {SHORT_XC}/{SHORT_BASIS}")
    options = parser.parse_args()

    xc, basis, grid_level = (SHORT_XC, SHORT_BASIS, SHORT_GRID_LEVEL) if options.short else (XC, BASIS, GRID_LEVEL)
    start = "aspc"
    if options.model is not None:
        level = HamiltonianGuess(options.model).model.settings
        xc, basis, grid_level, start = level.xc, level.basis, level.grid_level, "model+aspc"
    calculator = SCFCalculator(
        xc, basis, grid_level=grid_level, conv_tol=CONV_TOL, start=start, model=options.model, order=ORDER
    )
    result = run_md(
        options.structure,
        calculator,
        ensemble="nve",
        temperature=TEMPERATURE,
        timestep=TIMESTEP,
        time=SHORT_TIME if options.short else TIME,
        log_interval=1,
        traj_interval="1fs",
        checkpoint_interval="2fs",
        seed=1,
        output=options.output,
        resume=options.resume,
        show=True,
    )
    if not result.completed:
        raise SystemExit(f"stopped by {result.interrupted} at step {result.step}; go on with --resume")

    log = read_log(options.output / "log.csv")
    drift = energy_drift(log["time_ps"], log["total_eV"], len(read(options.output / "trajectory.traj")))
    print(f"start {start}: {calculator.stats}")
    print(f"gradients: {calculator.stats.gradient_seconds / max(calculator.stats.gradients, 1):.3f} s each")
    print(f"slope of the total energy: {drift.slope:.2f} +- {drift.error:.2f} meV/atom/ps")


if __name__ == "__main__":
    main()
