"""Labels, and the check of matrices of others against them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

pytest.importorskip("pyscf")

from mlff_calc.datasets.matrix_frames import MatrixFrame
from mlff_calc.datasets.matrix_readers import open_matrices
from mlff_calc.electronic.orbitals.orders import ORDERS, from_our_order
from mlff_calc.electronic.orbitals.rotation import rotate
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.electronic.scf.check import check_fock, check_overlap, level_difference
from mlff_calc.electronic.scf.labels import basis_of, initial_fock, label, overlap_of
from mlff_calc.electronic.scf.mean_field import converged, mean_field
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import OptionError, OrbitalError

pytestmark = pytest.mark.electronic
SETTINGS = SCFSettings("b3lyp", "def2-svp", 0)


def water() -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.fixture(scope="module")
def frame() -> MatrixFrame:
    atoms = water()
    found = label(atoms, SETTINGS, gradient=False)
    return MatrixFrame(atoms.numbers, atoms.positions, found.fock, found.overlap, found.initial, found.energy)


def in_order(frame: MatrixFrame, order: str) -> MatrixFrame:
    basis = OrbitalBasis.from_dict(basis_of("def2-svp", frame.numbers))
    ours = {name: getattr(frame, name) for name in ("fock", "overlap", "initial")}
    theirs = {name: from_our_order(matrix, basis, frame.numbers, order) for name, matrix in ours.items()}
    return replace(frame, order=order, **theirs)


def test_a_label_is_what_pyscf_converges_to(frame: MatrixFrame) -> None:
    mf = mean_field(water(), SETTINGS)
    converged(mf)
    basis = OrbitalBasis.from_dict(basis_of("def2-svp", frame.numbers))
    fock = from_our_order(frame.fock, basis, frame.numbers, "pyscf")
    np.testing.assert_allclose(fock, mf.get_fock(dm=mf.make_rdm1()), atol=1e-10)
    assert np.abs(frame.fock - fock).max() > 0.1  # the orders differ
    assert frame.energy == pytest.approx(mf.e_tot, abs=1e-10)
    np.testing.assert_allclose(initial_fock(water(), SETTINGS), frame.initial, atol=1e-12)
    np.testing.assert_allclose(overlap_of(water(), "def2-svp"), frame.overlap, atol=1e-14)


def test_labels_have_forces_where_they_are_asked_for() -> None:
    found = label(water(), SCFSettings("hf", "sto-3g"))
    assert found.forces is not None
    assert found.forces.shape == (3, 3)
    assert np.abs(found.forces).max() > 1e-3
    assert found.cycles > 3
    assert label(water(), SCFSettings("hf", "sto-3g"), gradient=False).forces is None


def test_bases_are_described_by_their_shells() -> None:
    assert basis_of("def2-svp", [8, 1, 1])["shells"] == {"1": [0, 0, 1], "8": [0, 0, 0, 1, 1, 2]}
    assert basis_of("cc-pvdz", [7])["shells"] == {"7": [0, 0, 0, 1, 1, 2]}  # two of the s shells share their primitives
    with pytest.raises(OptionError, match="no orbitals for U"):
        basis_of("sto-3g", [92])


def test_general_contractions_are_in_our_order_too() -> None:
    """Matrices rotate as our orbitals do only if every orbital stands where it should."""
    atoms, turned = water(), water()
    rotation = Rotation.from_rotvec([0.3, -0.8, 0.5]).as_matrix()
    turned.positions = atoms.positions @ rotation.T
    basis = OrbitalBasis.from_dict(basis_of("cc-pvdz", atoms.numbers))
    assert basis.shells_of(8) == (0, 0, 0, 1, 1, 2)
    before, after = (torch.from_numpy(overlap_of(one, "cc-pvdz")) for one in (atoms, turned))
    np.testing.assert_allclose(rotate(before, rotation, basis, atoms.numbers), after, atol=1e-12)


@pytest.mark.parametrize("true", ORDERS)
@pytest.mark.parametrize("said", ORDERS)
def test_another_order_than_said_is_found_by_the_overlap(frame: MatrixFrame, true: str, said: str) -> None:
    theirs = replace(in_order(frame, true), order=said)
    if true == said:
        assert check_overlap(theirs, SETTINGS) < 1e-12
    else:
        with pytest.raises(OrbitalError, match=f"said to be in the order '{said}'.*in that of '{true}'"):
            check_overlap(theirs, SETTINGS)


def test_without_overlap_the_fock_matrix_tells_the_order(frame: MatrixFrame) -> None:
    theirs = replace(in_order(frame, "pyscf"), overlap=None, initial=None)
    assert check_fock(theirs, SETTINGS) < 0.05
    with pytest.raises(OrbitalError, match="fit that of 'pyscf'"):
        check_fock(replace(theirs, order="orca"), SETTINGS)
    with pytest.raises(OrbitalError, match="no overlap"):
        check_overlap(theirs, SETTINGS)


def test_another_geometry_or_basis_is_no_order(frame: MatrixFrame) -> None:
    with pytest.raises(OrbitalError, match="no known order"):
        check_overlap(replace(frame, positions=frame.positions * 1.1), SETTINGS)
    with pytest.raises(OrbitalError, match="7 orbitals"):
        check_overlap(frame, SCFSettings("b3lyp", "sto-3g"))


def test_real_matrices_of_others_are_read_and_tell_the_two_kinds_of_b3lyp(data_dir: Path) -> None:
    path = data_dir / "hamiltonian" / "ethane_300_b3lyp_sto3g.npz"
    source = open_matrices(path, settings={"xc": "b3lyp", "basis": "sto-3g", "grid_level": 1})
    settings = SCFSettings.from_dict(source.settings)
    assert check_overlap(source[5], settings) < 1e-5
    assert level_difference(source[5], settings) < 2e-5
    assert level_difference(source[5], replace(settings, xc="b3lyp5")) > 1e-4
    with pytest.raises(OrbitalError, match="order 'pyscf'"):
        check_overlap(open_matrices(path, settings=source.settings, order="ours")[5], settings)


def test_processes_that_label_load_no_torch() -> None:
    code = "import sys, mlff_calc.electronic.scf.labels; raise SystemExit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
