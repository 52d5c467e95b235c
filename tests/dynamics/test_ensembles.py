"""The physics of the ensembles, on cheap potentials."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.md.langevin import Langevin

from mlff_calc.dynamics import ENSEMBLES, EnsembleOptions, build_integrator, degrees_of_freedom, set_maxwell_velocities
from mlff_calc.dynamics.ensembles import conserved_energy
from mlff_calc.dynamics.observables import energy_drift, mean_with_error
from mlff_calc.errors import OptionError


def prepare(atoms, options):
    set_maxwell_velocities(
        atoms, options.temperature_K, seed=options.seed, conserves_momentum=options.conserves_momentum
    )
    return build_integrator(atoms, options, np.random.default_rng(options.seed))


def kinetic_temperatures(atoms, options, steps, every=1):
    dynamics = prepare(atoms, options)
    n_free = degrees_of_freedom(atoms, conserves_momentum=options.conserves_momentum)
    found = []
    for step in range(steps):
        dynamics.step()
        if step % every == 0:
            found.append(2.0 * atoms.get_kinetic_energy() / (n_free * units.kB))
    return np.array(found)


def assert_mean_of_300(temperatures):
    """Counting 3N degrees of freedom instead of 21 would be an error of 29 %, far above the statistical error."""
    mean, error = mean_with_error(temperatures)
    assert error < 15.0
    assert mean == pytest.approx(300.0, abs=4 * error)


def test_nose_hoover_keeps_the_temperature_of_a_molecule(bonded):
    atoms = molecule("CH3CH2OH")
    atoms.calc = bonded(atoms, stiffness=0.3)
    options = EnsembleOptions(ensemble="nose-hoover", temperature_K=300.0, timestep_fs=1.0, taut_fs=50.0, seed=5)
    assert_mean_of_300(kinetic_temperatures(atoms, options, 10000, every=2)[250:])


@pytest.mark.parametrize("ensemble", ["langevin", "bussi"])
def test_temperature_and_its_fluctuations_are_canonical(bonded, ensemble):
    """The variance of the kinetic temperature of a molecule is 2 T^2 / n_free."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = bonded(atoms, stiffness=0.3)
    options = EnsembleOptions(
        ensemble=ensemble, temperature_K=300.0, timestep_fs=1.0, friction_per_ps=50.0, taut_fs=20.0, seed=6
    )
    found = kinetic_temperatures(atoms, options, 10000, every=2)[250:]
    assert_mean_of_300(found)
    n_free = 27 if ensemble == "langevin" else 21
    mean, error = mean_with_error((found - 300.0) ** 2)
    assert mean == pytest.approx(2.0 * 300.0**2 / n_free, abs=4 * error)
    assert error < 0.2 * mean


@pytest.mark.parametrize("ensemble", ["nve", "langevin", "bussi", "nose-hoover"])
def test_conserved_energy_is_conserved(copper, ensemble):
    atoms = copper()
    options = EnsembleOptions(ensemble=ensemble, temperature_K=600.0, timestep_fs=2.0, taut_fs=100.0)
    dynamics = prepare(atoms, options)
    energies, exchanged = [], []
    for _ in range(300):
        dynamics.step()
        total = atoms.get_potential_energy() + atoms.get_kinetic_energy()
        energies.append(conserved_energy(dynamics, ensemble, total))
        exchanged.append(total)
    drift = energy_drift(0.002 * np.arange(300), energies, len(atoms))
    assert abs(drift.slope) < 0.5  # meV/atom/ps
    assert np.ptp(energies) / len(atoms) < 1e-3
    if ensemble != "nve":
        assert np.ptp(exchanged) > 20 * np.ptp(energies)


def langevin_energies(atoms, timestep_fs, friction_per_ps, steps):
    """Return conserved and total energy of a Langevin run, eV."""
    options = EnsembleOptions(
        ensemble="langevin", temperature_K=300.0, timestep_fs=timestep_fs, friction_per_ps=friction_per_ps
    )
    dynamics = prepare(atoms, options)
    energies = []
    for _ in range(steps):
        dynamics.step()
        total = atoms.get_potential_energy() + atoms.get_kinetic_energy()
        energies.append((conserved_energy(dynamics, "langevin", total), total))
    return np.array(energies).T


