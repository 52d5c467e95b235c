"""Initial velocities and degrees of freedom."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian, FixCom, FixedLine, FixedPlane, FixInternals, Hookean
from ase.io import read
from ase.md.verlet import VelocityVerlet

from mlff_calc.dynamics import EnsembleOptions, MDRun, RunOptions, degrees_of_freedom, read_log, set_maxwell_velocities
from mlff_calc.dynamics.velocities import remove_net_motion
from mlff_calc.errors import OptionError


@pytest.mark.parametrize(
    ("atoms", "conserving", "kicked"),
    [
        (molecule("CH3CH2OH"), 21, 27),
        (molecule("CO2"), 3, 9),
        (molecule("H2"), 1, 6),
        (bulk("Si", cubic=True), 21, 24),
        (Atoms("Ar"), 3, 3),
        (bulk("Cu"), 3, 3),
    ],
    ids=["ethanol", "CO2", "H2", "Si8", "Ar", "Cu1"],
)
def test_degrees_of_freedom(atoms, conserving, kicked):
    assert degrees_of_freedom(atoms, conserves_momentum=True) == conserving
    assert degrees_of_freedom(atoms, conserves_momentum=False) == kicked


@pytest.mark.parametrize("ensemble", ["nve", "nose-hoover", "bussi"])
def test_a_molecule_that_starts_linear_has_the_degrees_of_freedom_of_a_bent_one(bonded, tmp_path, ensemble):
    """CO2 bends in the plane of its first velocities: 6 velocities minus 2 for drift and 1 for rotation are 3."""
    atoms = molecule("CO2")
    atoms.calc = bonded(atoms)
    run = MDRun.start(atoms, tmp_path / "run", EnsembleOptions(ensemble=ensemble), RunOptions(steps=400))
    run.run()
    frames = read(tmp_path / "run/trajectory.traj", ":")
    bent = np.array([180.0 - frame.get_angle(1, 0, 2) for frame in frames])
    assert bent[0] < 1e-6
    assert bent.max() > 5.0
    velocities = np.concatenate([frame.get_velocities() for frame in frames])
    in_plane = np.linalg.svd(velocities, compute_uv=False)
    assert in_plane[2] < 1e-9 * in_plane[1]
    for frame in frames:
        assert degrees_of_freedom(frame, conserves_momentum=True) == run.state.n_free == 6 - 2 - 1


def test_fixed_atoms_do_not_count():
    atoms = bulk("Si", cubic=True)
    atoms.set_constraint(FixAtoms([0, 1]))
    assert degrees_of_freedom(atoms, conserves_momentum=True) == 18


@pytest.mark.parametrize("name", ["CH3CH2OH", "CO2", "H2"])
def test_molecules_start_at_rest_as_a_whole_at_the_exact_temperature(name):
    atoms = molecule(name)
    atoms.rotate(30, (1, 2, 3))
    atoms.positions += 5.0
    set_maxwell_velocities(atoms, 300.0, seed=3)
    np.testing.assert_allclose(atoms.get_momenta().sum(axis=0), 0.0, atol=1e-13)
    np.testing.assert_allclose(atoms.get_angular_momentum(), 0.0, atol=1e-12)
    n_free = degrees_of_freedom(atoms, conserves_momentum=True)
    assert 2.0 * atoms.get_kinetic_energy() / (n_free * units.kB) == pytest.approx(300.0, rel=1e-12)


def test_velocities_follow_the_seed_and_the_maxwell_distribution():
    atoms, again, other = (bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(6) for _ in range(3))
    set_maxwell_velocities(atoms, 500.0, seed=1)
    set_maxwell_velocities(again, 500.0, seed=1)
    set_maxwell_velocities(other, 500.0, seed=2)
    np.testing.assert_array_equal(atoms.get_momenta(), again.get_momenta())
    assert not np.array_equal(atoms.get_momenta(), other.get_momenta())
    for symbol in ("Na", "Cl"):
        chosen = atoms.symbols == symbol
        scaled = atoms.get_momenta()[chosen] / np.sqrt(atoms.get_masses()[chosen] * units.kB * 500.0)[:, None]
        n = scaled.size  # for standard errors of variance and fourth moment of n normal numbers
        assert np.var(scaled) == pytest.approx(1.0, abs=4 * np.sqrt(2 / n))
        assert np.mean(scaled**4) == pytest.approx(3.0, abs=4 * np.sqrt(96 / n))


def test_zero_and_negative_temperature():
    atoms = molecule("H2O")
    set_maxwell_velocities(atoms, 0.0, seed=0)
    assert not atoms.get_momenta().any()
    with pytest.raises(OptionError, match=r"-1.0 K"):
        set_maxwell_velocities(atoms, -1.0, seed=0)


def with_net_motion(atoms):
    """Return thermal velocities with an additional drift and rotation."""
    set_maxwell_velocities(atoms, 300.0, seed=2)
    thermal = atoms.get_momenta()
    arms = atoms.positions - atoms.get_center_of_mass()
    net = np.array([0.02, -0.01, 0.03]) + (0.0 if atoms.pbc.any() else np.cross([0.01, 0.02, -0.01], arms))
    atoms.set_momenta(thermal + net * atoms.get_masses()[:, None])
    return thermal


@pytest.mark.parametrize("atoms", [molecule("CH3CH2OH"), molecule("CO2"), bulk("Si", cubic=True)])
def test_net_motion_is_taken_out_and_nothing_else(atoms):
    thermal = with_net_motion(atoms)
    before = atoms.get_kinetic_energy()
    taken = remove_net_motion(atoms)
    np.testing.assert_allclose(atoms.get_momenta(), thermal, atol=1e-12)
    assert taken == pytest.approx(before - atoms.get_kinetic_energy(), rel=1e-10)
    at_rest = atoms.get_momenta()
    assert remove_net_motion(atoms) == 0.0
    np.testing.assert_array_equal(atoms.get_momenta(), at_rest)


@pytest.mark.parametrize(
    ("ensemble", "kept"), [("nve", False), ("bussi", False), ("nose-hoover", False), ("langevin", True)]
)
def test_kept_velocities_lose_motions_that_the_temperature_does_not_count(bonded, tmp_path, caplog, ensemble, kept):
    atoms = molecule("CH3CH2OH")
    with_net_motion(atoms)
    atoms.calc = bonded(atoms)
    given = atoms.get_momenta()
    how, length = EnsembleOptions(ensemble=ensemble), RunOptions(steps=0, velocities="keep")
    run = MDRun.start(atoms, tmp_path / "run", how, length)
    np.testing.assert_array_equal(atoms.get_momenta(), given)
    assert ("drift and rotation" in caplog.text) == (not kept)
    run.run()
    if kept:
        np.testing.assert_array_equal(run.atoms.get_momenta(), given)
    else:
        np.testing.assert_allclose(run.atoms.get_momenta().sum(axis=0), 0.0, atol=1e-12)
        assert read_log(tmp_path / "run/log.csv")["temperature_K"][0] == pytest.approx(300.0, rel=1e-9)


def _bond(atoms):
    return FixBondLengths([[0, 1], [0, 2]], tolerance=1e-12)


def _internal(atoms):
    return FixInternals(bonds=[[atoms.get_distance(0, 1), [0, 1]]], epsilon=1e-10)


# constraint; directions of conserved momentum; whether angular momentum is conserved; degrees of freedom left of 27
CONSTRAINTS = {
    "bonds": (_bond, [True, True, True], True, 27 - 2 - 6),
    "internals": (_internal, [True, True, True], True, 27 - 1 - 6),
    "a spring between atoms": (lambda atoms: Hookean(0, 3, 5.0, 1.0), [True, True, True], True, 27 - 6),
    "a centre of mass": (lambda atoms: FixCom(), [True, True, True], True, 27 - 3 - 3),
    "an atom": (lambda atoms: FixAtoms([0]), [False, False, False], False, 27 - 3),
    "a line": (lambda atoms: FixedLine(0, [1, 0, 0]), [True, False, False], False, 27 - 2 - 1),
    "a plane": (lambda atoms: FixedPlane(0, [0, 0, 1]), [True, True, False], False, 27 - 1 - 2),
    "a coordinate": (lambda atoms: FixCartesian(1, (True, False, False)), [False, True, True], False, 27 - 1 - 2),
    "a spring to a place": (lambda atoms: Hookean(0, (0, 0, 0), 5.0, 0.1), [False, False, False], False, 27),
    "bonds and an atom": (lambda atoms: [_bond(atoms), FixAtoms([5])], [False, False, False], False, 27 - 2 - 3),
}


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_momentum_with_constraints_is_conserved_as_counted(bonded, name):
    make, conserved, turns_not, n_free = CONSTRAINTS[name]
    atoms = molecule("CH3CH2OH")
    atoms.calc = bonded(atoms)
    atoms.rattle(0.03, seed=2)
    atoms.set_constraint(make(atoms))
    set_maxwell_velocities(atoms, 300.0, seed=1)
    assert degrees_of_freedom(atoms, conserves_momentum=True) == n_free
    assert 2.0 * atoms.get_kinetic_energy() / (n_free * units.kB) == pytest.approx(300.0, rel=1e-12)
    VelocityVerlet(atoms, 0.25 * units.fs).run(100)
    left = np.abs(atoms.get_momenta().sum(axis=0))
    assert (left < 1e-10).tolist() == conserved
    assert (np.abs(atoms.get_angular_momentum()).max() < 1e-10) == turns_not
    kinetic = []
    for _ in range(3):  # kept velocities lose the same motions as drawn ones
        drift = [0.3, -0.2, 0.1] * atoms.get_masses()[:, None]
        atoms.set_momenta(atoms.get_momenta() + drift, apply_constraint=False)  # like velocities from a file
        remove_net_motion(atoms)
        kinetic.append(atoms.get_kinetic_energy())
    if all(conserved):
        np.testing.assert_allclose(atoms.get_momenta().sum(axis=0), 0.0, atol=1e-10)
        np.testing.assert_allclose(kinetic, kinetic[0], rtol=1e-10)


def test_a_rigid_molecule_keeps_its_rotation():
    atoms = molecule("H2O")
    atoms.set_constraint(FixBondLengths([[0, 1], [0, 2], [1, 2]], tolerance=1e-12))
    set_maxwell_velocities(atoms, 300.0, seed=1)
    assert degrees_of_freedom(atoms, conserves_momentum=True) == 3
    np.testing.assert_allclose(atoms.get_momenta().sum(axis=0), 0.0, atol=1e-12)
    assert np.abs(atoms.get_angular_momentum()).max() > 0.1


def test_bonds_in_a_crystal_drift_and_do_not_turn():
    atoms = bulk("Si", cubic=True)
    atoms.set_constraint(FixBondLengths([[0, 1]]))
    set_maxwell_velocities(atoms, 300.0, seed=1)
    assert degrees_of_freedom(atoms, conserves_momentum=True) == 24 - 1 - 3
    np.testing.assert_allclose(atoms.get_momenta().sum(axis=0), 0.0, atol=1e-12)
