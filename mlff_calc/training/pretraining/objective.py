"""The loss of a pretraining.

    L = w_rec mean_i |e'_i - e_i|^2 + w_den mean_i |n'_i - n_i|^2 + w_clean mean_i |c'_i|^2

e is the noise of copies to reconstruct and n that of copies to denoise, both of unit variance, and e', n' and c' are what
the network finds, c' in structures without noise. Objective `denoising` has the second term alone. `supervised` has the loss
of a potential. Noise is drawn anew for every batch, from a generator of seed and epoch. Reported errors are unexplained
shares of the noise: 1 where nothing is found.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlff_calc.graph.keys import Graph
from mlff_calc.pretraining import PretrainingNetwork
from mlff_calc.pretraining.keys import CLEAN, COPY_ROLE, DENOISED, NOISE_TARGET, RECONSTRUCTED, RECONSTRUCTION
from mlff_calc.pretraining.noise import copies
from mlff_calc.training.data import Batch
from mlff_calc.training.objective import Objective, Stage
from mlff_calc.training.pretraining.recipe import PretrainingLoss
from mlff_calc.training.sums import ErrorSums

OUTPUTS = {CLEAN: "noise", RECONSTRUCTED: RECONSTRUCTION, DENOISED: "noise"}
_SIZE = "_size"
WORDS = {RECONSTRUCTED: "reconstruction", DENOISED: "denoising"}


class NoiseObjective(Objective):
    """Objective for the noise of copies.

    Args:
        network: Network with its noise.
        loss: Weights.
    """

    def __init__(self, network: PretrainingNetwork, loss: PretrainingLoss) -> None:
        self.sigmas, self.cutoff = network.objective.sigmas, network.cutoff
        asked = {RECONSTRUCTED: loss.reconstruction, DENOISED: loss.denoising, CLEAN: loss.clean}
        self.weights = {role: weight for role, weight in asked.items() if role in self.sigmas and weight > 0.0}
        self.roles = set(self.weights) | ({CLEAN} if network.objective.reads_codes else set())

    def prepare(self, stage: Stage, batch: Batch, generator: torch.Generator) -> Graph:
        """Make the copies of a batch, with noise."""
        del stage
        return copies(batch.graph, self.roles, self.sigmas, self.cutoff, generator)

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """Compute the loss of one batch, a float64 scalar."""
        terms = [
            weight * (found - target).square().sum(dim=1).mean()
            for role, weight in self.weights.items()
            for found, target in [of_role(outputs, batch.graph, role)]
        ]
        return torch.stack(terms).sum()

    def errors(self, sums: ErrorSums, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Add squares of errors and of the noise."""
        for role, word in WORDS.items():
            if role in self.weights:
                found, target = of_role(outputs, batch.graph, role)
                sums.add_pairs(word, found.detach(), target)
                sums.add_pairs(word + _SIZE, torch.zeros_like(target), target)

    def columns(self, sums: ErrorSums | None) -> dict[str, str]:
        """Unexplained shares of the validation."""
        return {f"valid_{word}_share": f"{share:.6g}" for word, share in _shares(sums).items()}

    def text(self, sums: ErrorSums) -> str:
        """Unexplained shares of the validation."""
        found = ", ".join(f"{word} {share:.4g}" for word, share in _shares(sums).items())
        return f"unexplained share of the noise: {found}" if found else ""


def of_role(outputs: dict[str, Tensor], graph: Graph, role: int) -> tuple[Tensor, Tensor]:
    """Noise that was found and that is there, for the atoms of copies of a role [n, 3], in units of its deviation."""
    atoms = (graph[COPY_ROLE] == role).index_select(0, graph["system_index"]).nonzero().squeeze(1)
    return outputs[OUTPUTS[role]].index_select(0, atoms), graph[NOISE_TARGET].index_select(0, atoms)


def _shares(sums: ErrorSums | None) -> dict[str, float]:
    squares = {} if sums is None else sums.mean_squares()
    return {word: squares[word] / squares[word + _SIZE] for word in WORDS.values() if squares.get(word + _SIZE, 0.0) > 0.0}