def test_langevin_without_friction_gives_no_heat(bonded):
    """The energy changes only by the error of velocity Verlet; the heat with such a friction is below 1e-10 eV."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = bonded(atoms)
    conserved, total = langevin_energies(atoms, 1.0, 1e-20, 300)
    assert np.ptp(total) > 1e-3
    np.testing.assert_allclose(conserved, total, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("friction", [5.0, 500.0])
def test_on_harmonic_springs_heat_is_counted_exactly(einstein, friction):
    """With springs the work of the forces is known in closed form; only the term dt^2/8 f^2/m of velocity Verlet remains."""
    atoms = bulk("Cu", cubic=True)
    atoms.calc = einstein(atoms.positions)
    conserved, total = langevin_energies(atoms, 2.0, friction, 200)
    squares = (2.0 * units.fs) ** 2 / 8.0 * np.sum(atoms.get_forces() ** 2 / atoms.get_masses()[:, None])
    begin = bulk("Cu", cubic=True)  # at rest on its springs
    set_maxwell_velocities(begin, 300.0, seed=0, conserves_momentum=False)
    assert conserved[-1] - begin.get_kinetic_energy() == pytest.approx(squares, abs=1e-11)
    assert abs(total[-1] - total[0]) > 0.01


@pytest.mark.parametrize("friction", [5.0, 50.0])
def test_the_conserved_energy_of_langevin_is_constant(bonded, friction):
    """If noise, friction or the work of a force were left out, exchanged energy would remain in the conserved quantity."""
    spreads = []
    for timestep in (1.0, 0.25):
        atoms = molecule("CH3CH2OH")
        atoms.calc = bonded(atoms)
        conserved, total = langevin_energies(atoms, timestep, friction, int(1000 / timestep))
        assert np.ptp(total) > 20 * np.ptp(conserved)
        spreads.append(np.std(conserved))
    assert spreads[0] > 6 * spreads[1]  # second order gives 16, and the noise of the runs differs
    drift = energy_drift(0.00025 * np.arange(4000), conserved, 9)
    assert abs(drift.slope) < 0.2  # meV/atom/ps


def test_counting_heat_changes_no_bit_of_langevin(copper):
    options = EnsembleOptions(ensemble="langevin", temperature_K=600.0, timestep_fs=2.0)
    ours, plain = copper(1), copper(1)
    ours.set_constraint(FixAtoms([0]))
    plain.set_constraint(FixAtoms([0]))
    dynamics = prepare(ours, options)
    prepare(plain, options)
    friction = options.friction_per_ps / (1000.0 * units.fs)
    reference = Langevin(
        plain, 2.0 * units.fs, temperature_K=600.0, friction=friction, fixcm=False, rng=np.random.default_rng(0)
    )
    totals, conserved = [], []
    for _ in range(60):
        dynamics.step()
        reference.step()
        np.testing.assert_array_equal(ours.positions, plain.positions)
        np.testing.assert_array_equal(ours.get_momenta(), plain.get_momenta())
        totals.append(ours.get_potential_energy() + ours.get_kinetic_energy())
        conserved.append(conserved_energy(dynamics, "langevin", totals[-1]))
    assert np.ptp(totals) > 20 * np.ptp(conserved)  # also with fixed atoms


@pytest.mark.parametrize("ensemble", ["npt-iso", "npt"])
def test_npt_conserves_its_energy_and_reaches_the_pressure(ensemble):
    target = 2.0
    atoms = bulk("Cu", cubic=True, a=3.6).repeat(2)
    atoms.calc = EMT()
    options = EnsembleOptions(
        ensemble=ensemble, temperature_K=300.0, timestep_fs=2.5, taut_fs=100.0, taup_fs=200.0, pressure_GPa=target
    )
    dynamics = prepare(atoms, options)
    pressures, energies = [], []
    for _ in range(600):
        dynamics.step()
        pressures.append(-np.mean(atoms.get_stress(include_ideal_gas=True)[:3]) / units.GPa)
        total = atoms.get_potential_energy() + atoms.get_kinetic_energy()
        energies.append(conserved_energy(dynamics, ensemble, total))
    assert abs(pressures[0] - target) > 1.0  # the crystal starts at another pressure
    # In 1 ps the volume oscillates a few times only, too few for a statistical error; 0.3 GPa is a third of that change.
    assert np.mean(pressures[160:]) == pytest.approx(target, abs=0.3)
    assert np.ptp(energies) / len(atoms) < 1e-3
    off_diagonal = np.abs(atoms.cell[:] - np.diag(np.diag(atoms.cell[:]))).max()
    if ensemble == "npt-iso":
        assert off_diagonal == 0.0
        assert np.ptp(atoms.cell.lengths()) < 1e-12
    else:
        assert off_diagonal > 1e-4


def test_nve_is_reversible_in_time(copper):
    atoms = copper()
    start = atoms.positions.copy()
    dynamics = prepare(atoms, EnsembleOptions(temperature_K=600.0, timestep_fs=2.0))
    for _ in range(150):
        dynamics.step()
    assert np.abs(atoms.positions - start).max() > 0.1
    atoms.set_momenta(-atoms.get_momenta())
    for _ in range(150):
        dynamics.step()
    np.testing.assert_allclose(atoms.positions, start, atol=1e-9)


def test_nve_error_falls_with_the_square_of_the_timestep(einstein):
    spreads = []
    for timestep in (2.0, 1.0):
        atoms = bulk("Cu", cubic=True)
        atoms.calc = einstein(atoms.positions)
        dynamics = prepare(atoms, EnsembleOptions(timestep_fs=timestep, temperature_K=300.0))
        energies = []
        for _ in range(int(400 / timestep)):
            dynamics.step()
            energies.append(atoms.get_total_energy())
        spreads.append(np.ptp(energies))
    assert spreads[0] / spreads[1] == pytest.approx(4.0, rel=0.1)


def test_options_out_of_range_are_refused_by_name():
    with pytest.raises(OptionError, match=r"nvt.*nose-hoover"):
        EnsembleOptions(ensemble="nvt")
    for name in ("timestep_fs", "friction_per_ps", "taut_fs", "taup_fs"):
        for bad in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(OptionError, match=name):
                EnsembleOptions(**{name: bad})
    with pytest.raises(OptionError, match="temperature_K"):
        EnsembleOptions(ensemble="langevin", temperature_K=0.0)
    with pytest.raises(OptionError, match="seed"):
        EnsembleOptions(seed=-1)
    with pytest.raises(OptionError, match="pressure_GPa"):
        EnsembleOptions(pressure_GPa=float("nan"))


@pytest.mark.parametrize("ensemble", ["npt-iso", "npt"])
def test_npt_needs_a_periodic_cell(ensemble):
    atoms = molecule("H2O", vacuum=5.0)
    with pytest.raises(OptionError, match="pbc"):
        build_integrator(atoms, EnsembleOptions(ensemble=ensemble), np.random.default_rng(0))


def test_structures_that_cannot_move_are_refused(einstein):
    rng = np.random.default_rng(0)
    empty = molecule("H2O")[:0]
    massless = molecule("H2O")
    massless.set_masses([16.0, 1.0, 0.0])
    for atoms, what in ((empty, "0 atoms"), (massless, "without mass")):
        for ensemble in ENSEMBLES:
            with pytest.raises(OptionError, match=what):
                build_integrator(atoms, EnsembleOptions(ensemble=ensemble), rng)
    fixed = bulk("Cu", cubic=True)
    fixed.set_constraint(FixAtoms([0]))
    with pytest.raises(OptionError, match="FixAtoms"):
        build_integrator(fixed, EnsembleOptions(ensemble="nose-hoover"), rng)
    still = bulk("Cu", cubic=True)
    still.calc = einstein(still.positions)
    with pytest.raises(OptionError, match="velocities"):
        build_integrator(still, EnsembleOptions(ensemble="bussi"), rng)
