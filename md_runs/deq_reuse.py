"""Reuse of fixed points: evaluations, time, force error and energy drift of trajectories, for ethanol and silicon.

    python md_runs/deq_reuse.py                       # ethanol; the whole study takes some hours on one core
    python md_runs/deq_reuse.py --system silicon
    python md_runs/deq_reuse.py --short               # a few steps of each run, as a test
    python md_runs/deq_reuse.py --cost                # only a table of the cost of tolerances, without trajectories

Writes reuse_nve.csv, reuse_langevin.csv, reuse_reversal.csv and plots into deq_reuse/. The page of the documentation on
deep-equilibrium potentials discusses them.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ase.build import bulk, molecule

from mlff_calc.bench.studies.reuse_cost import step_costs
from mlff_calc.bench.studies.reuse_study import (
    Study,
    constant_energy,
    plot,
    relaxed,
    there_and_back,
    thermostat,
    ways,
    write_table,
)
from mlff_calc.calculators.reuse import MODES, Reuse
from mlff_calc.potential import load_potential

SYSTEMS = {
    "ethanol": ("ethanol_deq", lambda: molecule("CH3CH2OH"), [(0, 1), (0, 2), (2, 3)]),
    "silicon": ("silicon_deq", lambda: bulk("Si", cubic=True) * (2, 2, 2), [(0, 1)]),
}
"""Potential, structure, and pairs of atoms whose distances are compared, by system."""


def print_costs(potential, atoms, **chosen):
    """Print one line for each kind of step, precision and rule."""
    for cost in step_costs(potential, atoms, **chosen):
        print(
            f"{cost.kind}, {cost.precision}, {cost.rule}: {cost.n_forward:.1f}+{cost.n_adjoint:.1f} evaluations, "
            f"{cost.ms:.1f} ms, largest force error {cost.error:.2g} meV/Angstrom",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=SYSTEMS, default="ethanol")
    parser.add_argument("--potential", help="name or folder; the shipped one by default")
    parser.add_argument("--time", type=float, default=20.0, help="length of a run at constant energy, ps")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[300.0, 500.0], help="K")
    parser.add_argument("--timesteps", type=float, nargs="+", default=[0.5], help="fs")
    parser.add_argument("--counts", type=int, nargs="+", default=[2, 3, 4], help="evaluations per step")
    parser.add_argument("--predictors", nargs="+", default=["previous", "quadratic", "least_squares4"])
    parser.add_argument("--cold", type=int, nargs="*", default=[6, 8], help="evaluations of cold solves")
    parser.add_argument("--thermostat", type=float, default=100.0, help="length of a Langevin run, ps; 0 for none")
    parser.add_argument("--no-compile", action="store_true", help="eager PyTorch, which is slow and needs no compiler")
    parser.add_argument("--output", type=Path, default=Path("deq_reuse"), help="folder for the results")
    parser.add_argument("--short", action="store_true", help="a few steps of each run")
    parser.add_argument("--cost", action="store_true", help="print only evaluations, time and error of a step")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")

    name, structure, pairs = SYSTEMS[options.system]
    potential, atoms = load_potential(options.potential or name), structure()
    atoms = relaxed(potential, atoms)
    if options.cost:
        print_costs(potential, atoms, steps=4 if options.short else 24, compiled=not (options.no_compile or options.short),
                    timestep_fs=options.timesteps[0])  # fmt: skip
        return
    compiled, time_ps, thermostat_ps, frames = not options.no_compile, options.time, options.thermostat, 40
    chosen = ways(options.counts, options.predictors, cold=options.cold)
    if options.short:
        compiled, time_ps, thermostat_ps, frames = False, 0.02, 0.05, 2
        chosen = dict(list(chosen.items())[:2])
    options.output.mkdir(parents=True, exist_ok=True)

    study = Study()
    there = {"conservative": MODES["conservative"], "reversible 4+4": Reuse("reversible", 4, 4, tolerance=0.1)}
    constant_energy(study, potential, atoms, chosen, temperatures=options.temperatures, timesteps=options.timesteps,
                    time_ps=time_ps, compiled=compiled, frames=frames)  # fmt: skip
    write_table(study.runs, options.output / "reuse_nve.csv")
    there_and_back(study, potential, atoms, there, compiled=compiled, time_ps=0.01 if options.short else 1.0)
    rows = ["way,distance_A", *(f"{way},{distance:.3g}" for way, distance in study.reversals.items())]
    (options.output / "reuse_reversal.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    if thermostat_ps > 0.0:
        modes = {"fast": MODES["fast"], "converged": Reuse("least_squares4", 4, 4, tolerance=1e-3)}
        thermostat(study, potential, atoms, modes, temperatures=options.temperatures[:1] if options.short else
                   options.temperatures, time_ps=thermostat_ps, compiled=compiled, pairs=pairs, frames=frames)  # fmt: skip
        write_table(study.thermostatted, options.output / "reuse_langevin.csv")
    plot(study, options.output, options.system)
    for run in [*study.runs, *study.thermostatted]:
        where = f"{run.name:20s} {run.temperature_K:4.0f} K {run.timestep_fs:4.2f} fs"
        work = f"{run.n_forward:4.1f} + {run.n_adjoint:4.1f}  {run.ms:6.2f} ms"
        drift = f"drift {run.drift:8.3f} +- {run.drift_error:.3f} meV/atom/ps"
        print(f"{where}  {work}  {drift}  force error {run.force_rmse:7.3f} meV/A")


if __name__ == "__main__":
    main()
