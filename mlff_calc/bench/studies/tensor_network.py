"""The network for Fock matrices with tensor products in place of frames of pairs, as a rival of the same width.

Embeddings, radial functions, norms, feed-forward layers, scales, blocks of atoms, targets and loss are those of
`electronic/hamiltonian`. Features of pairs have degrees, in the axes of the molecule; they fill blocks of pairs by
Clebsch-Gordan coefficients, as features of atoms do.

Source: Yu et al., "QHNet" (2023), for pairs in the axes of the molecule and tensor products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mlff_calc.bench.studies.tensor_products import FeatureProduct, HarmonicProduct, Harmonics, KindGate, KindLinear
from mlff_calc.electronic.hamiltonian.atoms import AtomFeedForward, AtomNorm
from mlff_calc.electronic.hamiltonian.block import PairGeometry
from mlff_calc.electronic.hamiltonian.blocks import AtomBlocks
from mlff_calc.electronic.hamiltonian.build import resolve_hamiltonian
from mlff_calc.electronic.hamiltonian.frames import end_signs
from mlff_calc.electronic.hamiltonian.model import HamiltonianNetwork
from mlff_calc.electronic.hamiltonian.readers import AtomReader
from mlff_calc.electronic.hamiltonian.start import FirstFeatures
from mlff_calc.nn.scatter import scatter_sum


class TensorBlock(nn.Module):
    """One layer; for the arguments see `PairBlock`."""

    signs: Tensor

    def __init__(
        self, l_max: int, channels: int, hidden: int, products: int, n_scalars: int, *, to_atoms: bool = True
    ) -> None:
        super().__init__()
        self.register_buffer("signs", end_signs(l_max)[0, :, 0], persistent=False)
        self.widths = [hidden, products, products]
        self.n_sent = hidden + (products if to_atoms else 0)
        self.norm = AtomNorm(l_max, channels)
        self.first, self.second = KindLinear(l_max, channels, channels), KindLinear(l_max, channels, channels)
        self.read_atoms = HarmonicProduct(l_max, channels, sum(self.widths), n_scalars)
        self.pair_norm = AtomNorm(l_max, hidden)
        self.read_pairs = KindLinear(l_max, hidden, sum(self.widths))
        self.inject = nn.Linear(n_scalars, sum(self.widths))
        self.gate = KindGate(l_max, hidden)
        self.product = FeatureProduct(l_max, products) if products else None
        self.to_pairs = KindLinear(l_max, hidden + products, hidden)
        self.message = KindLinear(l_max, self.n_sent, channels)
        self.atom_norm = AtomNorm(l_max, channels)
        self.feed_forward = AtomFeedForward(l_max, channels, channels)

    def forward(self, features: Tensor, pairs: Tensor, geometry: PairGeometry) -> tuple[Tensor, Tensor]:
        """Update the features of atoms [n_atoms, 2, (l_max+1)^2, channels] and pairs [n_pairs, 2, (l_max+1)^2, hidden].

        Args:
            features: Features of atoms.
            pairs: Features of pairs.
            geometry: Geometry of the pairs, with spherical harmonics of the first half of the pairs in `turns`.
        """
        (to, source), forth, scalars, weights = geometry
        harmonics = torch.cat([forth, forth * self.signs.to(forth.dtype)])
        normed = self.norm(features)
        ends = self.first(normed).index_select(0, to) + self.second(normed).index_select(0, source)
        seen = self.read_atoms(ends, harmonics, scalars) + self.read_pairs(self.pair_norm(pairs))
        seen = seen + nn.functional.pad(self.inject(scalars)[:, None, None], [0, 0, 0, seen.shape[2] - 1, 0, 1])
        gated, one, two = seen.split(self.widths, dim=3)
        made = self.gate(gated)
        if self.product is not None:
            made = torch.cat([made, self.product(one, two)], dim=3)
        sent = self.message(made[..., : self.n_sent]) * weights[:, None, None, None]
        features = features + scatter_sum(sent, to, len(features))
        return features + self.feed_forward(self.atom_norm(features)), pairs + self.to_pairs(made)


class TensorStart(FirstFeatures):
    """First features; those of pairs are true scalars in the axes of the molecule."""

    def of_pairs(self, scalars: Tensor) -> Tensor:
        """Features [n_pairs, 2, (l_max+1)^2, hidden] whose only components are scalars [n_pairs, hidden]."""
        return nn.functional.pad(scalars[:, None, None], [0, 0, 0, (self.l_max + 1) ** 2 - 1, 0, 1])

    def harmonics(self, turns: Tensor) -> Tensor:
        """Spherical harmonics, which are given as `turns`."""
        return turns


class TensorBlocks(AtomBlocks):
    """Blocks of pairs from their features by Clebsch-Gordan coefficients, without frames."""

    def forward(self, features: Tensor, turns: Tensor | None = None) -> Tensor:
        """Compute blocks [n_pairs, width, width], each the transpose of that of its reverse; `turns` are not used.

        Args:
            features: Features of pairs [n_pairs, 2, (l_max+1)^2, hidden].
            turns: What `PairBlocks` takes.
        """
        del turns
        forth, back = self.expand(features).chunk(2)
        forth = 0.5 * (forth + back.transpose(1, 2))
        return torch.cat([forth, forth.transpose(1, 2)])

    def turns_of_all(self, turns: Tensor) -> Tensor:
        """What the reader of blocks gets, which needs nothing."""
        return turns


class TensorReader(AtomReader):
    """Features of pairs from blocks that are given in the axes of the molecule."""

    def forward(self, given: Tensor, turn: Tensor | None = None, fill: Tensor | None = None) -> Tensor:
        """Read blocks [matrices, n_pairs, width, width]; see `PairReader`, of which frames are not needed here."""
        del turn, fill
        return super().forward(given)


class TensorNetwork(HamiltonianNetwork):
    """The rival, with the configuration of a `HamiltonianNetwork`."""

    kind = "tensor_hamiltonian"
    use = "it is the rival of a study and is only compared: train a `hamiltonian` for use"

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        l_max, channels, hidden, scalars = (int(config[key]) for key in ("l_max", "channels", "hidden", "scalars"))
        to_atoms = config["product_target"] == "atoms"
        layers = [
            TensorBlock(l_max, channels, hidden, int(config["products"]), scalars, to_atoms=to_atoms)
            for _ in range(int(config["layers"]))
        ]
        parts: dict[str, nn.Module] = {
            "frames": Harmonics(l_max), "start": TensorStart(l_max, channels, hidden, scalars),
            "layers": nn.ModuleList(layers), "pair_blocks": TensorBlocks(self.shells, l_max, hidden),
        }  # fmt: skip
        if self.inputs:
            parts["read_pairs"] = TensorReader(self.shells, l_max, hidden, len(self.inputs))
        for name, part in parts.items():
            self.add_module(name, part)


def build_tensor_network(config: dict[str, Any], seed: int | None = None) -> TensorNetwork:
    """Build the rival; arguments and errors are those of `build_hamiltonian`."""
    return TensorNetwork.seeded(resolve_hamiltonian(config), seed)
