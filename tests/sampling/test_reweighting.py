"""Weights and distances between ensembles."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units

from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.sampling import metrics
from mlff_calc.sampling.compare import compare_samples
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


def test_noise_floor_of_sets_of_equal_size_has_the_noise_of_both() -> None:
    random = np.random.default_rng(3)
    floor = np.mean([metrics.noise_floor(metrics.wasserstein, random.normal(size=(200, 1)), 200) for _ in range(20)])
    pairs = [metrics.wasserstein(random.normal(size=200), random.normal(size=200)) for _ in range(400)]
    assert floor == pytest.approx(np.mean(pairs), rel=0.12)


def atoms_of(energies: np.ndarray, random: np.random.Generator, weights: np.ndarray | None = None) -> list[Atoms]:
    found = [Atoms("Ar3", random.normal(size=(3, 3)), info={"energy": energy}) for energy in energies]
    for k, atoms in enumerate([] if weights is None else found):
        atoms.info["weight"] = weights[k]
    return found


def test_noise_of_weighted_structures_is_that_of_their_effective_number() -> None:
    random = np.random.default_rng(4)
    reference = atoms_of(random.normal(size=400), random)
    weights = np.full(400, 1e-9)
    weights[:25] = 1.0
    found = compare_samples(reference, atoms_of(random.normal(size=400), random, weights))
    plain = compare_samples(reference, atoms_of(random.normal(size=25), random))
    for one, other in zip(found.rows, plain.rows, strict=True):
        assert one.floor == pytest.approx(other.floor, rel=0.05, nan_ok=True)
    assert {row.quantity: row.floor for row in plain.rows}["mean energy"] == pytest.approx(0.2, rel=0.15)


def test_weights_on_structures_without_a_valid_energy_are_said() -> None:
    random = np.random.default_rng(5)
    reference = atoms_of(random.normal(size=50), random, np.ones(50))
    other = atoms_of(np.r_[np.inf, 900.0, random.normal(size=8)], random, np.r_[0.0, 1.0, np.zeros(8)])
    found = compare_samples(reference, other, kT=1.0)
    assert not {"energy", "mean energy"} & {row.quantity for row in found.rows}
    assert found.rows[-1].value == pytest.approx(0.8)  # valid
    assert "no structure with a valid energy has a weight" in found.as_text()
    assert "weights of the reference are not used" in found.as_text()


def test_torsions_and_coverage() -> None:
    places = np.array([[[1.0, 0, 0], [0, 0, 0], [0, 0, 1.0], [0, np.cos(0.0), 1.0]]])
    assert metrics.torsions(places, np.array([[0, 1, 2, 3]]))[0, 0] == pytest.approx(np.pi / 2)
    found = metrics.coverage(np.array([[0.1, 0.9, 2.0], [0.7, 0.2, 0.6]]), 0.5)
    assert found == {
        "COV-R": 1.0, "MAT-R": pytest.approx(0.15), "COV-P": pytest.approx(2 / 3), "MAT-P": pytest.approx(0.3)
    }  # fmt: skip
