"""Molecular dynamics: ensembles on ASE's integrators, restartable runs, observables, reports."""

from mlff_calc.dynamics.ensembles import ENSEMBLES, EnsembleOptions, build_integrator
from mlff_calc.dynamics.log import LogRow, read_log
from mlff_calc.dynamics.md import run_md
from mlff_calc.dynamics.options import RunOptions
from mlff_calc.dynamics.run import MDRun, RunResult
from mlff_calc.dynamics.velocities import degrees_of_freedom, set_maxwell_velocities

__all__ = [
    "ENSEMBLES",
    "EnsembleOptions",
    "LogRow",
    "MDRun",
    "RunOptions",
    "RunResult",
    "build_integrator",
    "degrees_of_freedom",
    "read_log",
    "run_md",
    "set_maxwell_velocities",
]
