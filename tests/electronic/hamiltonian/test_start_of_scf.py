"""A network of random weights as the start of an SCF: no energy changes, and one Fock build is lost."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("pyscf")

from mlff_calc.electronic.hamiltonian import build_hamiltonian
from mlff_calc.electronic.scf.compare import compare_starts
from mlff_calc.electronic.scf.labels import basis_of
from mlff_calc.electronic.scf.settings import SCFSettings

from ..scf.fakes import vibration

SETTINGS = SCFSettings("pbe", "sto-3g", grid_level=0)


def test_random_weights_change_no_energy_and_cost_one_fock_build():
    steps = vibration(2)
    config = {
        "basis": basis_of("sto-3g", steps[0].numbers), "settings": SETTINGS.to_dict(), "target": "initial", "l_max": 2,
        "channels": 4, "hidden": 6, "products": 0, "layers": 1, "scalars": 8, "n_basis": 6,
    }  # fmt: skip
    network = build_hamiltonian(config, seed=0).to_precision("float64")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = {row.start: row for row in compare_starts(steps, SETTINGS, ("minao", "model", "model+aspc"), network)}
    for name in ("model", "model+aspc"):
        assert rows[name].energy_difference < 1e-8
        assert rows[name].most_cycles_above <= 1
        assert rows[name].fock_builds <= rows["minao"].fock_builds + 1
    assert rows["model"].fallbacks == 2
