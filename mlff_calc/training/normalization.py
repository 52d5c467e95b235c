"""Normalization of the weights inside a fixed-point map, which changes how the optimizer steps them.

A potential always holds plain weights, so that it is validated, averaged, saved and compiled like any other.
Normalization, as requested by the option `normalization` of the backbone, acts only around the optimizer's step.

| name | effect |
|---|---|
| `weight` | a column of a matrix is w = g v / |v|; the optimizer steps g and v, with gradients derived from that of w |
| `spectral` | a matrix whose largest singular value s exceeds its limit is divided by s / limit |

With `weight`, dg = w' . v/|v| and dv = (g/|v|) (w' - dg v/|v|) where w' is the gradient by w. Weight decay acts on g, where
it has its usual effect, and not on v, whose length has no meaning.

With `spectral`, the limit is the largest singular value expected of a new random matrix with variance 1/n_in,
1 + sqrt(n_out / n_in), times `feedback` for the first weights that z acts through. s is computed as (tr (W^T
W)^256)^(1/512), which exceeds it by at most 1.4 % (for a thousand rows) and is never below, so the limit holds. It
holds for averages of weights too, since norms are convex. The Jacobian of f also contains factors that are not linear
maps (attention, norms and their scales); the loss term `contraction` limits the whole.

Sources: Salimans and Kingma, "Weight normalization" (2016), Eqs. 2 and 3; Yoshida and Miyato, "Spectral norm regularization"
(2017); Gouk et al., "Regularisation of neural networks by enforcing Lipschitz continuity" (2021), for the projection.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.backbones.maps import LinearMap
from mlff_calc.potential.fixed_point import FixedPointPotential

_SQUARINGS = 8  # squarings of the Gram matrix for the largest singular value; more of them make it more accurate
_TINY = 1e-30  # lower bound of norms, which avoids division by zero; larger: small norms are changed

NamedParameters = list[tuple[str, nn.Parameter]]


class Normalization:
    """No normalization: the optimizer steps the weights themselves. Base of the others.

    Args:
        maps: linear maps inside f, with names as in the potential.
    """

    def __init__(self, maps: list[LinearMap]) -> None:
        self.maps = [one for one in maps if one.weight.requires_grad]

    def coordinates(self, named: NamedParameters, decayed: set[str]) -> tuple[NamedParameters, set[str]]:
        """Return the named parameters that the optimizer steps instead of weights, and the names of those that decay."""
        return named, decayed

    def pull(self) -> None:
        """Turn gradients by the weights into gradients by the coordinates, before a step."""

    def write(self) -> None:
        """Compute the weights from the coordinates and limits, after a step."""

    def state_dict(self) -> dict[str, Tensor]:
        """State for a checkpoint that the weights do not contain."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore a saved state."""


class WeightNormalization(Normalization):
    """Columns of matrices as length times direction."""

    def __init__(self, maps: list[LinearMap]) -> None:
        super().__init__(maps)
        with torch.no_grad():
            self.directions = [nn.Parameter(one.weight.detach().clone()) for one in self.maps]
            self.lengths = [nn.Parameter(_norm(one, one.weight)) for one in self.maps]

    def coordinates(self, named: NamedParameters, decayed: set[str]) -> tuple[NamedParameters, set[str]]:
        """Return lengths (which decay where the weight does) and directions in place of weights."""
        own = {one.name: i for i, one in enumerate(self.maps)}
        found: NamedParameters = []
        for name, parameter in named:
            if name in own:
                found.append((f"{name}.length", self.lengths[own[name]]))
                found.append((f"{name}.direction", self.directions[own[name]]))
            else:
                found.append((name, parameter))
        return found, {f"{name}.length" if name in own else name for name in decayed}

    @torch.no_grad()
    def pull(self) -> None:
        """Compute gradients by lengths and directions from those by weights, which are removed."""
        for one, direction, length in zip(self.maps, self.directions, self.lengths, strict=True):
            gradient = one.weight.grad
            if gradient is None:
                length.grad = direction.grad = None
                continue
            size = _norm(one, direction).clamp(min=_TINY)
            unit = direction / size
            length.grad = (gradient * unit).sum(dim=one.input_dim, keepdim=True)
            direction.grad = (length / size) * (gradient - length.grad * unit)
            one.weight.grad = None

    @torch.no_grad()
    def write(self) -> None:
        """Compute weights from lengths and directions."""
        for one, direction, length in zip(self.maps, self.directions, self.lengths, strict=True):
            one.weight.copy_(direction * (length / _norm(one, direction).clamp(min=_TINY)))

    def state_dict(self) -> dict[str, Tensor]:
        """Lengths and directions."""
        names, _ = self.coordinates([(one.name, one.weight) for one in self.maps], set())
        return {name: parameter.detach() for name, parameter in names}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore lengths and directions."""
        for name, parameter in self.coordinates([(one.name, one.weight) for one in self.maps], set())[0]:
            parameter.copy_(state[name])


class SpectralNormalization(Normalization):
    """Limit on the largest singular values of matrices."""

    @torch.no_grad()
    def write(self) -> None:
        """Scale matrices beyond their limit back."""
        for one in self.maps:
            factor = one.limit / largest_singular_value(one.weight).clamp(min=_TINY)
            one.weight.mul_(factor.clamp(max=1.0))


KINDS = {"none": Normalization, "weight": WeightNormalization, "spectral": SpectralNormalization}


def build_normalization(network: nn.Module) -> Normalization:
    """Build the normalization that the backbone of a potential asks for; one without effect for all other networks."""
    if not isinstance(network, FixedPointPotential):
        return Normalization([])
    maps = [one._replace(name=f"backbone.{one.name}") for one in network.backbone.linear_maps()]
    return KINDS[network.backbone.normalization](maps)


def largest_singular_value(weight: Tensor) -> Tensor:
    """Largest singular values of matrices [..., n, m] as [..., 1, 1], bounded from above within min(n, m)^(1/512)."""
    wide = weight.shape[-1] > weight.shape[-2]
    gram = weight @ weight.mT if wide else weight.mT @ weight
    logarithm = torch.zeros_like(gram[..., :1, :1])
    for power in range(_SQUARINGS + 1):
        trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None].clamp(min=_TINY)
        logarithm = logarithm + torch.log(trace) * 0.5**power
        gram = gram / trace
        if power < _SQUARINGS:
            gram = gram @ gram
    return torch.exp(0.5 * logarithm)


def _norm(one: LinearMap, weight: Tensor) -> Tensor:
    return torch.linalg.vector_norm(weight, dim=one.input_dim, keepdim=True)
