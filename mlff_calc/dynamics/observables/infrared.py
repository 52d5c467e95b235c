"""Infrared spectrum of a trajectory from its dipoles."""

from __future__ import annotations

import numpy as np

from mlff_calc.dynamics.observables.correlation import autocorrelation
from mlff_calc.dynamics.observables.vibrations import PER_FS_IN_PER_CM, density_of
from mlff_calc.errors import OptionError


def infrared_spectrum(
    dipoles: np.ndarray, interval_fs: float, *, max_lag_fs: float | None = None, padding: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the infrared absorption of classical motion: the spectrum of the time derivative of the dipole.

    Absorption times refractive index is proportional to the Fourier transform of < dM/dt(0) . dM/dt(t) >, with the
    harmonic quantum correction of the classical correlation, which cancels the remaining factors of the frequency.
    Derivatives are differences of neighbouring frames, whose loss at high frequencies is divided out.

    Source: Ramirez et al., "Quantum corrections to classical time-correlation functions" (2004).

    Args:
        dipoles: Dipoles in any unit, [n_frames, 3]. In periodic cells they must not jump by a quantum of polarization.
        interval_fs: Time between frames, fs.
        max_lag_fs: Longest lag, see `vibrational_spectrum`.
        padding: Factor by which zeros extend the correlation.

    Returns:
        Wave numbers, cm^-1, [n]; absorption, normalized to an integral of one, [n].

    Raises:
        OptionError: There are fewer than four lags, or the dipole does not change.
    """
    moved = np.diff(np.asarray(dipoles, dtype=float), axis=0)
    correlation = autocorrelation(moved).sum(axis=1) if len(moved) else np.zeros(0)
    if len(correlation) == 0 or correlation[0] == 0.0:
        raise OptionError("the dipole never changes, so it has no infrared spectrum. Give a longer trajectory of a run.")
    wave_numbers, density = density_of(correlation, interval_fs, max_lag_fs=max_lag_fs, padding=padding)
    periods = wave_numbers / PER_FS_IN_PER_CM * interval_fs
    density = density / np.sinc(periods) ** 2  # sin(pi x) / (pi x) is the difference of an oscillation over its derivative
    return wave_numbers, density / (density.sum() * wave_numbers[1])
