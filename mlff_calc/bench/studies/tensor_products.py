"""Layers that do by tensor products of e3nn what `electronic/hamiltonian` does in the frames of pairs.

Features of atoms and pairs are [n, 2, (l_max+1)^2, channels], true ones and pseudo ones, in the axes of the molecule. Their
products with spherical harmonics of the pair, with a weight from its scalars for each path and channel, take the place of
linear maps in its frame; products of features take the place of those of orders.

Source: Yu et al., "QHNet" (2023); Geiger and Smidt, "e3nn" (2022).
"""

from __future__ import annotations

import torch
from e3nn import o3
from torch import Tensor, nn

from mlff_calc.electronic.orbitals.rearrange import inverse, rearrange
from mlff_calc.nn.degree import degree_index
from mlff_calc.nn.harmonics import SphericalHarmonics


def irreps_of(l_max: int, channels: int) -> o3.Irreps:
    """Irreducible representations of true features by rising degree, then those of pseudo ones."""
    kinds = [(degree, sign * (-1) ** degree) for sign in (1, -1) for degree in range(l_max + 1)]
    return o3.Irreps([(channels, kind) for kind in kinds])


class Layout(nn.Module):
    """Order of components: ours, or that of e3nn, in which the components of a channel stand together.

    Args:
        l_max: Highest degree.
        channels: Channels of each parity.
    """

    forth: Tensor
    back: Tensor

    def __init__(self, l_max: int, channels: int) -> None:
        super().__init__()
        self.shape = 2, (l_max + 1) ** 2, channels
        places = torch.arange(2 * (l_max + 1) ** 2 * channels).view(self.shape)
        sizes = [2 * degree + 1 for degree in range(l_max + 1)]
        forth = torch.cat([part.t().flatten() for parity in places for part in parity.split(sizes)])
        self.register_buffer("forth", forth, persistent=False)
        self.register_buffer("back", inverse(forth, len(forth)), persistent=False)

    def to_e3nn(self, features: Tensor) -> Tensor:
        """Map [n, 2, (l_max+1)^2, channels] to rows [n, 2 (l_max+1)^2 channels] of `irreps_of`."""
        return rearrange(features.flatten(1), self.forth, self.back, dim=1)

    def to_ours(self, rows: Tensor) -> Tensor:
        """Reverse of `to_e3nn`."""
        return rearrange(rows, self.back, self.forth, dim=1).view(-1, *self.shape)


class Harmonics(nn.Module):
    """Spherical harmonics of all degrees, each with norm 1.

    Args:
        l_max: Highest degree.
    """

    def __init__(self, l_max: int) -> None:
        super().__init__()
        self.above = SphericalHarmonics(l_max)

    def forward(self, directions: Tensor) -> Tensor:
        """Compute [n, (l_max+1)^2] of unit vectors [n, 3]."""
        return torch.cat([torch.ones_like(directions[:, :1]), self.above(directions)], dim=1)


class HarmonicProduct(nn.Module):
    """Tensor product with spherical harmonics, with weights from scalars, then a linear map of all paths.

    Args:
        l_max: Highest degree of features and harmonics.
        channels: Channels of the features, for each parity.
        width: Channels of the result, for each parity.
        n_scalars: Number of scalars of a pair.
    """

    def __init__(self, l_max: int, channels: int, width: int, n_scalars: int) -> None:
        super().__init__()
        given, harmonics = irreps_of(l_max, channels), o3.Irreps.spherical_harmonics(l_max)
        kept = irreps_of(l_max, 1)
        paths = [
            (i, j, (channels, kind))
            for i, (_, one) in enumerate(given)
            for j, (_, two) in enumerate(harmonics)
            for kind in one * two
            if kind in kept
        ]
        paths.sort(key=lambda path: [kind for _, kind in kept].index(path[2][1]))  # paths of a kind stand together
        steps = [(i, j, k, "uvu", True) for k, (i, j, _) in enumerate(paths)]
        self.product = o3.TensorProduct(
            given, harmonics, o3.Irreps([result for _, _, result in paths]), steps,
            in2_var=[1.0 / kind.dim for _, kind in harmonics], shared_weights=False, internal_weights=False,
        )  # fmt: skip
        self.weights = nn.Linear(n_scalars, self.product.weight_numel)
        self.mix = o3.Linear(self.product.irreps_out.simplify(), irreps_of(l_max, width))
        self.given, self.made = Layout(l_max, channels), Layout(l_max, width)
        with torch.no_grad():
            self.weights.bias.fill_(1.0)

    def forward(self, features: Tensor, harmonics: Tensor, scalars: Tensor) -> Tensor:
        """Multiply [n_pairs, 2, (l_max+1)^2, channels] and [n_pairs, (l_max+1)^2] to [n_pairs, 2, (l_max+1)^2, width]."""
        product = self.product(self.given.to_e3nn(features), harmonics, self.weights(scalars))
        return self.made.to_ours(self.mix(product))


class FeatureProduct(nn.Module):
    """Tensor product of two features, channel by channel, with a weight for each path and channel.

    Args:
        l_max: Highest degree of both factors and of the product.
        channels: Channels of each parity.
    """

    def __init__(self, l_max: int, channels: int) -> None:
        super().__init__()
        kinds = irreps_of(l_max, channels)
        places = {kind: k for k, (_, kind) in enumerate(kinds)}
        steps = [
            (i, j, places[kind], "uuu", True)
            for i, (_, one) in enumerate(kinds)
            for j, (_, two) in enumerate(kinds)
            for kind in one * two
            if kind in places
        ]
        self.product = o3.TensorProduct(kinds, kinds, kinds, steps)
        self.layout = Layout(l_max, channels)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Multiply two features [n, 2, (l_max+1)^2, channels] to one of the same shape."""
        product = self.product(self.layout.to_e3nn(first), self.layout.to_e3nn(second))
        return self.layout.to_ours(product)


class KindLinear(nn.Module):
    """Linear map with one matrix for each degree and parity.

    Args:
        l_max: Highest degree.
        fan_in, fan_out: Channels of each parity.
    """

    kinds: Tensor

    def __init__(self, l_max: int, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2 * (l_max + 1), fan_in, fan_out) / fan_in**0.5)
        self.register_buffer("kinds", kinds_of(l_max), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map [n, 2, (l_max+1)^2, fan_in] to [n, 2, (l_max+1)^2, fan_out]."""
        mapped = torch.bmm(features.flatten(1, 2).transpose(0, 1), self.weight.index_select(0, self.kinds))
        return mapped.transpose(0, 1).unflatten(1, (2, -1))


class KindGate(nn.Module):
    """Gate: SiLU of true scalars, and everything else times the sigmoid of a linear map of them.

    Args:
        l_max: Highest degree.
        channels: Channels of each parity.
    """

    kinds: Tensor

    def __init__(self, l_max: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.gates = nn.Linear(channels, (2 * l_max + 1) * channels)
        self.register_buffer("kinds", kinds_of(l_max)[1:] - 1, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Gate [n, 2, (l_max+1)^2, channels]."""
        scalars, rest = features.flatten(1, 2).split([1, len(self.kinds)], dim=1)
        opened = torch.sigmoid(self.gates(scalars[:, 0])).view(len(features), -1, self.channels)
        gated = torch.cat([nn.functional.silu(scalars), rest * opened.index_select(1, self.kinds)], dim=1)
        return gated.view_as(features)


def kinds_of(l_max: int) -> Tensor:
    """Number of degree and parity of each component of true and pseudo features [2 (l_max+1)^2]."""
    degrees = torch.tensor(degree_index(l_max))
    return torch.cat([degrees, degrees + l_max + 1])
