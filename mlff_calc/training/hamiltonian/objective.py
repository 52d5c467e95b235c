"""The loss of a network for Fock matrices.

Absolute and squared errors are averaged over the entries of a molecule, which exist, then over molecules. Energies of
orbitals are learnt to first order, as the diagonal of C^T (H - H_ref) C with the orbitals C of the reference, so that
no eigenvector is differentiated.

With a flow, the network sees a state between noise and the matrix, and the loss compares the end of the path that it
predicts. Times are drawn for each molecule in training; a validation begins with noise, as a prediction in one step.

Source: Yu et al., "QH9" (2023), for the loss by molecule; Kim et al., "QHFlow" (2025), for the energies of orbitals.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlff_calc.electronic.hamiltonian import HamiltonianNetwork
from mlff_calc.electronic.hamiltonian.flow import FIRST_TIME, between, draw_noise, with_state
from mlff_calc.electronic.hamiltonian.keys import FOCK_ATOMS, FOCK_PAIRS
from mlff_calc.graph.keys import Graph
from mlff_calc.nn.scatter import scatter_sum
from mlff_calc.training.data import Batch
from mlff_calc.training.hamiltonian.data import ORBITALS
from mlff_calc.training.hamiltonian.recipe import MatrixLoss
from mlff_calc.training.objective import Objective, Stage
from mlff_calc.training.sums import ErrorSums

LAST_TIME = 0.99
"""Largest time that is drawn in training."""


class HamiltonianObjective(Objective):
    """Objective for Fock matrices.

    Args:
        section: Section `loss` of a recipe.
        network: Network that is trained; its elements and scales are used.
    """

    def __init__(self, section: MatrixLoss, network: HamiltonianNetwork) -> None:
        self.section, self.network = section, network

    def prepare(self, stage: Stage, batch: Batch, generator: torch.Generator) -> Graph:
        """Add the state and time of a flow, where there is one."""
        network, graph = self.network, batch.graph
        if not network.config["flow"]:
            return graph
        n, device = len(batch.frames), graph["atomic_numbers"].device
        times = torch.full((n,), FIRST_TIME, dtype=torch.float64, device=device)
        if stage == "train":
            times += (LAST_TIME - FIRST_TIME) * torch.rand(n, generator=generator, device=device, dtype=torch.float64)
        noise = draw_noise(network, graph, generator)
        species, ends = network.species_of(graph)
        masks = network.masks(species, ends)
        data = network.scales.divide(batch.labels[FOCK_ATOMS].double(), batch.labels[FOCK_PAIRS].double(), species, ends)
        data = data[0] * masks[0], data[1] * masks[1]
        return with_state(graph, between(noise, data, times, graph), times)

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """Compute the loss of one batch, a scalar."""
        section, graph = self.section, batch.graph
        atoms, pairs = self._wrong(outputs, batch)
        by_molecule, n = self._systems(graph), len(batch.frames)
        masks = self.network.masks(*self.network.species_of(graph))
        counts = self._sums([mask.to(atoms.dtype) for mask in masks], by_molecule, n)
        total = section.mse * self._sums([atoms.square(), pairs.square()], by_molecule, n)
        total = total + section.mae * self._sums([atoms.abs(), pairs.abs()], by_molecule, n)
        loss = (total / counts).mean()
        if section.orbital_energies > 0.0:
            loss = loss + section.orbital_energies * self._energies(atoms, pairs, batch).abs().mean()
        return loss

    def errors(self, sums: ErrorSums, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Add the errors of entries of blocks of atoms and of pairs; entries that do not exist do not count."""
        masks = self.network.masks(*self.network.species_of(batch.graph))
        for name, wrong, mask in zip((FOCK_ATOMS, FOCK_PAIRS), self._wrong(outputs, batch), masks, strict=True):
            sums.add_pairs(name, wrong, torch.where(mask, 0.0, torch.nan).to(wrong.dtype))

    def text(self, sums: ErrorSums) -> str:
        """Mean absolute errors of the validation."""
        found = sums.errors()
        parts = [f"{words} {1e6 * found[name].mae:.4g} uHa" for name, words in _WORDS.items() if name in found]
        return "valid MAE of blocks: " + ", ".join(parts) if parts else ""

    def _wrong(self, outputs: dict[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Errors of blocks of atoms and of pairs, zero where no entry exists."""
        masks = self.network.masks(*self.network.species_of(batch.graph))
        atoms, pairs = (
            (outputs[name] - batch.labels[name]) * mask
            for name, mask in zip((FOCK_ATOMS, FOCK_PAIRS), masks, strict=True)
        )
        return atoms, pairs

    def _systems(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Molecules of atoms and of pairs."""
        index = graph["system_index"]
        return index, index.index_select(0, graph["edge_index"][0])

    def _sums(self, blocks: list[Tensor], by_molecule: tuple[Tensor, Tensor], n: int) -> Tensor:
        """Sums over the entries of each molecule [n]."""
        parts = (scatter_sum(one.sum(dim=(1, 2)), index, n) for one, index in zip(blocks, by_molecule, strict=True))
        return sum(parts, torch.zeros((), dtype=blocks[0].dtype, device=blocks[0].device))

    def _energies(self, atoms: Tensor, pairs: Tensor, batch: Batch) -> Tensor:
        """Errors of the energies of orbitals to first order, in one row for all molecules."""
        graph, orbitals = batch.graph, batch.labels[ORBITALS]
        first, second = graph["edge_index"]
        moved = torch.bmm(pairs, orbitals.index_select(0, second))
        moved = torch.bmm(atoms, orbitals) + scatter_sum(moved, first, len(atoms))
        index, n = graph["system_index"], len(batch.frames)
        energies = scatter_sum((orbitals * moved).sum(dim=1), index, n)
        present = scatter_sum(orbitals.abs().sum(dim=1), index, n) > 0.0
        return energies[present]


_WORDS = {FOCK_ATOMS: "atoms", FOCK_PAIRS: "pairs"}
