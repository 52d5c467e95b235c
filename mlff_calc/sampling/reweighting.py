"""Weights that turn structures drawn from one distribution into averages over another."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from ase import units
from numpy.typing import NDArray

from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.sampling.replica_exchange import Exchanged
from mlff_calc.sampling.systems import FloatArray


def normalized(log_weights: FloatArray) -> FloatArray:
    """Weights [n] that add up to one, of their logarithms [n]; -inf is a weight of zero.

    Raises:
        SimulationError: All weights are zero, or one is not a number.
    """
    highest = log_weights.max(initial=-np.inf)
    if not np.isfinite(highest):
        raise SimulationError("no structure has a weight that is finite and above zero; its energies are not finite")
    weights = np.exp(log_weights - highest)
    return weights / weights.sum()


def effective_sample_size(weights: FloatArray) -> float:
    """Kish's effective number of samples, (sum w)^2 / sum w^2, of weights [n]."""
    return float(weights.sum() ** 2 / (weights**2).sum())


@dataclass(frozen=True)
class Reweighted:
    """Samples of all temperatures of a replica exchange, weighed for one temperature by MBAR.

    Attributes:
        weights: Weights of the samples that were used [n_used]; they add up to one.
        used: Temperature and number of each of them [n_used, 2], into `Exchanged.positions`.
        free_energies: Free energies over kT of the temperatures of the ladder, relative to the first [n_temperatures].
        errors: Their standard errors.
        effective: Effective number of samples.
    """

    weights: FloatArray
    used: NDArray[np.int64]
    free_energies: FloatArray
    errors: FloatArray
    effective: float


def reweigh(exchanged: Exchanged, temperature: float) -> Reweighted:
    """Weigh the samples of a replica exchange for a temperature.

    Samples before equilibrium and between independent ones are left out, temperature by temperature.

    Args:
        exchanged: Result of `exchange`.
        temperature: K.

    Raises:
        OptionError: The temperature is not positive, or pymbar is not installed.

    Source: Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008); Chodera, J. Chem. Theory Comput. 12, 1799 (2016).
    """
    if not (np.isfinite(temperature) and temperature > 0.0):
        raise OptionError(f"the temperature is {temperature} K; give a positive number")
    with _quiet():
        return _reweighed(exchanged, temperature)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence pymbar's advice on installing JAX and its solvers' warnings, since their errors are raised."""
    log = logging.getLogger("pymbar")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


def _reweighed(exchanged: Exchanged, temperature: float) -> Reweighted:
    try:
        from pymbar import MBAR, timeseries
    except ImportError as error:
        raise OptionError(
            "reweighting needs pymbar, which is not installed; pip install 'mlff_calc[conformers]'"
        ) from error
    used: list[tuple[int, int]] = []
    counts = []
    for k, energies in enumerate(exchanged.energies):
        first, inefficiency = 0, 1.0
        if len(energies) > 2 and np.ptp(energies) > 0.0:
            first, inefficiency, _ = timeseries.detect_equilibration(energies)
        chosen = timeseries.subsample_correlated_data(energies[first:], g=inefficiency)
        used += [(k, int(first) + int(number)) for number in chosen]
        counts.append(len(chosen))
    places = np.array(used, dtype=np.int64)
    energies = exchanged.energies[places[:, 0], places[:, 1]]
    betas = 1.0 / (units.kB * exchanged.temperatures)
    mbar = MBAR(betas[:, None] * energies, np.array(counts))
    found = mbar.compute_free_energy_differences()
    wanted = energies / (units.kB * temperature)
    weights = normalized(_log_weights(mbar.f_k, betas, np.array(counts), energies) - wanted)
    return Reweighted(weights, places, found["Delta_f"][0], found["dDelta_f"][0], effective_sample_size(weights))


def _log_weights(
    free: FloatArray, betas: FloatArray, counts: NDArray[np.int64], energies: FloatArray
) -> FloatArray:
    """Minus the log of the mixture density of all temperatures at samples of given energies."""
    exponents = np.log(counts)[:, None] + free[:, None] - betas[:, None] * energies
    highest = exponents.max(axis=0)
    return -(highest + np.log(np.exp(exponents - highest).sum(axis=0)))
