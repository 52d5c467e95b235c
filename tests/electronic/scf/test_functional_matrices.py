"""Self-consistent fields in torch: equal to PySCF's, with derivatives of differences and of frozen densities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

pytest.importorskip("pyscf")

from mlff_calc.electronic.functional.unrolled import solve_field, unrolled_energies
from mlff_calc.electronic.scf import functional_matrices as matrices
from mlff_calc.electronic.scf.frozen import freeze
from mlff_calc.electronic.scf.functional_matrices import functional_matrices
from mlff_calc.errors import OptionError

from ..functional.densities import functional

pytestmark = pytest.mark.electronic
WATER = Atoms("OH2", [[0.0, 0.02, 0.12], [0.0, 0.76, -0.48], [0.03, -0.79, -0.46]])


def flat(energy: torch.Tensor, network: Any) -> torch.Tensor:
    """Derivatives by all weights, one behind the other."""
    weights = [one for one in network.parameters() if one.requires_grad]
    slopes = torch.autograd.grad(energy, weights, allow_unused=True)
    return torch.cat([
        (torch.zeros_like(one) if slope is None else slope).flatten() for one, slope in zip(weights, slopes, strict=True)
    ])  # fmt: skip


@pytest.mark.parametrize(("base", "name"), [("lda", "H2O"), ("pbe", "CH4"), ("r2scan", "H2O")])
def test_the_field_is_that_of_pyscf_and_derivatives_those_of_frozen_densities(base: str, name: str) -> None:
    """With methane, whose orbitals are degenerate."""
    network, atoms = functional(base=base), molecule(name)
    frozen, mf = freeze(network, atoms, conv_tol=1e-12)
    held = functional_matrices(network, atoms)
    solved = solve_field(network, held, torch.from_numpy(np.array(mf.get_init_guess())), conv_tol=1e-12)
    assert solved.converged
    assert solved.energy == pytest.approx(frozen.energy, abs=1e-10)
    np.testing.assert_allclose(solved.density.numpy(), frozen.matrix, atol=1e-6)
    assert solved.cycles <= frozen.cycles + 1
    found = flat(unrolled_energies(network, held, torch.from_numpy(np.array(mf.get_init_guess())), 12)[-1], network)
    explicit = flat(network(frozen.grid(), held.centres).sum(), network)
    assert torch.isfinite(found).all()
    assert float((found - explicit).norm() / explicit.norm()) < 1e-6


def test_derivatives_are_differences_where_the_field_is_not_self_consistent() -> None:
    network = functional(base="r2scan")
    held = functional_matrices(network, WATER)
    start = torch.eye(len(held.core), dtype=torch.float64) * (10.0 / len(held.core))
    found = flat(unrolled_energies(network, held, start, 3, diis=False)[-1], network)
    weights = [one for one in network.parameters() if one.requires_grad]
    generator = torch.Generator().manual_seed(1)
    directions = [torch.randn(one.shape, generator=generator, dtype=torch.float64) for one in weights]
    before = [one.detach().clone() for one in weights]

    def energy(step: float) -> float:
        with torch.no_grad():
            for one, origin, direction in zip(weights, before, directions, strict=True):
                one.copy_(origin + step * direction)
            return float(unrolled_energies(network, held, start, 3, diis=False)[-1])

    step = 2e-4
    slope = (8 * (energy(step) - energy(-step)) - (energy(2 * step) - energy(-2 * step))) / (12 * step)
    expected = float((found * torch.cat([one.flatten() for one in directions])).sum())
    assert slope == pytest.approx(expected, rel=1e-6)
    energy(0.0)
    grid_part = flat(unrolled_energies(network, held, start, 3, diis=False)[0], network)
    assert float((found - grid_part).norm()) > 1e-3 * float(found.norm())  # the density has answered


def test_large_molecules_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrices, "MOST_ORBITALS", 6)
    with pytest.raises(OptionError, match=r"has 7 orbitals, .* 6 or fewer; .*densities.loss: frozen"):
        functional_matrices(functional(), WATER)
