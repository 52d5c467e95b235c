"""The loss of a score model: mean over frames and degrees of freedom of w(s) |score - target|^2, at random noise.

Noise levels are those of times between 0 and 1, one in each of as many equal intervals as the batch has frames, so that
every batch sees all levels. See score/targets.py for targets, w, and the weights of `directional`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlff_calc.graph.keys import Graph
from mlff_calc.nn.scatter import from_mean
from mlff_calc.score import ScoreModel
from mlff_calc.score.graph import NOISE_LEVEL, SCORE, moved
from mlff_calc.score.moments import degrees_of_freedom
from mlff_calc.training.compiling import compile_network
from mlff_calc.training.data import Batch
from mlff_calc.training.objective import Forward, Objective, Stage
from mlff_calc.training.sums import ErrorSums


class ScoreObjective(Objective):
    """Score matching with a target between noise and forces.

    Args:
        model: Its schedule, target and dimensions are used.
        anchor: Share of frames without noise.
    """

    def __init__(self, model: ScoreModel, anchor: float = 0.0) -> None:
        self.schedule, self.target, self.dimensions = model.schedule, model.target, model.dimensions
        self.degrees = degrees_of_freedom(len(model.topology.numbers), model.dimensions)
        self.anchor = anchor

    def prepare(self, stage: Stage, batch: Batch, generator: torch.Generator) -> Graph:
        """Add noise to the positions."""
        del stage
        graph = batch.graph
        n, device = len(batch.frames), graph["positions"].device
        drawn = torch.rand(2, n, generator=generator, device=device, dtype=torch.float64)
        order = torch.randperm(n, generator=generator, device=device)
        sigma = self.schedule.sigmas((order + drawn[0]) / n)
        sigma = torch.where(drawn[1] < self.anchor, torch.zeros_like(sigma), sigma)
        return noisy(graph, sigma, generator, self.dimensions)

    def compiled(self, network: ScoreModel, example: Batch) -> Forward:
        """See `compile_network`."""
        generator = torch.Generator(example.graph["positions"].device).manual_seed(0)
        graph = self.prepare("train", example, generator)
        return compile_network(network, graph, self._probe)

    def _probe(self, outputs: dict[str, Tensor], graph: Graph) -> Tensor:
        weight = self.target.weight(graph[NOISE_LEVEL]).index_select(0, graph["system_index"]).unsqueeze(1)
        return (weight * outputs[SCORE].square()).mean()

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """Compute the loss of one batch, a float64 scalar."""
        errors, square = self._compared(outputs, batch)
        return (self.target.emphasis(batch.graph[NOISE_LEVEL], square) * errors).mean()

    def errors_of(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """Unexplained share of the target of each frame [n_frames], which is 1 for a score of zero."""
        return self._compared(outputs, batch)[0]

    def _compared(self, outputs: dict[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Unexplained share and expected mean square of the target of each frame [n_frames]."""
        graph = batch.graph
        levels = graph[NOISE_LEVEL]
        positions, start, scores, found = (
            one.reshape(len(levels), -1, 3)
            for one in (graph["positions"], batch.labels["positions"], batch.labels[SCORE], outputs[SCORE])
        )
        sigma = levels[:, None, None]
        noise = torch.where(sigma > 0.0, (positions - start) / sigma, torch.zeros_like(sigma))
        if self.target.name == "dsm":
            scores = torch.nan_to_num(scores)
        target, square = self.target.of_frames(positions, scores, noise, levels, self.degrees)
        return (found - target).square().sum(dim=(1, 2)) / (self.degrees * square), square

    def errors(self, sums: ErrorSums, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Add the weighted errors of all frames, and of those with less noise than forces tell apart."""
        roots = self.errors_of(outputs, batch).sqrt()
        sums.add_pairs(SCORE, roots, torch.zeros_like(roots))
        small = batch.graph[NOISE_LEVEL] < self.target.information**-0.5
        sums.add_pairs(SMALL_NOISE, roots, torch.where(small, 0.0, torch.nan).to(roots.dtype))

    def columns(self, sums: ErrorSums | None) -> dict[str, str]:
        """Weighted mean squares of the validation."""
        found = {} if sums is None else sums.mean_squares()
        return {f"valid_{name}_mse": f"{mse:.6g}" for name, mse in found.items()}

    def text(self, sums: ErrorSums) -> str:
        """Weighted mean squares of the validation."""
        found = sums.mean_squares()
        parts = [f"{words} {found[name]:.4g}" for name, words in _WORDS.items() if name in found]
        return "unexplained share of the target: " + ", ".join(parts) if parts else ""


SMALL_NOISE = "score_small_noise"
_WORDS = {SCORE: "all noise", SMALL_NOISE: "small noise"}


def noisy(graph: Graph, sigma: Tensor, generator: torch.Generator, dimensions: int) -> Graph:
    """Return the graph with noise in its positions.

    Args:
        graph: Graph without noise.
        sigma: Noise levels [n_systems], Angstrom.
        generator: Source of the noise.
        dimensions: 3, or 2 for noise without a component along z.
    """
    positions, index = graph["positions"], graph["system_index"]
    noise = torch.randn(positions.shape, generator=generator, device=positions.device, dtype=torch.float64)
    if dimensions == 2:
        noise[:, 2] = 0.0
    noise = from_mean(noise, index, len(sigma))
    changed = positions + sigma.index_select(0, index).unsqueeze(1) * noise
    return moved(graph, changed) | {NOISE_LEVEL: sigma}
