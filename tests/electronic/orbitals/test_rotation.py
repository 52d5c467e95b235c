"""Matrices of orbitals turn with the molecule; PySCF's integrals are the witness."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mlff_calc.electronic.orbitals.orders import to_our_order
from mlff_calc.electronic.orbitals.rotation import OUR_AXES, block_rotation, orbital_rotation, rotate, shell_rotations
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.errors import OrbitalError

WATER = np.array([[0.1, 0.2, 0.3], [0.9, 0.4, -0.1], [-0.3, 1.0, 0.5]])


@pytest.mark.electronic
@pytest.mark.parametrize("name", ["def2-svp", "def2-tzvp"])
def test_overlap_and_core_hamiltonian_turn_with_water(
    name: str, transformation: np.ndarray, svp: OrbitalBasis, tzvp: OrbitalBasis
) -> None:
    gto = pytest.importorskip("pyscf.gto")
    basis = svp if name == "def2-svp" else tzvp
    numbers = [8, 1, 1]

    def integrals(positions: np.ndarray) -> torch.Tensor:
        atoms = list(zip(["O", "H", "H"], positions.tolist(), strict=True))
        molecule = gto.M(atom=atoms, basis=name, verbose=0)
        core = molecule.intor("int1e_kin") + molecule.intor("int1e_nuc")
        return to_our_order(torch.from_numpy(np.stack([molecule.intor("int1e_ovlp"), core])), basis, numbers)

    before, after = integrals(WATER), integrals(WATER @ transformation.T)
    turned = rotate(before, transformation, basis, numbers)
    assert float((turned - after).abs().max()) < 1e-12
    assert float((before - after).abs().max()) > 0.01 or np.allclose(transformation, -np.eye(3))


def test_rotations_are_a_representation(transformation: np.ndarray) -> None:
    other = Rotation.random(random_state=np.random.default_rng(8)).as_matrix()
    first, second = shell_rotations(transformation, 3), shell_rotations(other, 3)
    product = shell_rotations(transformation @ other, 3)
    for degree in range(4):
        one = torch.eye(2 * degree + 1, dtype=torch.float64)
        assert float((first[degree] @ first[degree].T - one).abs().max()) < 1e-13
        assert float((first[degree] @ second[degree] - product[degree]).abs().max()) < 1e-13
        parity = shell_rotations(-np.eye(3), 3)[degree]
        assert float((parity - (-1) ** degree * one).abs().max()) < 1e-13


def test_p_orbitals_turn_like_vectors(transformation: np.ndarray) -> None:
    assert np.array_equal(shell_rotations(transformation, 1)[1].numpy(), transformation[np.ix_([1, 2, 0], [1, 2, 0])])


def test_rotations_are_those_of_e3nn_in_our_axes() -> None:
    o3 = pytest.importorskip("e3nn.o3")
    turn = torch.from_numpy(Rotation.random(random_state=np.random.default_rng(8)).as_matrix())
    axes = list(OUR_AXES)
    angles = o3.matrix_to_angles(turn[axes][:, axes])
    for degree, found in enumerate(shell_rotations(turn, 6)):
        assert float((found - o3.wigner_D(degree, *angles)).abs().max()) < 2e-6  # e3nn's angles have this error


def test_batches_of_rotations_equal_single_ones(svp: OrbitalBasis) -> None:
    turns = Rotation.random(4, random_state=np.random.default_rng(3)).as_matrix()
    batch = block_rotation(torch.from_numpy(turns), svp)
    for turn, whole in zip(turns, batch, strict=True):
        assert torch.allclose(whole, orbital_rotation(turn, svp, [8]), atol=1e-14, rtol=0.0)


@pytest.mark.parametrize("rotation", [2.0 * np.eye(3), np.full((3, 3), np.nan)])
def test_what_is_not_orthogonal_is_refused(svp: OrbitalBasis, rotation: np.ndarray) -> None:
    with pytest.raises(OrbitalError, match="differs from one"):
        orbital_rotation(rotation, svp, [8])
    with pytest.raises(OrbitalError, match="shape"):
        shell_rotations(rotation[:2], 1)
