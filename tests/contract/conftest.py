"""Potentials with every registered backbone, and structures that reveal faults of backbones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from mlff_calc.backbones import available_backbones, is_fixed_point
from mlff_calc.potential import Potential, build_potential

ELEMENTS = ["H", "C", "O", "Si"]


CONVERGED = {
    "deq": {
        "channels": 8,
        "tolerance": 1e-13,
        "max_evaluations": 200,
        "gradient": "implicit",
        "training_tolerance": 1e-12,
        "training_evaluations": 200,
    }
}
"""Options of a fixed point with the accuracy needed here; its sizes are small, since tight solves are slow."""


def make_potential(name: str, /, **options: object) -> Potential:
    config = {
        "backbone": {"name": name, "cutoff": 4.0, **CONVERGED.get(name, {})},
        "elements": ELEMENTS,
        "reference_energies": {1: -3.0, 6: -5.0, 8: -7.0, 14: -11.0},
        "scale": 12.0 if is_fixed_point(name) else 1.5,  # few channels give small forces, and the tests need large ones
        "avg_num_neighbors": 12.0,
        **options,
    }
    potential = build_potential(config, seed=7)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in potential.parameters():  # initial biases and shifts of zero would hide mistakes
            parameter.data += 0.05 * torch.randn_like(parameter)
        if potential.backbone.is_fixed_point:  # random biases can make the map hard to solve
            potential.backbone.map.scale(0.3)
    return potential.eval().to_precision("float64")


@pytest.fixture(scope="module", params=available_backbones())
def backbone(request: pytest.FixtureRequest) -> str:
    return request.param


_HEADS = [(name, heads) for name in available_backbones() for heads in ("plain", "repulsion", "fields")]


@pytest.fixture(
    scope="module",
    params=[(name, heads) for name, heads in _HEADS if heads == "repulsion" or not is_fixed_point(name)],
    ids="-".join,
)
def potential(request: pytest.FixtureRequest, device: torch.device) -> Potential:
    """Potential on the device of the tests. Fixed points, which are slow, are tested only with all heads together."""
    name, heads = request.param
    repulsion = {"name": "zbl", "reach": 1.5} if heads == "repulsion" else None
    fields = {"copies": 2, "n_basis": 4} if heads == "fields" else None
    return make_potential(name, repulsion=repulsion, fields=fields).to(device)


def ethanol() -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=3)
    return atoms


def crystal() -> Atoms:
    """Return two atoms in a skewed cell smaller than the cutoff, so that neighbours are images."""
    atoms = bulk("Si")
    atoms.rattle(0.1, seed=4)
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + 0.03 * np.random.default_rng(1).normal(size=(3, 3))), scale_atoms=True
    )
    return atoms


def slab() -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.center(vacuum=6.0, axis=2)
    atoms.pbc = (True, True, False)
    atoms.rattle(0.1, seed=5)
    return atoms


@pytest.fixture(params=[ethanol, crystal, slab], ids=["molecule", "crystal", "slab"])
def atoms(request: pytest.FixtureRequest) -> Atoms:
    return request.param()
