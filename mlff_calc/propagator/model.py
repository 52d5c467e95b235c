"""The propagator: maps present positions and velocities to those of a later time, in one evaluation of a network.

Any backbone can be used. What is known besides kinds and edges is given to the backbone as inputs:

- scalars of atoms: the speed |v| t / D, and scalars of the data (charges, heights) divided by their scale,
- vectors of atoms: the constant-velocity step v t / D, and with `centre` x_i - mean(x) divided by its spread,
- scalars of edges, added to the radial basis.

Positions enter through edge vectors (and `centre`), so results rotate, reflect and shift with the input. Units are
those of the data: lengths, and lengths per time; `horizon` is a time.

Source: Satorras et al., "E(n) equivariant graph neural networks" (2021), Sec. 5.1, for the task and the inputs.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mlff_calc.backbones import build_backbone
from mlff_calc.errors import StructureError
from mlff_calc.heads import Features, build_head
from mlff_calc.networks.base import Network
from mlff_calc.nn.edges import safe_lengths
from mlff_calc.nn.scatter import from_mean, scatter_sum


class Propagator(Network):
    """A trained or trainable map from a frame to a later one.

    Create one with `build_propagator` or `load_propagator`.

    Attributes:
        kinds: Numbers of the known kinds of particles; atomic numbers for molecules.
        cutoff: Longest edge that counts, in the unit of the data.
        n_scalars: Number of scalars per atom.
        n_edge_scalars: Number of scalars per edge.
    """

    kind = "propagator"
    units: ClassVar = {"length": "of the data", "time": "of the data"}
    use = "use load_propagator, or `mlff eval`: it gives positions at a later time, and neither energy nor forces"
    species_of: Tensor

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        kinds = [int(kind) for kind in config["kinds"]]
        self.backbone = build_backbone(config["backbone"], n_species=len(kinds))
        self.n_scalars = int(config["n_scalars"])
        self.n_edge_scalars = int(config["n_edge_scalars"])
        self.centre = bool(config["centre"])
        self.backbone.limit_outputs(1)
        channels = self.backbone.channels
        options = {key: config[key] for key in ("length_scale", "drift_scale", "speed_scale", "drift_share")}
        options |= {"name": "displacement", "velocities": bool(config["predict_velocities"])}
        self.head = build_head(options, features=Features.of(self.backbone, config["backbone"], kinds))
        self.scalars = nn.Linear(1 + self.n_scalars, channels)
        # All of one sign, since a backbone with fewer channels of vectors adds them up, and they must not cancel.
        self.vectors = nn.Parameter(torch.randn(2 if self.centre else 1, channels).abs())
        n_basis = int(config["backbone"]["n_basis"])
        self.edges = nn.Parameter(torch.randn(self.n_edge_scalars, n_basis) / max(self.n_edge_scalars, 1) ** 0.5)
        species_of = torch.full((119,), len(kinds), dtype=torch.long)   # Unknown kinds lie beyond every table, so that
        # they raise an error even where nothing checks them (compiled code, GPUs).
        species_of[torch.tensor(kinds)] = torch.arange(len(kinds))
        self.register_buffer("species_of", species_of, persistent=False)
        self.cutoff = float(self.backbone.cutoff)
        self.length_scale = float(config["length_scale"])
        self.drift_scale = float(config["drift_scale"])
        self.scalar_scale = float(config["scalar_scale"])
        self.kinds = kinds

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict `positions` [n_atoms, 3] at the later time and, with `predict_velocities`, `velocities` [n_atoms, 3].

        Args:
            graph: result of `motion_graph`: `atomic_numbers` (kinds), `system_index`, `positions`, `velocities`,
                `edge_index`, `edge_vec`, `cell`, `pbc`, `node_scalars`, `edge_scalars` and `horizon`.

        Returns:
            The outputs as float64, in the units of the data.

        Raises:
            StructureError: a kind is unknown. Compiled code and GPUs, where the check would have to wait, raise an
                error of torch.
        """
        if graph["atomic_numbers"].device.type == "cpu" and not torch.compiler.is_compiling():
            self.check_kinds(graph["atomic_numbers"])
        predicted = self.head(self.backbone(self.inputs(graph)))
        out = {"positions": graph["positions"].double() + predicted["displacements"]}
        if "velocity_changes" in predicted:
            out["velocities"] = graph["velocities"].double() + predicted["velocity_changes"]
        return out

    def check_kinds(self, numbers: Tensor) -> None:
        """Check that all kinds [n_atoms] are known.

        Raises:
            StructureError: a kind is unknown; the message names it, its first particle and the known kinds.
        """
        unknown = sorted(set(numbers.tolist()) - set(self.kinds))
        if unknown:
            first = int((numbers == unknown[0]).nonzero()[0])
            raise StructureError(
                f"particle {first} is of kind {unknown[0]}, and the propagator knows {' '.join(map(str, self.kinds))}; take "
                "data of the same kinds, or train on these"
            )

    def inputs(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Prepare what backbone and head read: the graph with `species`, `input_features`, `edge_inputs` and `drift`."""
        dtype = self.vectors.dtype
        index = graph["system_index"]
        steps = graph["velocities"].double() * graph["horizon"].index_select(0, index).unsqueeze(1)
        drift = (steps / self.drift_scale).to(dtype)
        speeds = safe_lengths(drift).unsqueeze(1)
        scalars = self.scalars(torch.cat([speeds, (graph["node_scalars"] / self.scalar_scale).to(dtype)], dim=1))
        given = [drift]
        if self.centre:
            given.append(self.offsets(graph).to(dtype))
        vectors = torch.stack(given, dim=2) @ self.vectors
        out = dict(graph)
        out["species"] = self.species_of.index_select(0, graph["atomic_numbers"])
        out["input_features"] = torch.cat([scalars.unsqueeze(1), vectors], dim=1)
        out["drift"] = drift * self.length_scale
        if self.n_edge_scalars > 0:
            out["edge_inputs"] = graph["edge_scalars"].to(dtype) @ self.edges
        return out

    def offsets(self, graph: dict[str, Tensor]) -> Tensor:
        """x_i - mean(x) of each system [n_atoms, 3], divided by the root mean square of its lengths."""
        index, n_systems = graph["system_index"], graph["cell"].shape[0]
        offsets = from_mean(graph["positions"], index, n_systems)
        counts = scatter_sum(torch.ones_like(offsets[:, :1]), index, n_systems).clamp(min=1.0)
        spread = scatter_sum((offsets * offsets).sum(dim=1, keepdim=True), index, n_systems) / counts
        return offsets / torch.sqrt(spread + 1e-12).index_select(0, index)
