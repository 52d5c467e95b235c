"""The potential: energies from a backbone and heads, forces and virials from one backward pass to the edge vectors.

With g_ij = dE/dr_ij for every edge (r_ij = x_j - x_i),

    F_i = sum_j g_ij - sum_j g_ji,    W_i = -1/2 sum_j (r_ij (x) g_ij + r_ji (x) g_ji),    stress = -sum_i W_i / V.

Half of an edge's virial goes to each of its two atoms. Energies and virials are summed in float64.

| symbol | name in code | shape | unit |
|---|---|---|---|
| E | `energy` | [n_systems] | eV |
| g_ij | `gradient` | [n_edges, 3] | eV/Angstrom |
| W_i | `atomic_virial` | [n_atoms, 3, 3] | eV |

Source: Thompson, Plimpton, Mattson, "General formulation of pressure and stress tensor ..." (2009), Eq. 20.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from mlff_calc.backbones import build_backbone
from mlff_calc.heads import Features, FieldsHead, Head, build_heads
from mlff_calc.heads.uncertainty import ErrorHead
from mlff_calc.networks.base import Network
from mlff_calc.nn.scatter import scatter_sum
from mlff_calc.potential.keys import ENERGIES, FORCES


class Potential(Network):
    """A trained or trainable force field, independent of ASE and of global state.

    Create one with `build_potential` or `load_potential`.

    Attributes:
        elements: Atomic numbers of the known elements.
        cutoff: Longest edge, in Angstrom.
        domain: Ranges of distances and neighbours in the training data, as a plain dict; None where not measured.
        precision: `float32`, `mixed` (float64 for geometry and head, float32 for message passing) or `float64`.
    """

    kind = "potential"
    units: ClassVar = {"energy": "eV", "length": "Angstrom", "forces": "eV/Angstrom", "stress": "eV/Angstrom^3"}
    use = "use load_potential, or `mlff md`: it gives energy and forces, and no positions at a later time"
    precisions = ("float32", "mixed", "float64")

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        elements = [int(z) for z in config["elements"]]
        self.backbone = build_backbone(config["backbone"], n_species=len(elements))
        energies = [float(config["reference_energies"][str(z)]) for z in elements if config["reference_energies"]]
        features = Features.of(self.backbone, config["backbone"], elements, energies)
        heads = build_heads(config["heads"], features)
        self.heads = nn.ModuleDict(heads)
        self.direct_forces = any(FORCES in head.provides for head in heads.values())
        self.backbone.limit_outputs(max(head.degree for head in heads.values()))
        species_of = torch.full((119,), -1, dtype=torch.long)
        species_of[torch.tensor(elements)] = torch.arange(len(elements))
        self.register_buffer("species_of", species_of, persistent=False)
        self.cutoff = float(self.backbone.cutoff)
        self.elements = elements

    def to_precision(self, precision: str) -> Self:
        """Return a copy in precision `float32`, `mixed` or `float64`.

        Raises:
            OptionError: the precision is unknown.
        """
        other = super().to_precision(precision)
        other.backbone.set_double_geometry(precision == "mixed")
        if precision == "mixed":
            other.heads["energy"].double()
        return other

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute energy, energies, forces and, for gradient forces, virial, atomic_virial and stress.

        Args:
            graph: `atomic_numbers`, `system_index`, `edge_index`, `edge_vec` and `cell`, all on one device.

        Returns:
            energy [n_systems] eV, energies [n_atoms] eV, forces [n_atoms, 3] eV/Angstrom, virial [n_systems, 3, 3] eV,
            atomic_virial [n_atoms, 3, 3] eV, stress [n_systems, 3, 3] eV/Angstrom^3 (zero where a cell has no volume;
            meaningful only with full pbc). In training mode forces keep their graph, so that losses on them can be
            differentiated. With heads of errors also what they give (heads/uncertainty.py), which changes nothing else. With
            a head of fields and `start_fields` in the graph also `fields` and `fields_residual` (heads/fields.py).
        """
        edge_vec = graph["edge_vec"].detach().requires_grad_(not self.direct_forces)
        features = self.backbone(self.inputs(graph, edge_vec))
        out = {}
        for head in self.energy_heads:
            features = head(features)
            out.update({name: features[name] for name in head.provides if name in features})
        out.update(self.totals(features["energies"], graph))
        out.update(self.others(features))
        if not self.direct_forces:
            gradient = torch.autograd.grad(out["energy"].sum(), edge_vec, create_graph=self.training)[0]
            out.update(pair_outputs(gradient, edge_vec.detach(), graph))
        return self.finished(out)

    def inputs(self, graph: dict[str, Tensor], edge_vec: Tensor) -> dict[str, Tensor]:
        """Prepare the backbone's input: the graph with `edge_vec`, `species`, and `node_species` if there are ghosts."""
        inputs = dict(graph)
        inputs["edge_vec"] = edge_vec
        inputs["species"] = self.species_of.index_select(0, graph["atomic_numbers"])
        if "node_numbers" in graph:
            inputs["node_species"] = self.species_of.index_select(0, graph["node_numbers"])
        return inputs

    @property
    def error_heads(self) -> list[ErrorHead]:
        """Heads that predict errors of energies and forces; they come after the heads that give these."""
        return [head for head in self.heads.values() if isinstance(head, ErrorHead)]

    @property
    def uncertainties(self) -> tuple[str, ...]:
        """Names of the standard deviations among the outputs."""
        return tuple(head.std for head in self.error_heads)

    @property
    def energy_heads(self) -> list[Head]:
        """Heads that give energies or add to them, in their order."""
        return [cast(Head, head) for head in self.heads.values() if ENERGIES in cast(Head, head).provides]

    @property
    def fields(self) -> FieldsHead | None:
        """Head that adds the energy of fields; None where there is none."""
        return cast(FieldsHead | None, dict(self.heads).get("fields"))

    @property
    def depth(self) -> int:
        """Number of cutoffs within which other atoms act on the energy of an atom; not of fixed points, which have none."""
        return self.backbone.depth + (0 if self.fields is None else self.fields.products)

    @property
    def exchange_width(self) -> int:
        """Largest number of entries of an atom that an engine exchanges."""
        own = int(self.backbone.exchange_width)
        return own if self.fields is None else max(own, self.fields.exchange_width)

    @property
    def repulsion(self) -> nn.Module | None:
        """Head that adds a pair repulsion to the energies; None where there is none."""
        return dict(self.heads).get("zbl")

    def others(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the outputs of the heads that give no energies, from a graph with `node_features`, one after another."""
        out: dict[str, Tensor] = {}
        for head in self.heads.values():
            if ENERGIES not in head.provides:
                features = head(features)
                out.update({name: features[name] for name in head.provides if name in features})
        return out

    def totals(self, energies: Tensor, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return `energies` [n_atoms] and their sums `energy` [n_systems]; only atoms that are `owned` count, if given."""
        if "owned" in graph:
            energies = energies * graph["owned"]
        energy = scatter_sum(energies, graph["system_index"], graph["cell"].shape[0])
        return {"energy": energy, "energies": energies}

    def finished(self, out: dict[str, Tensor]) -> dict[str, Tensor]:
        """Detach the outputs from the tape unless in training mode."""
        if not self.training:
            for name in ("energy", "energies", "forces"):
                out[name] = out[name].detach()
        return out


def pair_outputs(gradient: Tensor, edge_vec: Tensor, graph: dict[str, Tensor]) -> dict[str, Tensor]:
    """Compute forces, virials and stress from dE/d(edge_vec) [n_edges, 3]; see the module's equations."""
    centre, neighbor = graph["edge_index"][0], graph["edge_index"][1]
    n_atoms = graph["node_numbers" if "node_numbers" in graph else "atomic_numbers"].shape[0]
    forces = scatter_sum(gradient, centre, n_atoms).index_add(0, neighbor, -gradient)
    edge_virial = -0.5 * edge_vec.unsqueeze(2) * gradient.unsqueeze(1)
    atomic = scatter_sum(edge_virial.flatten(1), centre, n_atoms).index_add(0, neighbor, edge_virial.flatten(1))
    if "node_numbers" in graph:  # one system, and rows of ghosts
        virial = atomic.sum(dim=0).view(1, 3, 3)
    else:
        virial = scatter_sum(atomic, graph["system_index"], graph["cell"].shape[0]).view(-1, 3, 3)
    volume = cell_volume(graph["cell"]).view(-1, 1, 1)
    stress = torch.where(volume > 0.0, -virial / volume.clamp(min=1e-30), torch.zeros_like(virial))
    return {"forces": forces, "virial": virial, "atomic_virial": atomic.view(-1, 3, 3), "stress": stress}


def cell_volume(cell: Tensor) -> Tensor:
    """Volumes [n_systems] (Angstrom^3) of `cell` [n_systems, 3, 3]."""
    a, b, c = cell[:, 0], cell[:, 1], cell[:, 2]
    return (a * torch.linalg.cross(b, c, dim=1)).sum(dim=1).abs()
