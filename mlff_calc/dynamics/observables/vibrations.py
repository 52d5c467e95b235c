"""Velocity autocorrelation and the vibrational spectrum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from scipy.fft import rfft, rfftfreq

from mlff_calc.dynamics.observables.correlation import autocorrelation
from mlff_calc.errors import OptionError

PER_FS_IN_PER_CM = 1.0 / 2.99792458e-5
"""Wave number of one oscillation per femtosecond, cm^-1: the inverse of the speed of light, 2.99792458e-5 cm/fs."""


def velocities_of(frames: Sequence[Atoms]) -> np.ndarray:
    """Return the velocities of a trajectory in ASE's unit, [n_frames, n_atoms, 3].

    Raises:
        OptionError: There are no frames, or frames without momenta.
    """
    if len(frames) == 0 or not all(atoms.has("momenta") for atoms in frames):
        raise OptionError("velocities need frames with momenta. Give the trajectory of a run, such as trajectory.traj.")
    return np.array([atoms.get_velocities() for atoms in frames])


def velocity_autocorrelation(velocities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Compute the velocity autocorrelation, averaged over atoms, directions and time origins, and 1 at lag zero.

    Args:
        velocities: Velocities in any unit, [n_frames, n_atoms, 3].
        weights: Weights of the atoms, such as their masses, [n_atoms]; None uses equal weights.

    Returns:
        C(m) at lags 0 to n_frames - 1, [n_frames].

    Raises:
        OptionError: All velocities are zero.
    """
    velocities = np.asarray(velocities, dtype=float)
    weights = np.ones(velocities.shape[1]) if weights is None else np.asarray(weights, dtype=float)
    per_atom = autocorrelation(velocities.reshape(len(velocities), -1)).reshape(velocities.shape).sum(axis=2)
    correlation = per_atom @ weights
    if correlation[0] == 0.0:
        raise OptionError("all velocities are zero, so they have no autocorrelation. Give the trajectory of a run.")
    return correlation / correlation[0]


def vibrational_spectrum(
    velocities: np.ndarray,
    interval_fs: float,
    *,
    masses: np.ndarray | None = None,
    max_lag_fs: float | None = None,
    padding: int = 4,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the vibrational density of states: the Fourier transform of the mass-weighted velocity autocorrelation.

    The correlation up to `max_lag_fs` is multiplied by the falling half of a Hann window and padded with zeros. Two peaks
    closer than about 33000 / max_lag_fs cm^-1 merge. Frequencies above half the sampling rate, 16678 / interval_fs cm^-1,
    are not resolved.

    Args:
        velocities: Velocities in any unit, [n_frames, n_atoms, 3].
        interval_fs: Time between frames, fs.
        masses: Masses of the atoms, [n_atoms]; None uses equal weights.
        max_lag_fs: Longest lag used, fs; None uses half the length of the trajectory.
        padding: Factor by which zeros extend the correlation; a larger factor gives a smoother curve.

    Returns:
        Wave numbers, cm^-1, [n]; density of states, normalized to an integral of one, [n].

    Raises:
        OptionError: There are fewer than four lags.
    """
    return density_of(velocity_autocorrelation(velocities, masses), interval_fs, max_lag_fs=max_lag_fs, padding=padding)


def density_of(
    correlation: np.ndarray, interval_fs: float, *, max_lag_fs: float | None = None, padding: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Fourier transform of a correlation function, with a window and padding as in `vibrational_spectrum`.

    Args:
        correlation: Values at lags 0 to n - 1, [n].
        interval_fs: Time between frames, fs.
        max_lag_fs: Longest lag used, fs; None uses half of the lags.
        padding: Factor by which zeros extend the correlation.

    Returns:
        Wave numbers, cm^-1, [m]; density, normalized to an integral of one, [m].

    Raises:
        OptionError: There are fewer than four lags.
    """
    n_lags = len(correlation) // 2 if max_lag_fs is None else min(len(correlation), round(max_lag_fs / interval_fs))
    if n_lags < 4:
        raise OptionError(f"{n_lags} lags are too few for a spectrum. Give a longer trajectory or a longer max_lag_fs.")
    window = 0.5 * (1.0 + np.cos(np.pi * np.arange(n_lags) / n_lags))
    decaying = correlation[:n_lags] * window
    size = 2 * padding * n_lags
    # The correlation is even in time: its transform is the real part, with the value at zero counted once.
    density = 2.0 * rfft(decaying, size).real - decaying[0]
    wave_numbers = rfftfreq(size, interval_fs) * PER_FS_IN_PER_CM
    return wave_numbers, density / (density.sum() * wave_numbers[1])
