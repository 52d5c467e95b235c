"""The contract of a map f(z; x) whose fixed point a deep-equilibrium backbone solves for.

A map takes the last layers of a stack, an ordinary backbone. The layers before them (the prelude) and the embedding give
u(x); f adds to u what its first layer makes of a bounded z, so that f is bounded for any z. The parameters of a map are
those of f alone, and the state is packed in the way that suits its layers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from mlff_calc.backbones.base import Backbone
from mlff_calc.errors import RecipeError
from mlff_calc.near import suggestion

B = TypeVar("B", bound=Backbone)


class LinearMap(NamedTuple):
    """Linear map inside f that acts on the state.

    Attributes:
        name: name of its weight in the backbone.
        weight: matrices in the last two dimensions.
        input_dim: dimension of the inputs, -2 or -1.
        limit: expected largest singular value of a new random matrix of this shape.
    """

    name: str
    weight: nn.Parameter
    input_dim: int
    limit: float


class FixedPointMap(nn.Module, ABC, Generic[B]):
    """The map of a fixed point.

    Attributes:
        stack_class: class of the backbone whose layers are repeated.
        left_out: options of that backbone that a fixed point does not have.
        scaled: names of the weights that begin scaled by `feedback`, because z acts through them.
    """

    stack_class: ClassVar[type[Backbone]]
    left_out: ClassVar[frozenset[str]] = frozenset({"n_layers"})
    scaled: ClassVar[tuple[str, ...]] = ()

    def __init__(self, stack: B, n_blocks: int) -> None:
        """Take the last `n_blocks` layers away from `stack`."""
        super().__init__()
        self.blocks = nn.ModuleList(self.taken_from(stack, n_blocks))

    @abstractmethod
    def taken_from(self, stack: B, n_blocks: int) -> list[nn.Module]:
        """Remove the last `n_blocks` layers from a stack and return them."""

    @abstractmethod
    def state_shape(self, stack: B) -> tuple[int, int]:
        """Shape of the packed state of an atom."""

    @abstractmethod
    def hidden(self, stack: B) -> int:
        """Number of channels of an atom's messages, for dropout."""

    @abstractmethod
    def prepare(self, stack: B, graph: dict[str, Tensor]) -> list[Tensor]:
        """Compute what f needs to know of a structure: u `[n_atoms, *state_shape]` first, then tensors of floats."""

    @abstractmethod
    def forward(
        self, state: Tensor, edge_index: Tensor, prepared: list[Tensor], nodes: Tensor | None = None
    ) -> Tensor:
        """Map `state` `[n_atoms, *state_shape]` to the same shape, with the result of `prepare`."""

    @abstractmethod
    def read(self, stack: B, state: Tensor) -> Tensor:
        """Read node features [n_atoms, (l_max+1)^2, channels] from a state."""

    @abstractmethod
    def acts_on_state(self, path: str, module: nn.Module, name: str) -> bool:
        """Whether a weight of at least two dimensions is a linear map that acts on the state."""

    def scale(self, feedback: float) -> None:
        """Multiply the weights `scaled` by `feedback`."""
        with torch.no_grad():
            for name in self.scaled:
                self.get_parameter(name).mul_(feedback)

    def linear_maps(self, feedback: float) -> list[LinearMap]:
        """List the linear maps that act on the state; maps that read only geometry are not included."""
        found = []
        for path, module in self.named_modules():
            for name, weight in module.named_parameters(recurse=False):
                if weight.dim() < 2 or weight.numel() == 0 or not self.acts_on_state(path, module, name):
                    continue
                input_dim = -1 if isinstance(module, nn.Linear) else -2
                n_in, n_out = weight.shape[input_dim], weight.shape[-3 - input_dim]
                limit = 1.0 + math.sqrt(n_out / max(n_in, 1))
                if f"{path}.{name}" in self.scaled:
                    limit = feedback * limit
                found.append(LinearMap(f"map.{path}.{name}", weight, input_dim, limit))
        return found

    def limit_outputs(self, stack: B, l_max: int) -> None:
        """Announce that no degree above `l_max` is read; see `Backbone.limit_outputs`."""


MAPS: dict[str, type[FixedPointMap[Any]]] = {}
"""Classes of maps by the name of the backbone whose layers they repeat."""


def register_map(name: str) -> Callable[[type[FixedPointMap[Any]]], type[FixedPointMap[Any]]]:
    """Class decorator that makes a map available to `deq` as `block: name`."""

    def register(own: type[FixedPointMap[Any]]) -> type[FixedPointMap[Any]]:
        MAPS[name] = own
        return own

    return register


def map_class(name: object) -> type[FixedPointMap[Any]]:
    """Return the class of a map.

    Raises:
        RecipeError: There is none of that name.
    """
    if not isinstance(name, str) or name not in MAPS:
        hint = suggestion(name, MAPS, before="; ") if isinstance(name, str) else ""
        raise RecipeError(f"backbone deq: block is {name!r}; choose one of {', '.join(sorted(MAPS))}{hint}")
    return MAPS[name]


def pop_last(layers: nn.ModuleList, n: int) -> list[nn.Module]:
    """Remove the last `n` of some layers and return them."""
    first = len(layers) - n
    last = list(layers)[first:]
    del layers[first:]
    return last


def bounded(features: Tensor, over: int | tuple[int, ...]) -> Tensor:
    """Divide features by the root of one plus their mean square over the dimensions `over`, which bounds them."""
    return features * torch.rsqrt(1.0 + features.square().mean(dim=over, keepdim=True))
