"""The network of pretraining: any backbone, and what its objective needs besides it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from ase import Atoms
from torch import Tensor

from mlff_calc.backbones import build_backbone
from mlff_calc.graph.keys import Graph
from mlff_calc.heads import Features
from mlff_calc.networks.base import Network
from mlff_calc.networks.elements import species_table
from mlff_calc.potential.evaluate import check_elements
from mlff_calc.pretraining.code import pooled_features
from mlff_calc.pretraining.objectives import OBJECTIVES, Pretext


class PretrainingNetwork(Network):
    """A backbone in pretraining, to fine-tune from.

    Create one with `build_pretraining` or `load_pretraining`.

    Attributes:
        backbone: Backbone, whose weights a potential or property starts from.
        objective: Part that the backbone is trained by.
        elements: Atomic numbers that it knows.
        cutoff: Cutoff radius, Angstrom.
    """

    kind = "pretraining"
    units: ClassVar = {"length": "Angstrom", "energy": "eV"}
    use = "name it under `fine_tune_from` in the recipe of a potential or property: it is a backbone to start from"
    species_of: Tensor

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.elements = [int(z) for z in config["elements"]]
        self.backbone = build_backbone(config["backbone"], n_species=len(self.elements))
        energies = [float(config["references"][str(z)]) for z in self.elements]
        features = Features.of(self.backbone, config["backbone"], self.elements, energies)
        self.objective: Pretext = OBJECTIVES.build(config["objective"], features=features)
        self.backbone.limit_outputs(self.objective.degree)
        self.cutoff = float(self.backbone.cutoff)
        self.register_buffer("species_of", species_table(self.elements), persistent=False)

    def forward(self, graph: Graph) -> dict[str, Tensor]:
        """Compute the outputs of the objective.

        Args:
            graph: Result of `graph_from_atoms`, or of `noise.copies`.

        Returns:
            What the objective `provides`.

        Raises:
            UnknownElementError: An element is unknown. On a GPU torch raises an error of its own.
        """
        if self.objective.takes_forces:
            graph = graph | {"edge_vec": graph["edge_vec"].detach().requires_grad_()}
        outputs: dict[str, Tensor] = self.objective(self.features(graph))
        return outputs

    def features(self, graph: Graph) -> Graph:
        """Return the graph with `species` and `node_features`, without gradients of positions unless edges have them."""
        numbers = graph["atomic_numbers"]
        if numbers.device.type == "cpu" and not torch.compiler.is_compiling():
            check_elements(numbers.numpy(), self)
        found: Graph = self.backbone({**graph, "species": self.species_of.index_select(0, numbers)})
        return found

    def code(self, graph: Graph) -> Tensor:
        """Codes of the systems of a graph [n_systems, width]; see `Pretext.code`."""
        return self.objective.code(self.features(graph))

    def pooled(self, graph: Graph) -> Tensor:
        """Means of normalized scalars [n_systems, channels], which are defined alike for every objective."""
        return pooled_features(self.features(graph))

    def check(self, atoms: Atoms, place: str) -> None:
        """Refuse a structure with an element that the network does not know.

        Raises:
            UnknownElementError: There is one; the message names the place.
        """
        check_elements(atoms.numbers, self, place)
