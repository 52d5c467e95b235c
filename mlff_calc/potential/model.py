"""The potential: energies from a backbone and a head, forces and virials from one backward pass over edge vectors.

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

import copy
import math
from typing import Any, Dict, List, Optional

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from mlff_calc.backbones import build_backbone, resolve_backbone
from mlff_calc.errors import OptionError, RecipeError
from mlff_calc.heads import DirectForcesHead, EnergyHead, ZBLRepulsion
from mlff_calc.nn.scatter import scatter_sum
from mlff_calc.potential.files import save_potential

PRECISIONS = ("float32", "mixed", "float64")
REPULSION: Dict[str, Any] = {"name": "zbl", "reach": 0.8}
"""Defaults."""


class Potential(nn.Module):
    """A trained or trainable force field; scriptable, without ASE in it, and without global state.

    Build one by `build_potential` or `load_potential`.

    Attributes:
        config: the plain dict it was built from. elements: atomic numbers it knows. cutoff: Angstrom.
        precision: `float32`, `mixed` (float64 for geometry and head, float32 for message passing) or `float64`.
    """

    def __init__(self, config: Dict[str, Any]) -> None:
        super().__init__()
        elements = [int(z) for z in config["elements"]]
        self.backbone = build_backbone(config["backbone"], n_species=len(elements))
        references = config["reference_energies"] or dict.fromkeys(map(str, elements), 0.0)
        scale = config["scale"]
        by_species = [float(references[str(z)]) for z in elements]
        self.head = EnergyHead(self.backbone.channels, by_species, scale)
        self.direct_forces = config["forces"] == "direct"
        if self.direct_forces and self.backbone.l_max < 1:
            raise RecipeError(f"forces: direct needs features of degree 1; l_max is {self.backbone.l_max}, raise it")
        self.forces_head = DirectForcesHead(self.backbone.channels if self.direct_forces else 1, scale)
        repulsion = config["repulsion"]
        self.has_repulsion = repulsion is not None
        self.repulsion = ZBLRepulsion(elements, self.backbone.cutoff, (repulsion or REPULSION)["reach"])
        species_of = torch.full((119,), -1, dtype=torch.long)
        species_of[torch.tensor(elements)] = torch.arange(len(elements))
        self.register_buffer("species_of", species_of, persistent=False)
        self.cutoff = float(self.backbone.cutoff)
        self.config = copy.deepcopy(config)
        self.elements = elements
        self.precision = "float32"

    def to_precision(self, precision: str) -> "Potential":
        """Return a copy in precision `float32`, `mixed` or `float64`.

        Raises:
            OptionError: a precision of another name.
        """
        if precision not in PRECISIONS:
            msg = f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}"
            raise OptionError(msg)
        other = copy.deepcopy(self)
        other.precision = precision
        dtype = torch.float64 if precision == "float64" else torch.float32
        for parameter in other.parameters():
            parameter.data = parameter.data.to(dtype)
        other.backbone.set_double_geometry(precision == "mixed")
        if precision == "mixed":
            other.head.double()
        return other

    def save(self, folder: str, **options: Any) -> "Any":
        """Write the potential to `folder`; see `files.save_potential` for the options and errors."""
        return save_potential(self, folder, **options)

    def forward(self, graph: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """Return energy, energies, forces and, for gradient forces, virial, atomic_virial and stress.

        Args:
            graph: `atomic_numbers`, `system_index`, `edge_index`, `edge_vec` and `cell`, all of one device.

        Returns:
            energy [n_systems] eV, energies [n_atoms] eV, forces [n_atoms, 3] eV/Angstrom, virial [n_systems, 3, 3] eV,
            atomic_virial [n_atoms, 3, 3] eV, stress [n_systems, 3, 3] eV/Angstrom^3 (zero where a cell has no volume;
            of a meaning only with full pbc). In training mode forces keep their graph, so that losses on them can be
            differentiated.
        """
        edge_vec = graph["edge_vec"].detach().requires_grad_(not self.direct_forces)
        inputs = dict(graph)
        inputs["edge_vec"] = edge_vec
        inputs["species"] = self.species_of.index_select(0, graph["atomic_numbers"])
        features = self.head(self.backbone(inputs))
        if self.has_repulsion:
            features = self.repulsion(features)
        energies = features["energies"]
        energy = scatter_sum(energies, graph["system_index"], graph["cell"].shape[0])
        out = {"energy": energy, "energies": energies}
        if self.direct_forces:
            out["forces"] = self.forces_head(features)["forces"]
        else:
            gradient = torch.autograd.grad([energy.sum()], [edge_vec], create_graph=self.training)[0]
            if gradient is None:
                raise RuntimeError("the energy does not depend on edge vectors")
            out.update(pair_outputs(gradient, edge_vec.detach(), graph))
        if not self.training:
            out["energy"] = energy.detach()
            out["energies"] = energies.detach()
        return out


def pair_outputs(gradient: Tensor, edge_vec: Tensor, graph: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Forces, virials and stress from dE/d(edge_vec), both [n_edges, 3]; see the module's equations."""
    centre, neighbor = graph["edge_index"][0], graph["edge_index"][1]
    n_atoms = graph["atomic_numbers"].shape[0]
    forces = scatter_sum(gradient, centre, n_atoms).index_add(0, neighbor, -gradient)
    edge_virial = -0.5 * edge_vec.unsqueeze(2) * gradient.unsqueeze(1)
    atomic = scatter_sum(edge_virial.flatten(1), centre, n_atoms).index_add(0, neighbor, edge_virial.flatten(1))
    virial = scatter_sum(atomic, graph["system_index"], graph["cell"].shape[0]).view(-1, 3, 3)
    volume = cell_volume(graph["cell"]).view(-1, 1, 1)
    stress = torch.where(volume > 0.0, -virial / volume.clamp(min=1e-30), torch.zeros_like(virial))
    return {"forces": forces, "virial": virial, "atomic_virial": atomic.view(-1, 3, 3), "stress": stress}


