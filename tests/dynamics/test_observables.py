"""Observables against cases with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mlff_calc.dynamics.observables import (
    autocorrelation,
    diffusion_coefficient,
    energy_drift,
    linear_fit,
    mean_squared_displacement,
    mean_with_error,
    radial_distribution,
    shadow_energy,
    unwrapped_positions,
    velocities_of,
    velocity_autocorrelation,
    vibrational_spectrum,
)
from mlff_calc.errors import OptionError


def test_rdf_of_an_ideal_gas_is_one():
    rng = np.random.default_rng(0)
    cell = np.array([[9.0, 0, 0], [2.0, 8.0, 0], [0, 1.0, 7.0]])
    frames = [Atoms("Ar60", scaled_positions=rng.random((60, 3)), cell=cell, pbc=True) for _ in range(40)]
    r, g = radial_distribution(frames, 8.0, 8)  # the cutoff exceeds the cell, so images count
    assert r[0] == pytest.approx(0.5)
    pairs = 40 * 60 * 59 / 2 * (4 / 3 * np.pi * np.diff(np.linspace(0, 8, 9) ** 3)) / np.linalg.det(cell)
    # Pairs of an atom with its own images are counted in addition: 60 to 60 * 59 pairs, and only beyond 7 Angstrom.
    np.testing.assert_array_less(np.abs(g[:6] - 1.0), 5 / np.sqrt(pairs[:6]))


def test_rdf_of_fcc_has_its_shells_with_their_numbers():
    atoms = bulk("Cu", "fcc", a=3.613, cubic=True).repeat(3)
    r, g = radial_distribution([atoms], 5.0, 500)
    width = r[1] - r[0]
    density = (len(atoms) - 1) / atoms.cell.volume
    numbers = g * density * 4 / 3 * np.pi * ((r + width / 2) ** 3 - (r - width / 2) ** 3)
    peaks = np.flatnonzero(numbers > 0.5)
    np.testing.assert_allclose(r[peaks], 3.613 * np.sqrt([0.5, 1.0, 1.5]), atol=width)
    np.testing.assert_allclose(numbers[peaks], [12, 6, 24], rtol=1e-10)


def test_rdf_of_pairs_of_elements():
    atoms = bulk("NaCl", "rocksalt", a=5.61, cubic=True).repeat(2)
    r, unlike = radial_distribution([atoms], 3.5, 350, pair=("Na", "Cl"))
    _, like = radial_distribution([atoms], 3.5, 350, pair=("Na", "Na"))
    assert r[unlike > 0] == pytest.approx([2.805], abs=0.01)
    assert not like.any()
    with pytest.raises(OptionError, match="element K"):
        radial_distribution([atoms], 3.5, pair=("Na", "K"))
    with pytest.raises(OptionError, match="pbc"):
        radial_distribution([molecule("H2O")], 3.5)
    with pytest.raises(OptionError, match=r"no frames|got none"):
        radial_distribution([], 3.5)


def test_autocorrelation_is_that_of_the_definition():
    series = np.random.default_rng(1).standard_normal(37)
    direct = [np.mean(series[: 37 - lag] * series[lag:]) for lag in range(37)]
    np.testing.assert_allclose(autocorrelation(series), direct, atol=1e-13)


def test_msd_of_free_particles_is_ballistic_and_equals_the_definition():
    rng = np.random.default_rng(2)
    velocities = rng.standard_normal((5, 3))
    times = np.arange(50)
    paths = 1e4 + times[:, None, None] * velocities
    msd = mean_squared_displacement(paths)
    np.testing.assert_allclose(msd, np.mean(np.sum(velocities**2, axis=1)) * times**2, rtol=1e-9, atol=1e-9)
    walk = rng.standard_normal((30, 4, 3)).cumsum(axis=0)
    direct = [np.mean(np.sum((walk[lag:] - walk[: 30 - lag]) ** 2, axis=2)) for lag in range(30)]
    np.testing.assert_allclose(mean_squared_displacement(walk), direct, rtol=1e-10, atol=1e-10)


def test_msd_without_the_motion_of_the_centre_of_mass():
    paths = np.arange(20.0)[:, None, None] * np.ones((20, 3, 3))
    assert mean_squared_displacement(paths)[-1] > 1.0
    np.testing.assert_allclose(
        mean_squared_displacement(paths, remove_drift=np.array([1.0, 2.0, 3.0])), 0.0, atol=1e-10
    )


def test_diffusion_coefficient_of_a_brownian_walk():
    rng = np.random.default_rng(3)
    true, interval = 0.7, 0.02
    steps = rng.standard_normal((4000, 30, 3)) * np.sqrt(2 * true * interval)
    found = diffusion_coefficient(steps.cumsum(axis=0), interval)
    assert 0.0 < found.error < 0.1 * true
    assert found.coefficient == pytest.approx(true, abs=4 * found.error)
    with pytest.raises(OptionError, match="longer trajectory"):
        diffusion_coefficient(steps[:10], interval)


def test_unwrapping_undoes_wrapping_in_an_oblique_cell():
    rng = np.random.default_rng(4)
    cell = [[5.0, 0, 0], [2.0, 4.0, 0], [1.0, 1.0, 6.0]]
    walk = rng.normal(scale=0.4, size=(200, 6, 3)).cumsum(axis=0)
    frames = [Atoms("Ar6", positions=positions, cell=cell, pbc=True) for positions in walk]
    for atoms in frames[1:]:
        atoms.wrap()
    np.testing.assert_allclose(unwrapped_positions(frames), walk, atol=1e-9)
    with pytest.raises(OptionError):
        unwrapped_positions([])


@pytest.mark.parametrize("wave_number", [300.0, 1650.0, 3700.0])
def test_spectrum_of_an_oscillator_peaks_at_its_frequency(wave_number):
    interval = 2.0
    times = interval * np.arange(4000)
    omega = 2 * np.pi * wave_number * 2.99792458e-5  # rad/fs
    velocities = np.cos(omega * times + 0.3)[:, None, None] * np.ones((1, 2, 3))
    x, density = vibrational_spectrum(velocities, interval, masses=np.array([1.0, 16.0]))
    assert x[np.argmax(density)] == pytest.approx(wave_number, abs=2.0)
    assert density.sum() * (x[1] - x[0]) == pytest.approx(1.0)
    correlation = velocity_autocorrelation(velocities)
    np.testing.assert_allclose(correlation[:200], np.cos(omega * times[:200]), atol=0.02)


def test_spectrum_weighs_modes_by_mass():
    times = 1.0 * np.arange(8000)
    slow, fast = (np.cos(2 * np.pi * nu * 2.99792458e-5 * times) for nu in (500.0, 2000.0))
    velocities = np.zeros((8000, 2, 3))
    velocities[:, 0, 0], velocities[:, 1, 0] = slow, fast
    x, density = vibrational_spectrum(velocities, 1.0, masses=np.array([3.0, 1.0]))
    share = density[x < 1000].sum() / density.sum()
    assert share == pytest.approx(0.75, abs=0.01)


def test_velocities_need_momenta():
    with pytest.raises(OptionError, match="momenta"):
        velocities_of([molecule("H2O")])
    with pytest.raises(OptionError, match="zero"):
        velocity_autocorrelation(np.zeros((5, 2, 3)))


def test_the_shadow_energy_oscillates_less_and_shows_a_drift():
    """Velocity Verlet of Morse oscillators; in the second run, velocities that grow make a known drift."""
    masses, step = np.array([1.0, 2.0]), 0.25

    def force(places: np.ndarray) -> np.ndarray:
        return -2.0 * (1.0 - np.exp(-places)) * np.exp(-places)

    for growth in (0.0, 1e-6):
        places, speeds = np.zeros((2, 3)), np.array([[0.3, -0.2, 0.1], [0.2, 0.1, -0.3]])
        kept = []
        for _ in range(400):
            energy = ((1.0 - np.exp(-places)) ** 2).sum() + 0.5 * (masses[:, None] * speeds**2).sum()
            kept.append((energy, speeds.copy(), force(places)))
            speeds += 0.5 * step * force(places) / masses[:, None]
            places += step * speeds
            speeds = (speeds + 0.5 * step * force(places) / masses[:, None]) * (1.0 + growth)
        energies, velocities, forces = (np.array(one) for one in zip(*kept, strict=True))
        smooth = shadow_energy(energies, velocities, forces, masses, step)
        assert smooth.shape == (398,)
        if growth == 0.0:
            assert smooth.std() < 0.05 * energies.std()
        else:
            times = step * np.arange(400)
            kinetic = np.mean(0.5 * (masses[:, None] * velocities**2).sum(axis=(1, 2)))
            wanted = 2.0 * growth / step * kinetic
            fit = linear_fit(times[1:-1], smooth)
            assert fit.slope == pytest.approx(wanted, rel=0.3)
            assert fit.error < 0.05 * linear_fit(times, energies).error
    with pytest.raises(OptionError, match="three consecutive"):
        shadow_energy(energies[:2], velocities[:2], forces[:2], masses, step)


def test_linear_fit_and_drift():
    x = np.linspace(0, 10, 400)
    noise = np.random.default_rng(5).normal(scale=0.02, size=400)
    drift = energy_drift(x, -1e4 + 0.003 * x + noise, n_atoms=3)
    assert drift.slope == pytest.approx(1.0, abs=4 * drift.error)
    assert drift.error == pytest.approx(1000 / 3 * 0.02 / np.sqrt(400) / x.std(), rel=0.2)
    with pytest.raises(OptionError):
        linear_fit([1.0, 1.0], [2.0, 3.0])


def test_error_of_a_correlated_mean_is_not_that_of_independent_values():
    rng = np.random.default_rng(6)
    series = np.zeros(20000)
    for k in range(1, 20000):
        series[k] = 0.95 * series[k - 1] + rng.standard_normal()
    _, error = mean_with_error(series)
    true = 1.0 / (1.0 - 0.95) / np.sqrt(20000)  # standard error of an AR(1) series
    assert 0.5 * true < error < 1.7 * true
    assert series.std() / np.sqrt(20000) < 0.3 * true
