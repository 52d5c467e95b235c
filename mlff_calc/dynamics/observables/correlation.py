"""Autocorrelation by Fourier transforms."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft


def autocorrelation(series: np.ndarray) -> np.ndarray:
    """Compute the autocorrelation < x(k) x(k + m) > over all origins k, without bias and without periodic wrapping.

    Args:
        series: Values [n] or [n, columns]. Columns are treated separately, and their means are not subtracted.

    Returns:
        Values at lags 0 to n - 1, of the same shape.
    """
    series = np.asarray(series, dtype=float)
    n = len(series)
    size = next_fast_len(2 * n, real=True)
    spectrum = rfft(series, size, axis=0)
    sums = irfft(spectrum * spectrum.conj(), size, axis=0)[:n]
    origins = n - np.arange(n)
    return sums / (origins if series.ndim == 1 else origins[:, None])
