"""Weights and distances between ensembles."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units

from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.sampling import metrics
from mlff_calc.sampling.replica_exchange import Exchanged
from mlff_calc.sampling.reweighting import effective_sample_size, normalized, reweigh


def test_weights_and_effective_number() -> None:
    weights = normalized(np.array([1000.0, 1000.0, -np.inf]))
    assert np.allclose(weights, [0.5, 0.5, 0.0])
    assert effective_sample_size(weights) == pytest.approx(2.0)
    assert effective_sample_size(np.ones(7)) == pytest.approx(7.0)
    with pytest.raises(SimulationError, match="no structure has a weight"):
        normalized(np.array([-np.inf, -np.inf]))


def test_mbar_gives_averages_of_another_temperature() -> None:
    """Energies of a harmonic oscillator in d dimensions are Gamma-distributed with shape d/2 and scale kT."""
    pytest.importorskip("pymbar")
    random = np.random.default_rng(0)
    temperatures = np.array([300.0, 400.0, 550.0])
    shape = 3.0
    energies = np.stack([random.gamma(shape, units.kB * t, 2000) for t in temperatures])
    ladder = Exchanged(
        temperatures, np.zeros((3, 2000, 1, 3)), energies, np.ones(2, dtype=np.int64), np.ones(2, dtype=np.int64),
        np.zeros((1, 3), dtype=np.int64),
    )  # fmt: skip
    for temperature in (300.0, 350.0, 480.0):
        found = reweigh(ladder, temperature)
        chosen = energies[found.used[:, 0], found.used[:, 1]]
        assert (found.weights * chosen).sum() == pytest.approx(shape * units.kB * temperature, rel=0.03)
        assert 500 < found.effective < 6000
    exact = -shape * np.log(temperatures / temperatures[0])
    assert np.allclose(found.free_energies, exact, atol=6 * found.errors.max())
    with pytest.raises(OptionError, match="the temperature is -1 K"):
        reweigh(ladder, -1)


def test_distances_of_histograms() -> None:
    random = np.random.default_rng(1)
    one, two = random.normal(0.0, 1.0, 20_000), random.normal(1.0, 1.0, 20_000)
    assert metrics.wasserstein(one, two) == pytest.approx(1.0, abs=0.03)
    assert metrics.total_variation(one, two) == pytest.approx(0.3829, abs=0.02)  # 2 Phi(1/2) - 1
    assert metrics.total_variation(one, one) == 0.0
    far = np.full(100, 50.0)
    assert metrics.total_variation(one, far) > 0.99  # what lies outside is not lost
    weights = np.exp(-two + 0.5)  # turns N(1, 1) into N(0, 1)
    assert metrics.wasserstein(one, two, weights) < 0.05
    angles = random.uniform(-np.pi, np.pi, 50_000)
    assert metrics.jensen_shannon(angles, angles[::-1]) == 0.0
    assert metrics.jensen_shannon(np.full(10, -3.0), np.full(10, 3.0)) == pytest.approx(np.log(2.0))
    with pytest.raises(OptionError, match="no values to compare"):
        metrics.total_variation(one, np.array([]))


def test_noise_floor_is_that_of_equal_distributions() -> None:
    random = np.random.default_rng(2)
    reference = random.normal(size=(4000, 1))
    floors = [metrics.noise_floor(metrics.wasserstein, reference, n) for n in (50, 500)]
    fresh = [np.mean([metrics.wasserstein(reference[:, 0], random.normal(size=n)) for _ in range(20)]) for n in (50, 500)]
    assert floors[0] > 2.0 * floors[1]
    assert np.allclose(floors, fresh, rtol=0.4)


def test_torsions_and_coverage() -> None:
    places = np.array([[[1.0, 0, 0], [0, 0, 0], [0, 0, 1.0], [0, np.cos(0.0), 1.0]]])
    assert metrics.torsions(places, np.array([[0, 1, 2, 3]]))[0, 0] == pytest.approx(np.pi / 2)
    found = metrics.coverage(np.array([[0.1, 0.9, 2.0], [0.7, 0.2, 0.6]]), 0.5)
    assert found == {
        "COV-R": 1.0, "MAT-R": pytest.approx(0.15), "COV-P": pytest.approx(2 / 3), "MAT-P": pytest.approx(0.3)
    }  # fmt: skip
