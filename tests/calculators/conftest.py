"""A potential in closed form, and structures for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule


class PairPotential(torch.nn.Module):
    """A smooth potential like Lennard-Jones that fulfils the Potential contract, for tests without a network.

    Each pair has depth 0.2 eV and its minimum at 1.1 Angstrom + 0.05 times the mean atomic number (1.8 for silicon, 2.55
    for copper), and is multiplied by (1 - (r/cutoff)^2)^3.
    """

    def __init__(
        self, elements: tuple[str, ...] = ("H", "C", "O", "Si", "Cu"), cutoff: float = 5.0, scale: float = 1.0
    ):
        super().__init__()
        self.elements = elements
        self.cutoff = cutoff
        self.precision = "float64"
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))

    def to_precision(self, precision: str) -> PairPotential:
        other = PairPotential(self.elements, self.cutoff, float(self.scale))
        other.precision = precision
        return other

    def forward(self, graph: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        n_atoms = graph["atomic_numbers"].shape[0]
        dtype = torch.float64 if self.precision == "float64" else torch.float32
        center, neighbor = graph["edge_index"]
        vec = graph["edge_vec"].to(dtype).requires_grad_()
        with torch.enable_grad():
            squared = (vec * vec).sum(1)
            numbers = graph["atomic_numbers"].to(dtype)
            radius = 1.1 + 0.025 * (numbers[center] + numbers[neighbor])
            sixth = (radius * radius / squared) ** 3
            window = torch.clamp(1.0 - squared / self.cutoff**2, min=0.0) ** 3
            pair = (self.scale * 0.2).to(dtype) * (sixth * sixth - 2.0 * sixth) * window
            energies = torch.zeros(n_atoms, dtype=torch.float64).to(vec.device).index_add(0, center, pair.double())
            (slope,) = torch.autograd.grad(energies.sum(), vec)
        slope = slope.double()
        forces = torch.zeros(n_atoms, 3, dtype=torch.float64, device=vec.device)
        forces = forces.index_add(0, center, slope).index_add(0, neighbor, -slope)
        share = -vec.detach().double()[:, :, None] * slope[:, None, :]
        virials = torch.zeros(n_atoms, 3, 3, dtype=torch.float64, device=vec.device).index_add(0, center, share)
        virial = virials.sum(0, keepdim=True)
        return {
            "energy": energies.detach().sum().reshape(1),
            "energies": energies.detach(),
            "forces": forces,
            "virial": virial,
            "atomic_virial": virials,
            "stress": -virial / torch.linalg.det(graph["cell"]).abs()[:, None, None],
        }


def rattled_silicon(repeat: int = 2, seed: int = 1) -> Atoms:
    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * (repeat, repeat, repeat)
    atoms.rattle(0.1, seed=seed)
    return atoms


def rattled_slab() -> Atoms:
    atoms = fcc111("Cu", (3, 3, 3), vacuum=8.0, periodic=True)
    atoms.pbc = (True, True, False)
    atoms.rattle(0.1, seed=2)
    return atoms


def rattled_ethanol(seed: int = 3) -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.03, seed=seed)
    return atoms


def numeric_forces(atoms: Atoms, step: float = 1e-4) -> np.ndarray:
    """Return central differences of fourth order, [n_atoms, 3] eV/Angstrom."""
    forces = np.zeros((len(atoms), 3))
    weights = {1: 8.0, -1: -8.0, 2: -1.0, -2: 1.0}
    for atom, axis in np.ndindex(*forces.shape):
        for k, weight in weights.items():
            moved = atoms.copy()
            moved.positions[atom, axis] += k * step
            moved.calc = atoms.calc
            forces[atom, axis] -= weight * moved.get_potential_energy() / (12.0 * step)
    return forces


def numeric_stress(atoms: Atoms, step: float = 1e-4) -> np.ndarray:
    """Return differences of fourth order of the energy by symmetric strain over the volume, [6] Voigt, eV/Angstrom^3."""
    stress = np.zeros(6)
    weights = {1: 8.0, -1: -8.0, 2: -1.0, -2: 1.0}
    for index, (i, j) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        for k, weight in weights.items():
            strain = np.eye(3)
            strain[i, j] += 0.5 * k * step
            strain[j, i] += 0.5 * k * step
            moved = atoms.copy()
            moved.set_cell(atoms.cell @ strain, scale_atoms=False)
            moved.positions = atoms.positions @ strain
            moved.calc = atoms.calc
            stress[index] += weight * moved.get_potential_energy() / (12.0 * step * atoms.cell.volume)
    return stress


@pytest.fixture
def pair_potential() -> PairPotential:
    return PairPotential()
