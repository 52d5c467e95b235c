"""Bases and molecules for tests of orbitals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mlff_calc.electronic.orbitals.shells import OrbitalBasis

SVP = {1: (0, 0, 1), 6: (0, 0, 0, 1, 1, 2), 8: (0, 0, 0, 1, 1, 2)}
TZVP = {1: (0, 0, 0, 1), 8: (0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3)}


@pytest.fixture
def svp() -> OrbitalBasis:
    return OrbitalBasis.of_shells("def2-svp", SVP)


@pytest.fixture
def tzvp() -> OrbitalBasis:
    return OrbitalBasis.of_shells("def2-tzvp", TZVP)


@pytest.fixture(params=["rotation", "reflection", "inversion"])
def transformation(request: pytest.FixtureRequest) -> np.ndarray:
    if request.param == "inversion":
        return -np.eye(3)
    turn = Rotation.random(random_state=np.random.default_rng(5)).as_matrix()
    return turn if request.param == "rotation" else turn @ np.diag([1.0, -1.0, 1.0])


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)
