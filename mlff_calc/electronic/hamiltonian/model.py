"""The network that predicts Fock matrices, by blocks of atoms and pairs of atoms.

Atoms begin as embeddings of their elements, and layers (`block.py`) pass messages and build features of pairs in their
own frames. The last features fill the blocks (`blocks.py`), which are scaled by what was measured on the data
(`scales.py`), and are symmetric by construction:

    F_ij = R_ij + u(r_ij) s_ij (B_ij + B_ji^T) / 2,        F_ii = R_ii + M_i + s_i B_ii,

with the reference R (the Fock matrix of an initial density, or zero), invariant means M and scales s by element, and an
envelope u that fades out at the cutoff of pairs. Everything is equivariant under rotations and reflections, and smooth.

Matrices that are known may be read as well (`readers.py`): overlaps, the Fock matrix of the initial density, and the
state of a flow (`flow.py`).

Source: Yu et al., "QHNetV2" (2025), with the changes told in `frames.py`, `block.py` and `blocks.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from mlff_calc.electronic.hamiltonian.block import PairBlock, PairGeometry
from mlff_calc.electronic.hamiltonian.blocks import AtomBlocks, PairBlocks
from mlff_calc.electronic.hamiltonian.frames import PairFrames
from mlff_calc.electronic.hamiltonian.keys import FLOW_TIME, FOCK_ATOMS, FOCK_PAIRS, atoms_of, pairs_of
from mlff_calc.electronic.hamiltonian.readers import AtomReader, PairReader
from mlff_calc.electronic.hamiltonian.scales import BlockScales
from mlff_calc.electronic.hamiltonian.start import FirstFeatures
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.graph.keys import Graph
from mlff_calc.networks.base import Network
from mlff_calc.nn.edges import safe_lengths
from mlff_calc.nn.radial import BesselBasis, PolynomialEnvelope

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

TIMES = 16
"""Number of functions of the time of a flow that networks read. Raising it tells neighbouring times apart more sharply."""


class HamiltonianNetwork(Network):
    """A trained or trainable predictor of Fock matrices.

    Create one with `build_hamiltonian` or `load_hamiltonian`.

    Attributes:
        basis: Basis of the orbitals.
        elements: Atomic numbers that it knows.
        settings: Level of the matrices that it was trained on; None where it was not named.
        charge: Charge of the molecules that it was trained on, e.
        shells: Degrees of the shells of a padded block, rising.
        width: Number of orbitals of a padded block.
        cutoff: Longest distance of messages, Angstrom.
        pair_cutoff: Longest distance of pairs whose blocks are predicted, Angstrom.
        inputs: Names of the matrices that it reads: `overlap`, `initial`, `state`.
        needs_initial: Whether its blocks are added to the Fock matrix of an initial density, or read it.
    """

    kind = "hamiltonian"
    units: ClassVar = {"length": "Angstrom", "fock": "Hartree"}
    use = "use `mlff predict`, load_hamiltonian or HamiltonianGuess: it predicts Fock matrices, and gives no forces"
    place: Tensor
    present: Tensor

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.basis = OrbitalBasis.from_dict(config["basis"])
        self.elements, self.width = self.basis.elements, self.basis.width
        self.shells = [degree for degree, count in enumerate(self.basis.multiplicities) for _ in range(count)]
        self.charge = int(config["charge"])
        self.settings: SCFSettings | None = SCFSettings.from_dict(config["settings"]) if config["settings"] else None
        self.cutoff, self.pair_cutoff = float(config["cutoff"]), float(config["pair_cutoff"])
        self.adds_initial = config["target"] == "initial"
        self.inputs: list[str] = [*config["inputs"], *(["state"] if config["flow"] else [])]
        self.needs_initial = self.adds_initial or "initial" in self.inputs
        l_max, channels, hidden = (int(config[key]) for key in ("l_max", "channels", "hidden"))
        scalars, n_layers, n_elements = int(config["scalars"]), int(config["layers"]), len(self.elements)
        self.l_max = l_max
        self.frames = PairFrames(l_max)
        self.radial_basis = BesselBasis(self.pair_cutoff, int(config["n_basis"]))
        self.fade = PolynomialEnvelope(self.pair_cutoff)
        self.reach = PolynomialEnvelope(self.cutoff)
        self.share = max(float(config["avg_num_neighbors"]), 1.0) ** -0.5
        self.embed = nn.Parameter(torch.randn(n_elements, channels))
        self.embed_pairs = nn.Parameter(torch.randn(n_elements, n_elements, scalars))
        self.radial = nn.Sequential(nn.Linear(int(config["n_basis"]), scalars), nn.SiLU(), nn.Linear(scalars, scalars))
        self.start = FirstFeatures(l_max, channels, hidden, scalars)
        self.layers = nn.ModuleList(
            PairBlock(
                l_max, channels, hidden, int(config["products"]), scalars,
                to_atoms=config["product_target"] == "atoms",
            )
            for _ in range(n_layers)
        )  # fmt: skip
        self.pair_blocks = PairBlocks(self.shells, l_max, hidden)
        self.atom_blocks = AtomBlocks(self.shells, l_max, channels)
        self.scales = BlockScales(n_elements, self.shells)
        self.input_scales = nn.ModuleDict({name: BlockScales(n_elements, self.shells) for name in config["inputs"]})
        if self.inputs:
            self.read_pairs = PairReader(self.pair_blocks, hidden, len(self.inputs))
            self.read_atoms = AtomReader(self.shells, l_max, channels, len(self.inputs))
        if config["flow"]:
            self.time = nn.Sequential(nn.Linear(TIMES, scalars), nn.SiLU(), nn.Linear(scalars, scalars))
            self.time_of_atoms = nn.Linear(scalars, channels)
        place = torch.full((max(self.elements) + 1,), -1)
        place[list(self.elements)] = torch.arange(n_elements)
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("present", torch.from_numpy(self.basis.ranks >= 0), persistent=False)

    def forward(self, graph: Graph) -> dict[str, Tensor]:
        """Compute what is to be added to the reference, in Hartree.

        Args:
            graph: Atoms with all pairs within `pair_cutoff` in both directions as edges: `atomic_numbers`, `system_index`,
                `edge_index`, `edge_vec`; blocks of the `inputs` by the keys of `keys.py`, and `flow_time` for a flow.

        Returns:
            `fock_atoms` [n_atoms, width, width] and `fock_pairs` [n_edges, width, width]; entries of orbitals that an
            element does not have mean nothing.
        """
        dtype, order = self.embed.dtype, both_ways(graph["edge_index"])
        index, half = graph["edge_index"].index_select(1, order), len(order) // 2
        species = self.place[graph["atomic_numbers"]]
        ends = species.index_select(0, index.flatten()).view(2, -1)
        vectors = graph["edge_vec"].index_select(0, order[:half])[:, [1, 2, 0]]  # axes of e3nn: m = -l..l about z
        distances = safe_lengths(vectors)
        turns = self.frames((vectors / distances.unsqueeze(1)).to(dtype))
        distances = distances.to(dtype)
        fade = self.fade(distances)
        scalars = self.radial[0](self.radial_basis(distances) * fade.unsqueeze(1)).repeat(2, 1)
        scalars = scalars + self.embed_pairs[ends[0], ends[1]]
        of_atoms = self.embed[species]
        if FLOW_TIME in graph:
            time = self.time(times_of(graph[FLOW_TIME]).to(dtype)).index_select(0, graph["system_index"])
            scalars = scalars + time.index_select(0, index[0])
            of_atoms = of_atoms + self.time_of_atoms(time)
        scalars = nn.functional.silu(self.radial[2](self.radial[1](scalars)))
        geometry = PairGeometry(index, turns, scalars, (self.reach(distances) * self.share).repeat(2))
        features, pairs = self.start(of_atoms, geometry)
        fade = fade.repeat(2)[:, None, None]
        if self.inputs:
            atoms, given = self._read(graph, species, ends, order)
            features = features + self.read_atoms(atoms)
            pairs = pairs + self.read_pairs(given * fade, self.pair_blocks.turns_of_all(turns), self.pair_blocks.fill)
        for layer in self.layers:
            features, pairs = layer(features, pairs, geometry)
        blocks = self.pair_blocks(pairs, turns) * fade
        atoms, blocks = self.scales.multiply(self.atom_blocks(features), blocks, species, ends)
        return {FOCK_ATOMS: atoms, FOCK_PAIRS: blocks.index_select(0, torch.argsort(order))}

    def scales_of(self, name: str) -> BlockScales:
        """Means and scales of a matrix that is read."""
        found = self.input_scales[name]
        if not isinstance(found, BlockScales):
            raise TypeError(f"the scales of {name} are a {type(found).__name__}")
        return found

    def predict(
        self,
        molecules: Sequence[Atoms],
        overlaps: Sequence[NDArray[np.float64]] | None = None,
        initials: Sequence[NDArray[np.float64]] | None = None,
    ) -> list[NDArray[np.float64]]:
        """Predict Fock matrices in our order; see `predict.predict_fock`, whose arguments and errors these are."""
        from mlff_calc.electronic.hamiltonian.predict import predict_fock

        return predict_fock(self, molecules, overlaps=overlaps, initials=initials)

    def species_of(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Numbers of the elements of atoms [n_atoms], and of both ends of pairs [2, n_edges]."""
        species = self.place[graph["atomic_numbers"]]
        return species, species.index_select(0, graph["edge_index"].flatten()).view(2, -1)

    def masks(self, species: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Entries that exist [..., width, width] in blocks of atoms and of pairs, as booleans; arguments as for `scales`."""
        of_ends = self.present[ends[0]].unsqueeze(2) & self.present[ends[1]].unsqueeze(1)
        mine = self.present[species]
        return mine.unsqueeze(2) & mine.unsqueeze(1), of_ends

    def _read(self, graph: Graph, species: Tensor, ends: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Blocks of the matrices that are read, in units of their scales [n_inputs, ..., width, width]; pairs by `order`."""
        found = []
        for name in self.inputs:
            atoms, pairs = graph[atoms_of(name)], graph[pairs_of(name)].index_select(0, order)
            if name in self.input_scales:
                atoms, pairs = self.scales_of(name).divide(atoms, pairs, species, ends)
            found.append((atoms.to(self.embed.dtype), pairs.to(self.embed.dtype)))
        return torch.stack([one[0] for one in found]), torch.stack([one[1] for one in found])


def times_of(times: Tensor) -> Tensor:
    """Smooth functions of the time of a flow [n_systems, TIMES]."""
    angles = times.double().unsqueeze(1) * torch.arange(TIMES // 2, device=times.device) * (0.5 * torch.pi)
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)


def both_ways(index: Tensor) -> Tensor:
    """Order of pairs of `index` [2, n_pairs]: those with the lower atom first, then their reverses in the same order."""
    forth = torch.nonzero(index[0] < index[1]).squeeze(1)
    return torch.cat([forth, reverse_of(index).index_select(0, forth)])


def reverse_of(index: Tensor) -> Tensor:
    """Place of the pair (j, i) for each pair (i, j) of `index` [2, n_pairs], which holds both."""
    n = index.max() + 1 if index.numel() else 1
    forth, back = torch.argsort(index[0] * n + index[1]), torch.argsort(index[1] * n + index[0])
    return torch.empty_like(forth).index_copy(0, forth, back)
