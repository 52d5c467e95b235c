"""Orbitals, densities and charges against PySCF, in numpy and torch, one and many."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("pyscf")

from ase import units

from mlff_calc.electronic.scf.mean_field import mean_field
from mlff_calc.electronic.scf.metrics import matrix_errors
from mlff_calc.electronic.scf.observables import DEBYE, dipole, matrix_properties, one_shot_energy, write_cubes
from mlff_calc.electronic.scf.orders import atom_of_orbital, permutation, to_ours, to_theirs
from mlff_calc.electronic.scf.properties import (
    FAR,
    density,
    energy_excess,
    frontier,
    loewdin_charges,
    mulliken_charges,
    occupied,
    orbitals,
    power,
    residual,
)
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import OptionError

from .fakes import frames


@pytest.fixture(scope="module")
def solved():
    mf = mean_field(frames(1)[0], SCFSettings("pbe", "def2-svp", grid_level=0, conv_tol=1e-12))
    mf.kernel()
    return mf


def test_orbitals_and_density_are_those_of_the_scf(solved):
    found = orbitals(solved.get_fock(), solved.get_ovlp())
    np.testing.assert_allclose(found.energies, solved.mo_energy, atol=1e-5)
    matrix = density(found.coefficients, 10)
    np.testing.assert_allclose(matrix, solved.make_rdm1(), atol=1e-5)
    assert residual(solved.get_fock(), solved.make_rdm1(), solved.get_ovlp()) < 1e-4
    edge = frontier(found.energies, 10)
    assert edge.gap == pytest.approx(solved.mo_energy[5] - solved.mo_energy[4], abs=1e-5)
    unitary = found.coefficients.T @ solved.get_ovlp() @ found.coefficients
    np.testing.assert_allclose(unitary, np.eye(24), atol=1e-10)


def test_batches_and_tensors_give_the_same(solved):
    fock, overlap = solved.get_fock(), solved.get_ovlp()
    many = np.stack([fock, fock + 0.01 * np.eye(24)]), np.stack([overlap] * 2)
    one, both = orbitals(fock, overlap), orbitals(*many)
    tensors = orbitals(*(torch.as_tensor(matrix) for matrix in many))
    np.testing.assert_allclose(both.energies[0], one.energies, atol=1e-12)
    np.testing.assert_allclose(tensors.energies.numpy(), both.energies, atol=1e-12)
    owner, nuclei = atom_of_orbital(solved.mol), solved.mol.atom_charges()
    matrices = density(both.coefficients, 10)
    for charges in (mulliken_charges, loewdin_charges):
        numpy_ones = charges(matrices, many[1], nuclei, owner)
        torch_ones = charges(density(tensors.coefficients, 10), torch.as_tensor(many[1]), nuclei, owner)
        assert numpy_ones.shape == (2, 3)
        np.testing.assert_allclose(torch_ones.numpy(), numpy_ones, atol=1e-10)
        np.testing.assert_allclose(numpy_ones.sum(-1), 0.0, atol=1e-10)
    excess = energy_excess(torch.as_tensor(many[0]), torch.as_tensor(matrices), torch.as_tensor(many[1]), 10)
    np.testing.assert_allclose(excess.numpy(), energy_excess(many[0], matrices, many[1], 10), atol=1e-12)


def test_charges_and_dipole_are_pyscfs(solved):
    found = matrix_properties(solved.mol, solved.get_fock())
    mulliken = solved.mulliken_pop(verbose=0)[1]
    np.testing.assert_allclose(found.mulliken_charges, mulliken, atol=1e-5)
    assert found.mulliken_charges[0] < found.loewdin_charges[0] < 0.0
    np.testing.assert_allclose(found.dipole / DEBYE, solved.dip_moment(verbose=0), atol=1e-4)
    assert pytest.approx(units.Debye, rel=1e-6) == DEBYE
    np.testing.assert_allclose(dipole(solved.mol, solved.make_rdm1()), found.dipole, atol=1e-5)


def test_energy_of_a_density_is_one_shot_and_the_excess_estimates_its_error(solved):
    fock, overlap = solved.get_fock(), solved.get_ovlp()
    noise = np.random.default_rng(1).normal(size=fock.shape) * 1e-3
    matrix = density(orbitals(fock + noise + noise.T, overlap).coefficients, 10)
    above = one_shot_energy(solved, matrix) - solved.e_tot
    assert above > 0.0
    estimate = energy_excess(solved.get_fock(dm=matrix), matrix, overlap, 10)
    assert estimate == pytest.approx(above, rel=0.2)


def test_directions_of_a_nearly_dependent_basis_are_left_out(solved):
    fock, overlap = solved.get_fock(), solved.get_ovlp()
    values, vectors = np.linalg.eigh(overlap)
    values[0] = 1e-12
    singular = (vectors * values) @ vectors.T
    noise = 1e-4 * np.ones_like(fock)
    found = orbitals(fock + noise, singular)
    assert found.energies[-1] == pytest.approx(FAR)
    assert abs(found.energies[:-1]).max() < 100.0
    assert np.isfinite(power(singular, -0.5)).all()


def test_order_of_orbitals_is_ours_and_comes_back(solved):
    labels = np.array([label.split()[-1] for label in solved.mol.ao_labels()])[permutation(solved.mol)]
    assert labels[3:6].tolist() == ["2py", "2pz", "2px"]
    matrix = np.random.default_rng(0).normal(size=(24, 24))
    np.testing.assert_array_equal(to_theirs(solved.mol, to_ours(solved.mol, matrix)), matrix)


def test_bad_input_is_refused(solved):
    fock, overlap = solved.get_fock(), solved.get_ovlp()
    with pytest.raises(OptionError, match="not belong"):
        orbitals(fock[:-1, :-1], overlap)
    with pytest.raises(OptionError, match="not finite"):
        orbitals(fock * np.nan, overlap)
    with pytest.raises(OptionError, match="closed shell"):
        occupied(9, 24)
    with pytest.raises(OptionError, match="do not fit"):
        occupied(50, 24)
    assert np.isnan(frontier(np.array([-1.0]), 2).lumo)


def test_cubes_hold_the_electrons(solved, tmp_path):
    files = write_cubes(
        solved.mol, solved.make_rdm1(), tmp_path, coefficients=solved.mo_coeff, wanted=("density", "homo", 0), resolution=0.6
    )
    assert set(files) == {"density", "homo", "orbital_0"}
    assert all(path.stat().st_size > 1000 for path in files.values())
    from ase.io.cube import read_cube_data

    values, atoms = read_cube_data(str(files["homo"]))
    volume = abs(np.linalg.det(atoms.cell.array / units.Bohr)) / values.size
    assert (values**2).sum() * volume == pytest.approx(1.0, abs=0.1)
    for wanted, match in ((("hommo",), "no orbital"), ((24,), "no orbital")):
        with pytest.raises(OptionError, match=match):
            write_cubes(solved.mol, solved.make_rdm1(), tmp_path, coefficients=solved.mo_coeff, wanted=wanted)
    with pytest.raises(OptionError, match="needs the coefficients"):
        write_cubes(solved.mol, solved.make_rdm1(), tmp_path, wanted=("lumo",))


def test_metrics_by_hand(solved):
    fock, overlap, owner = solved.get_fock(), solved.get_ovlp(), atom_of_orbital(solved.mol)
    wrong = fock.copy()
    wrong[0, 0] += 0.1  # oxygen with itself
    wrong[0, 14] += 0.02  # oxygen with hydrogen
    wrong[14, 0] += 0.02
    found = matrix_errors([wrong, fock], [fock, fock], [overlap] * 2, ["OHH"] * 2, [owner] * 2, [10, 10])
    assert found.n_molecules == 2
    assert found.h_max == pytest.approx(0.1)
    assert found.h_mae == pytest.approx(0.5 * 0.14 / 24**2)
    near = 14**2 + 2 * 5**2
    assert found.h_diagonal == pytest.approx(0.5 * 0.1 / near)
    assert found.h_off_diagonal == pytest.approx(0.5 * 0.04 / (24**2 - near))
    assert found.pairs["O-O"] == pytest.approx(0.1 / (2 * 14**2))
    assert found.pairs["H..O"] == pytest.approx(0.04 / (2 * 2 * 2 * 14 * 5))
    assert found.pairs["H..H"] == found.pairs["H-H"] == 0.0
    true, other = (orbitals(matrix, overlap).energies for matrix in (fock, wrong))
    assert found.occupied_energies == pytest.approx(0.5 * abs(true[:5] - other[:5]).mean())
    assert found.gap == pytest.approx(0.5 * abs(frontier(true, 10).gap - frontier(other, 10).gap))
    assert 0.99 < found.psi < 1.0
    same = matrix_errors([fock], [fock], [overlap], ["OHH"], [owner], [10])
    assert (same.h_mae, same.psi) == (0.0, pytest.approx(1.0))
