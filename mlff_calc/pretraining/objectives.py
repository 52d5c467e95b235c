"""What a backbone is trained for before it has labels: its outputs, and the noise that they are made for.

| objective | learns |
|---|---|
| `denoising` | small noise in positions, from the features of atoms |
| `georecon` | the same, and strong noise from noisy features and the code of the structure without noise |
| `supervised` | energies and forces of a cheap method |

Source: Zaidi et al., "Pre-training via denoising for molecular property prediction" (2023); Yan, Li, Zhang, "GeoRecon"
(2025), arXiv 2506.13174.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from mlff_calc.errors import RecipeError
from mlff_calc.graph.keys import Graph
from mlff_calc.heads import DenoisingHead, EnergyHead, Features
from mlff_calc.nn.scatter import scatter_sum
from mlff_calc.potential.keys import ENERGY, FORCES
from mlff_calc.potential.model import pair_outputs
from mlff_calc.pretraining.code import CODES, POOLINGS, ConstantCode, GraphCode, pooled_features
from mlff_calc.pretraining.decoder import CONDITIONINGS, Decoder
from mlff_calc.pretraining.hinges import Scales
from mlff_calc.pretraining.keys import CLEAN, CODE, CODE_OF, COPY_ROLE, DENOISED, RECONSTRUCTED, RECONSTRUCTION
from mlff_calc.registry import Registry, check_ranges

NOISES: Final = ("cartesian", "fractional", "bond_angle_torsion")
TURN = {"fractional": 2.0, "bond_angle_torsion": 1.0}
"""Standard deviations of torsions about bonds that turn (radian), by noise, where none is given."""


class Pretext(nn.Module):
    """An objective of pretraining: maps a graph with `node_features` to outputs.

    Attributes:
        provides: Keys that it adds.
        degree: Highest degree of features that it reads.
        takes_forces: Whether outputs are derivatives by positions.
        reads_codes: Whether a decoder reads codes of structures without noise.
        sigmas: Standard deviation of the noise of each role of copies that it learns from (Angstrom); empty without noise.
        scales: Scales of moves about bonds before the noise; None without such moves.
    """

    provides: ClassVar[tuple[str, ...]]
    degree: int = 1
    takes_forces: ClassVar[bool] = False
    reads_codes: bool = False
    sigmas: dict[int, float]
    scales: Scales | None = None

    def code(self, graph: Graph) -> Tensor:
        """Return a vector for each system [n_systems, width]: the mean of normalized scalars, or a learned code."""
        return pooled_features(graph)


OBJECTIVES: Registry[Pretext] = Registry("objective", "features")


def _checked(name: str, options: Mapping[str, object], words: Mapping[str, Collection[str]]) -> None:
    """Refuse words and numbers out of range; `sigma` and the like are positive, widths of moves are not negative."""
    for key, known in words.items():
        if options[key] not in known:
            raise RecipeError(f"{key} of objective {name!r} is {options[key]!r}; give one of {', '.join(known)}")
    positive = [key for key in ("sigma", "sigma_reconstruction") if key in options]
    least = {key: 0.0 for key in ("bond", "angle", "torsion", "fixed_torsion") if options.get(key) is not None}
    least |= {key: 1.0 for key in ("decoder_layers",) if key in options} | {key: 0.0 for key in ("width",) if key in options}
    check_ranges(options, f"objective {name!r}", least, positive)


def _scales(noise: str, bond: float, angle: float, torsion: float | None, fixed_torsion: float) -> Scales | None:
    """Return the scales of moves of a kind of noise; None for none."""
    if noise == "cartesian":
        return None
    turn = TURN[noise] if torsion is None else float(torsion)
    return Scales(0.0, 0.0, turn, 0.0) if noise == "fractional" else Scales(bond, angle, turn, fixed_torsion)


@OBJECTIVES.register("denoising")
class Denoising(Pretext):
    """Adds `noise` [n_atoms, 3].

    Args:
        features: Properties of the backbone.
        noise: `cartesian`; `fractional` or `bond_angle_torsion` for moves about bonds first.
        sigma: Noise in positions, Angstrom.
        bond, angle, torsion, fixed_torsion: Moves before it; see `hinges.Scales`. None is 2 (fractional) or 1 radian.
    """

    provides = DenoisingHead.provides

    def __init__(
        self,
        features: Features,
        noise: str = "cartesian",
        sigma: float = 0.04,
        bond: float = 0.058,
        angle: float = 0.129,
        torsion: float | None = None,
        fixed_torsion: float = 0.18,
    ) -> None:
        super().__init__()
        own = {
            "noise": noise, "sigma": sigma, "bond": bond, "angle": angle, "torsion": torsion, "fixed_torsion": fixed_torsion
        }  # fmt: skip
        _checked("denoising", own, {"noise": NOISES})
        self.sigmas = {DENOISED: sigma}
        self.scales = _scales(noise, bond, angle, torsion, fixed_torsion)
        self.head = DenoisingHead(features)
        self.degree = self.head.degree

    def forward(self, graph: Graph) -> dict[str, Tensor]:
        """Find the noise of all atoms."""
        return {"noise": self.head(graph)["noise"]}


@OBJECTIVES.register("georecon")
class GeoRecon(Pretext):
    """Adds `noise` and `reconstruction` [n_atoms, 3], and `code` [n_systems, width].

    Args:
        features: Properties of the backbone.
        noise, sigma, bond, angle, torsion, fixed_torsion: Noise of copies to denoise; see `Denoising`.
        sigma_reconstruction: Noise of copies to reconstruct, Angstrom. Where it is small, atoms alone tell it.
        pooling: Pool of the code, `sum` or `mean`.
        code: `true`, or `constant` for one learned vector for all structures, by which codes are judged.
        width: Number of entries of the code; 0 is the number of channels.
        decoder_layers: Number of layers of the decoder.
        conditioning: How the code enters the decoder, `fusion` or `adaptive_norm`.
    """

    provides = (*DenoisingHead.provides, RECONSTRUCTION, CODE)

    def __init__(
        self,
        features: Features,
        noise: str = "cartesian",
        sigma: float = 0.04,
        bond: float = 0.058,
        angle: float = 0.129,
        torsion: float | None = None,
        fixed_torsion: float = 0.18,
        sigma_reconstruction: float = 0.2,
        pooling: str = "sum",
        code: str = "true",
        width: int = 0,
        decoder_layers: int = 1,
        conditioning: str = "fusion",
    ) -> None:
        super().__init__()
        own = {
            "noise": noise, "sigma": sigma, "bond": bond, "angle": angle, "torsion": torsion, "fixed_torsion": fixed_torsion,
            "sigma_reconstruction": sigma_reconstruction, "pooling": pooling, "code": code, "width": width,
            "decoder_layers": decoder_layers, "conditioning": conditioning,
        }  # fmt: skip
        words = {"noise": NOISES, "pooling": POOLINGS, "code": CODES, "conditioning": CONDITIONINGS}
        _checked("georecon", own, words)
        self.sigmas = {CLEAN: 0.0, RECONSTRUCTED: sigma_reconstruction, DENOISED: sigma}
        self.scales = _scales(noise, bond, angle, torsion, fixed_torsion)
        width = width or features.channels
        self.reads_codes = code == "true"
        self.pool = GraphCode(features.channels, width, pooling) if self.reads_codes else ConstantCode(width)
        self.head = DenoisingHead(features)
        self.degree = self.head.degree
        self.decoder = Decoder(features, width, decoder_layers, conditioning)

    def code(self, graph: Graph) -> Tensor:
        """Return codes [n_systems, width]."""
        found: Tensor = self.pool(graph)
        return found

    def forward(self, graph: Graph) -> dict[str, Tensor]:
        """Find the noise of all atoms, and of copies to reconstruct (all where `copy_role` is absent) also by the decoder.

        A graph may bring `code` [n_systems, width] in place of the codes of its own structures.
        """
        codes = graph[CODE].to(self.decoder.head.vectors.first.weight.dtype) if CODE in graph else self.code(graph)
        found = torch.zeros((graph["species"].shape[0], 3), dtype=torch.float64, device=codes.device)
        if COPY_ROLE not in graph:
            found = self.decoder(graph["node_features"], codes, _plain(graph))
        elif bool((graph[COPY_ROLE] == RECONSTRUCTED).any()):
            part, atoms = _systems(graph, graph[COPY_ROLE] == RECONSTRUCTED)
            own = codes.index_select(0, part.pop(CODE_OF))
            noise = self.decoder(graph["node_features"].index_select(0, atoms), own, part)
            found = found.index_copy(0, atoms, noise)
        return {"noise": self.head(graph)["noise"], RECONSTRUCTION: found, CODE: codes}


_DECODED = ("atomic_numbers", "species", "system_index", "positions", "edge_index", "edge_vec", "cell", "pbc")


def _plain(graph: Graph) -> Graph:
    """The graph without features and whatever else layers of a decoder must not see."""
    return {name: graph[name] for name in _DECODED}


def _systems(graph: Graph, chosen: Tensor) -> tuple[Graph, Tensor]:
    """Some systems of a graph, with `code_of` as it was, and the rows of their atoms."""
    systems = chosen.nonzero().squeeze(1)
    index, edges = graph["system_index"], graph["edge_index"]
    of_atoms = chosen.index_select(0, index)
    atoms = of_atoms.nonzero().squeeze(1)
    rows = of_atoms.index_select(0, edges[0]).nonzero().squeeze(1)
    numbers, places = chosen.cumsum(0) - 1, of_atoms.cumsum(0) - 1
    kept = edges.index_select(1, rows)
    part = {name: graph[name].index_select(0, atoms) for name in ("atomic_numbers", "species", "positions")}
    part |= {name: graph[name].index_select(0, systems) for name in ("cell", "pbc", CODE_OF)}
    part["system_index"] = numbers.index_select(0, index.index_select(0, atoms))
    part["edge_index"] = places.index_select(0, kept.flatten()).view(2, -1)
    part["edge_vec"] = graph["edge_vec"].index_select(0, rows)
    return part, atoms


@OBJECTIVES.register("supervised")
class Supervised(Pretext):
    """Adds `energy` [n_systems] (eV) and `forces` [n_atoms, 3] (eV/Angstrom), the gradient of the energy.

    Args:
        features: Properties of the backbone, with reference energies.
        scale: Scale of the learned part of energies, eV.
    """

    provides = (ENERGY, FORCES)
    degree = 0
    takes_forces = True

    def __init__(self, features: Features, scale: float = 1.0) -> None:
        super().__init__()
        check_ranges({"scale": scale}, "objective 'supervised'", {}, ["scale"])
        self.sigmas = {}
        self.head = EnergyHead(features, scale)

    def forward(self, graph: Graph) -> dict[str, Tensor]:
        """Compute energies and forces; in training mode forces keep their graph."""
        energies = self.head(graph)["energies"]
        energy = scatter_sum(energies, graph["system_index"], graph["cell"].shape[0])
        edge_vec = graph["edge_vec"]
        gradient = torch.autograd.grad(energy.sum(), edge_vec, create_graph=self.training)[0]
        forces = pair_outputs(gradient, edge_vec.detach(), graph)["forces"]
        found = {ENERGY: energy, FORCES: forces}
        return found if self.training else {name: value.detach() for name, value in found.items()}
