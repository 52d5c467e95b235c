"""The network that predicts Fock matrices, by blocks of atoms and pairs of atoms.

Atoms begin as embeddings of their elements, and layers (`block.py`) pass messages and build features of pairs in their own frames. The last
features fill the blocks (`blocks.py`), which are scaled by what was measured on the data, and are symmetric by construction:

    F_ij = R_ij + u(r_ij) s_ij (B_ij + B_ji^T) / 2,        F_ii = R_ii + M_i + s_i B_ii,

with the reference R (the Fock matrix of an initial density, or zero), invariant means M and scales s by element, and an
envelope u that fades out at the cutoff of pairs. Everything is equivariant under rotations and reflections, and smooth.

Source: Yu et al., "QHNetV2" (2025), with the changes told in `frames.py`, `block.py` and `blocks.py`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mlff_calc.electronic.hamiltonian.block import PairBlock, PairGeometry
from mlff_calc.electronic.hamiltonian.blocks import AtomBlocks, PairBlocks
from mlff_calc.electronic.hamiltonian.frames import PairFrames
from mlff_calc.graph.keys import Graph
from mlff_calc.networks.base import Network
from mlff_calc.nn.edges import safe_lengths
from mlff_calc.nn.radial import BesselBasis, PolynomialEnvelope

FOCK_ATOMS = "fock_atoms"
FOCK_PAIRS = "fock_pairs"


class HamiltonianNetwork(Network):
    """A trained or trainable predictor of Fock matrices.

    Create one with `build_hamiltonian` or `load_hamiltonian`.

    Attributes:
        elements: Atomic numbers that it knows, rising.
        shells: Degrees of the shells of a padded block, rising.
        width: Number of orbitals of a padded block.
        cutoff: Longest distance of messages, Angstrom.
        pair_cutoff: Longest distance of pairs whose blocks are predicted, Angstrom.
        needs_initial: Whether its blocks are added to the Fock matrix of an initial density.
    """

    kind = "hamiltonian"
    units: ClassVar = {"length": "Angstrom", "fock": "Hartree"}
    use = "use load_hamiltonian or HamiltonianGuess: it predicts Fock matrices, and gives no forces"
    atom_means: Tensor
    atom_scales: Tensor
    pair_scales: Tensor
    place: Tensor

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.elements: list[int] = list(config["elements"])
        self.shells: list[int] = list(config["padded_shells"])
        self.width = sum(2 * degree + 1 for degree in self.shells)
        self.cutoff, self.pair_cutoff = float(config["cutoff"]), float(config["pair_cutoff"])
        self.needs_initial = config["target"] == "initial"
        l_max, channels, hidden = (int(config[key]) for key in ("l_max", "channels", "hidden"))
        scalars, n_layers, n_elements = int(config["scalars"]), int(config["layers"]), len(self.elements)
        self.l_max = l_max
        self.frames = PairFrames(l_max)
        self.basis = BesselBasis(self.pair_cutoff, int(config["n_basis"]))
        self.fade = PolynomialEnvelope(self.pair_cutoff)
        self.reach = PolynomialEnvelope(self.cutoff)
        self.share = max(float(config["avg_num_neighbors"]), 1.0) ** -0.5
        self.embed = nn.Parameter(torch.randn(n_elements, channels))
        self.embed_pairs = nn.Parameter(torch.randn(n_elements, n_elements, scalars))
        self.radial = nn.Sequential(nn.Linear(int(config["n_basis"]), scalars), nn.SiLU(), nn.Linear(scalars, scalars))
        self.layers = nn.ModuleList(
            PairBlock(
                l_max, channels, hidden, int(config["products"]), scalars,
                to_atoms=config["product_target"] == "atoms", first=k == 0,
            )
            for k in range(n_layers)
        )  # fmt: skip
        self.pair_blocks = PairBlocks(self.shells, l_max, hidden)
        self.atom_blocks = AtomBlocks(self.shells, l_max, channels)
        place = torch.full((max(self.elements) + 1,), -1)
        place[torch.tensor(self.elements)] = torch.arange(n_elements)
        self.register_buffer("place", place, persistent=False)
        square = (self.width, self.width)
        self.register_buffer("atom_means", torch.zeros(n_elements, *square, dtype=torch.float64))
        self.register_buffer("atom_scales", torch.ones(n_elements, *square, dtype=torch.float64))
        self.register_buffer("pair_scales", torch.ones(n_elements, n_elements, *square, dtype=torch.float64))

    def forward(self, graph: Graph) -> dict[str, Tensor]:
        """Compute what is to be added to the reference, in Hartree.

        Args:
            graph: Atoms with all pairs within `pair_cutoff` in both directions as edges: `atomic_numbers`, `edge_index`, `edge_vec`.

        Returns:
            `fock_atoms` [n_atoms, width, width] and `fock_pairs` [n_edges, width, width]; entries of padded orbitals mean nothing.
        """
        dtype = self.embed.dtype
        index, species = graph["edge_index"], self.place[graph["atomic_numbers"]]
        first, second = species.index_select(0, index[0]), species.index_select(0, index[1])
        vectors = graph["edge_vec"][:, [1, 2, 0]]  # axes of e3nn, whose components are then m = -l..l about z
        distances = safe_lengths(vectors)
        turns = self.frames((vectors / distances.unsqueeze(1)).to(dtype))
        distances = distances.to(dtype)
        fade = self.fade(distances)
        scalars = self.radial[0](self.basis(distances) * fade.unsqueeze(1)) + self.embed_pairs[first, second]
        scalars = nn.functional.silu(self.radial[2](self.radial[1](scalars)))
        geometry = PairGeometry(index, turns, scalars, self.reach(distances) * self.share)
        n_rest = (self.l_max + 1) ** 2 - 1
        features, pairs = nn.functional.pad(self.embed[species][:, None, None], [0, 0, 0, n_rest, 0, 1]), None
        for layer in self.layers:
            features, pairs = layer(features, pairs, geometry)
        blocks = self.pair_blocks(pairs, turns)
        blocks = (blocks + blocks.transpose(1, 2).index_select(0, reverse_of(index))) * (0.5 * fade[:, None, None])
        atoms = self.atom_blocks(features) * self.atom_scales[species].to(dtype)
        return {
            FOCK_ATOMS: atoms + self.atom_means[species].to(dtype),
            FOCK_PAIRS: blocks * self.pair_scales[first, second].to(dtype),
        }


def reverse_of(index: Tensor) -> Tensor:
    """Place of the pair (j, i) for each pair (i, j) of `index` [2, n_pairs], which holds both."""
    n = index.max() + 1 if index.numel() else 1
    forth, back = torch.argsort(index[0] * n + index[1]), torch.argsort(index[1] * n + index[0])
    return torch.empty_like(forth).index_copy(0, forth, back)
