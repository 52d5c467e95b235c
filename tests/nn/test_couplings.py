"""Couplings of fields are symmetric and bounded on every structure, and vanish smoothly at the cutoff."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from mlff_calc.graph import graph_from_atoms
from mlff_calc.nn.couplings import Couplings

CUTOFF = 4.0


def dense(atoms: Atoms, l_max: int, bound: float, seed: int = 0) -> torch.Tensor:
    """The whole matrix A of a structure, with couplings that are as large as they can be."""
    torch.manual_seed(seed)
    couplings = Couplings(l_max, 2, 5, CUTOFF, bound, 4, 8).double()
    couplings.coefficients.weight.data *= 100.0
    graph = graph_from_atoms(atoms, CUTOFF)
    scalars = torch.randn(len(atoms), 5, dtype=torch.float64)
    edges = couplings.prepare(scalars, graph["edge_index"], graph["edge_vec"], None)
    shape = (len(atoms), (l_max + 1) ** 2, 2)
    unit = torch.eye(shape[0] * shape[1] * shape[2], dtype=torch.float64)
    return torch.stack([couplings(row.view(shape), edges).flatten() for row in unit], dim=1).detach()


def crystal() -> Atoms:
    """A cell smaller than the cutoff, whose atoms are their own neighbours."""
    atoms = bulk("Si", "sc", a=2.4) * (2, 1, 1)
    atoms.rattle(0.1, seed=1)
    return atoms


@pytest.mark.parametrize("l_max", [0, 1, 2, 3])
@pytest.mark.parametrize("atoms", [molecule("CH3CH2OH"), crystal()], ids=["molecule", "crystal"])
def test_symmetric_and_below_the_bound(atoms: Atoms, l_max: int) -> None:
    matrix = dense(atoms, l_max, 3.0)
    torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-13)
    norm = float(torch.linalg.matrix_norm(matrix, 2))
    assert 0.3 < norm < 3.0


def test_couplings_come_near_the_bound_among_many_neighbours() -> None:
    """One scalar whose couplings are all positive: the bound cannot be lowered for everybody."""
    couplings = Couplings(0, 1, 1, CUTOFF, 2.0, 4, 8).double()
    couplings.coefficients.weight.data.zero_()
    couplings.coefficients.bias.data.fill_(100.0)
    graph = graph_from_atoms(bulk("Cu", "fcc", a=2.2) * (2, 2, 2), CUTOFF)
    edges = couplings.prepare(torch.zeros(8, 1).double(), graph["edge_index"], graph["edge_vec"], None)
    pulled = couplings(torch.ones(8, 1, 1, dtype=torch.float64), edges).detach()
    assert 1.8 < float(pulled.max()) < 2.0


def test_a_neighbour_fades_out() -> None:
    """Beyond the cutoff there is no coupling, and just within it is as small as the envelope."""
    pulled = []
    for distance in (CUTOFF - 1e-3, CUTOFF - 1e-4, CUTOFF + 1e-4):
        atoms = Atoms("CO", positions=[[0, 0, 0], [distance, 0, 0]])
        pulled.append(float(dense(atoms, 1, 2.0).abs().max()))
    assert pulled[2] == 0.0
    assert 0.0 < pulled[1] < 2e-3 * pulled[0]
