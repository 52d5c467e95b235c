"""Observables computed from trajectories: structure, diffusion, vibrations, drift."""

from mlff_calc.dynamics.observables.correlation import autocorrelation
from mlff_calc.dynamics.observables.diffusion import (
    Diffusion,
    diffusion_coefficient,
    mean_squared_displacement,
    unwrapped_positions,
)
from mlff_calc.dynamics.observables.drift import energy_drift, shadow_energy
from mlff_calc.dynamics.observables.infrared import infrared_spectrum
from mlff_calc.dynamics.observables.rdf import radial_distribution
from mlff_calc.dynamics.observables.statistics import Slope, linear_fit, mean_with_error
from mlff_calc.dynamics.observables.vibrations import velocities_of, velocity_autocorrelation, vibrational_spectrum

__all__ = [
    "Diffusion",
    "Slope",
    "autocorrelation",
    "diffusion_coefficient",
    "energy_drift",
    "infrared_spectrum",
    "linear_fit",
    "mean_squared_displacement",
    "mean_with_error",
    "radial_distribution",
    "shadow_energy",
    "unwrapped_positions",
    "velocities_of",
    "velocity_autocorrelation",
    "vibrational_spectrum",
]