def cell_volume(cell: Tensor) -> Tensor:
    """Volumes [n_systems] (Angstrom^3) of `cell` [n_systems, 3, 3]."""
    a, b, c = cell[:, 0], cell[:, 1], cell[:, 2]
    return (a * torch.linalg.cross(b, c, dim=1)).sum(dim=1).abs()


_TOP_LEVEL = (
    "backbone", "elements", "reference_energies", "scale", "avg_num_neighbors", "forces", "repulsion", "head",
)  # fmt: skip


def build_potential(config: Dict[str, Any], seed: Optional[int] = None) -> Potential:
    """Build a potential with new weights from a plain dict.

    Args:
        config: `backbone` (name and options), `elements` (atomic numbers or symbols), and optionally
            `reference_energies`
            (eV by atomic number or symbol), `scale` (eV), `avg_num_neighbors`, `forces` (`gradient` or `direct`),
            `repulsion`
            (None or {"name": "zbl", "reach": 0.8}).
        seed: seed of the weights; without one they come from torch's generator as it stands.

    Raises:
        RecipeError: a missing or unknown key, an unknown backbone or element, or an option out of range.
    """
    for key in config:
        if key not in _TOP_LEVEL:
            msg = f"unknown key {key!r} in a potential's configuration; valid keys: {', '.join(_TOP_LEVEL)}"
            raise RecipeError(msg)
    _check_parts(config)
    for key in ("backbone", "elements"):
        if not config.get(key):
            msg = f"a potential's configuration needs {key!r}; it has {', '.join(config) or 'nothing'}"
            raise RecipeError(msg)
    if config.get("forces", "gradient") not in ("gradient", "direct"):
        msg = f"forces: {config['forces']!r} in a potential's configuration; choose 'gradient' or 'direct'"
        raise RecipeError(msg)
    config = _resolved(config)
    if seed is None:
        return Potential(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Potential(config)


def _resolved(config: Dict[str, Any]) -> Dict[str, Any]:
    """The configuration with every default written out: what is saved keeps its meaning when a default changes.

    Raises:
        RecipeError: an unknown option or element, or a value of the wrong type.
    """
    elements, scale = config["elements"], config.get("scale", 1.0)
    if not isinstance(elements, (list, tuple)):
        raise RecipeError(f"elements is {elements!r} in a potential's configuration; give a list of symbols or numbers")
    if not _is_number(scale):
        raise RecipeError(f"scale is {scale!r} in a potential's configuration; give a finite number of eV")
    numbers = sorted(atomic_number(element) for element in elements)
    backbone = config["backbone"]
    if isinstance(backbone, dict):
        backbone = {"avg_num_neighbors": config.get("avg_num_neighbors", 10.0), **backbone}
    repulsion = config.get("repulsion")
    return {
        "backbone": resolve_backbone(backbone),
        "elements": numbers,
        "reference_energies": _references(config, numbers),
        "scale": float(scale),
        "forces": config.get("forces", "gradient"),
        "head": {"name": "energy"},
        "repulsion": None if repulsion is None else {**REPULSION, **repulsion},
    }


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _references(config: Dict[str, Any], elements: List[int]) -> Dict[str, float]:
    """Reference energies by atomic number as text (JSON has no other keys); empty where none are given.

    Raises:
        RecipeError: an element without one, or no element at all.
    """
    given = config.get("reference_energies") or {}
    numbers = {int(k) if isinstance(k, str) and k.isdigit() else atomic_number(k): float(v) for k, v in given.items()}
    missing = [chemical_symbols[z] for z in elements if numbers and z not in numbers]
    if missing:
        msg = f"reference_energies lacks {' '.join(missing)}; give one for every element, or none"
        raise RecipeError(msg)
    return {str(z): numbers[z] for z in elements if numbers}


def _check_parts(config: Dict[str, Any]) -> None:
    """Names and options of head and repulsion.

    Raises:
        RecipeError: names the value and what is valid.
    """
    head = (config.get("head") or {}).get("name", "energy")
    if head != "energy":
        msg = f"unknown head {head!r} in a potential's configuration; a potential needs the head 'energy'"
        raise RecipeError(msg)
    repulsion = config.get("repulsion") or {}
    if not isinstance(repulsion, dict):
        msg = f"repulsion is {repulsion!r} in a potential's configuration; give a name and options, or leave it out"
        raise RecipeError(msg)
    if repulsion.get("name", "zbl") != "zbl":
        msg = f"unknown repulsion {repulsion['name']!r} in a potential's configuration; available: 'zbl'"
        raise RecipeError(msg)
    for key in repulsion:
        if key not in ("name", "reach"):
            msg = f"unknown option {key!r} of repulsion 'zbl' in a potential's configuration; valid: 'reach'"
            raise RecipeError(msg)
    reach = repulsion.get("reach", REPULSION["reach"])
    if not (_is_number(reach) and reach > 0.0):
        msg = f"reach = {reach!r} of repulsion 'zbl'; it must be a positive number"
        raise RecipeError(msg)


def atomic_number(element: "int | str") -> int:
    """Atomic number of a symbol or number.

    Raises:
        RecipeError: no such element.
    """
    if isinstance(element, str) and element in chemical_symbols[1:]:
        return chemical_symbols.index(element)
    if isinstance(element, int) and 0 < element < 119:
        return element
    msg = f"unknown element {element!r}; give a symbol such as 'Si' or an atomic number from 1 to 118"
    raise RecipeError(msg)
