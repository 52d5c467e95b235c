"""The score model: gradient of the log-density of noisy structures of one molecule or cluster, at any noise level.

Any backbone can be used. It sees the structure scaled to c x, c = (1 + (s/D)^2)^-1/2 with the spread D of the data, so that
distances stay within its cutoff at every noise s, and the noise level as an input: of atoms (added to the first scalars), of
edges (added to the radial basis) and as a factor of the features that the head reads. The score is

    s(x, s) = -(x - mean(x)) / (D^2 + s^2) - n(x, s) / sqrt(s^2 + 1/I),

the score of a normal distribution of the spread of the data, and what the head of vectors n adds to it, in units of the size
of the score at this noise, with the mean square I of F/kT (see `targets.py`). It has no component along translations.

Sources: Guo et al., "Potential score matching" (2025); Karras et al., "Elucidating the design space of diffusion-based
generative models" (2022), Sec. 5, for scaled inputs and outputs.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mlff_calc.backbones import build_backbone
from mlff_calc.backbones.keys import EDGE_INPUTS, EDGE_SCALARS, INPUT_FEATURES, SPECIES
from mlff_calc.graph.keys import Graph
from mlff_calc.heads import Features, build_head
from mlff_calc.networks.base import Network
from mlff_calc.nn.scatter import from_mean
from mlff_calc.score.graph import NOISE_LEVEL, SCORE, Topology
from mlff_calc.score.schedule import Schedule
from mlff_calc.score.stiffness import FREE, Stiffness
from mlff_calc.score.targets import Target

LEVELS = 24
"""Number of functions of the noise level that networks read. Raising it tells neighbouring levels apart more sharply."""


class ScoreModel(Network):
    """A trained or trainable score of one molecule or cluster.

    Create one with `build_score_model` or `load_score_model`.

    Attributes:
        topology: Atoms and bonds.
        schedule: Noise levels.
        target: What it was trained on.
        clip: Largest norm of F/kT of a frame in it, 1/Angstrom; None for no limit.
        kT: Thermal energy of the training data, eV (or the unit of their energies).
        dimensions: Number of dimensions of space, 2 or 3.
    """

    kind = "score"
    units: ClassVar = {"length": "Angstrom", "score": "1/Angstrom", "kT": "eV"}
    centres: Tensor
    use = "use load_score_model, or `mlff sample`: it draws structures, and gives neither energy nor forces"

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.topology = Topology.of_config(config)
        self.schedule = Schedule(config["sigma_min"], config["sigma_max"], config["spacing"])
        self.clip: float | None = config["clip"]
        self.kT, self.spread = float(config["kT"]), float(config["spread"])
        springs = tuple((i, j, k) for i, j, k in config["springs"])
        stiffness = Stiffness(springs, (FREE * self.spread) ** -2) if springs else None
        self.target = Target(config["target"], config["information"], config["window"], stiffness)
        self.dimensions = int(config["dimensions"])
        classes = sorted(set(self.topology.classes.tolist()))
        self.backbone = build_backbone(config["backbone"], n_species=len(classes))
        self.backbone.limit_outputs(1)
        channels, n_basis = self.backbone.channels, int(config["backbone"]["n_basis"])
        self.head = build_head({"name": "denoising"}, features=Features.of(self.backbone, config["backbone"], classes))
        self.level = nn.Sequential(nn.Linear(LEVELS, channels), nn.SiLU(), nn.Linear(channels, channels), nn.SiLU())
        self.level_nodes = nn.Linear(channels, channels)
        self.level_edges = nn.Linear(channels, n_basis)
        self.level_factors = nn.Linear(channels, channels)
        width = self.topology.n_edge_scalars
        self.edges = nn.Parameter(torch.randn(width, n_basis) / max(width, 1) ** 0.5)
        self.register_buffer("centres", torch.linspace(0.0, 1.0, LEVELS, dtype=torch.float64), persistent=False)

    def forward(self, graph: Graph) -> dict[str, Tensor]:
        """Compute `score` [n_atoms, 3] (1/Angstrom, float64).

        Args:
            graph: Result of `Topology.graph`: classes of atoms as `atomic_numbers`, all pairs as edges, `edge_scalars` and
                `noise_level`.
        """
        sigma, index = graph[NOISE_LEVEL].double(), graph["system_index"]
        features = self.head(self._seen(graph, sigma))["noise"]
        n_systems = sigma.shape[0]
        spread = (self.spread**2 + sigma.square()).index_select(0, index).unsqueeze(1)
        scale = self.target.size(sigma).index_select(0, index).unsqueeze(1)
        offsets = from_mean(graph["positions"], index, n_systems)
        score = -offsets / spread - from_mean(features, index, n_systems) * scale
        if self.dimensions == 2:
            score = score * score.new_tensor([1.0, 1.0, 0.0])
        return {SCORE: score}

    def _seen(self, graph: Graph, sigma: Tensor) -> Graph:
        """What the head reads: the features of the scaled structure, with the noise level as input and as a factor."""
        dtype = self.edges.dtype
        index, centre = graph["system_index"], graph["edge_index"][0]
        shrink = (1.0 + (sigma / self.spread).square()).rsqrt()
        of_edge = index.index_select(0, centre)
        level = self.level(self._levels(sigma).to(dtype))
        nodes = self.level_nodes(level).index_select(0, index)
        seen = dict(graph)
        seen[SPECIES] = graph["atomic_numbers"] - 1
        seen["edge_vec"] = graph["edge_vec"] * shrink.index_select(0, of_edge).unsqueeze(1)
        seen[INPUT_FEATURES] = nn.functional.pad(nodes.unsqueeze(1), [0, 0, 0, 3])
        basis = self.level_edges(level).index_select(0, of_edge)
        if self.topology.n_edge_scalars:
            basis = basis + graph[EDGE_SCALARS].to(dtype) @ self.edges
        seen[EDGE_INPUTS] = basis
        seen = self.backbone(seen)
        factors = 1.0 + self.level_factors(level).index_select(0, index)
        seen["node_features"] = seen["node_features"] * factors.unsqueeze(1)
        return seen

    def _levels(self, sigma: Tensor) -> Tensor:
        """Smooth functions of the noise level [n_systems, LEVELS], which is finite and smooth at 0."""
        low = self.schedule.sigma_min
        place = torch.log1p(sigma / low) / math.log1p(self.schedule.sigma_max / low)
        return torch.exp(-0.5 * ((place.unsqueeze(1) - self.centres) * (0.7 * LEVELS)).square())
