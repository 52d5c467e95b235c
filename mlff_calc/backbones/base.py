"""The contract of a backbone, and the registry through which recipes name one."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from mlff_calc.errors import RecipeError


class Backbone(nn.Module):
    """Graph to node features.

    A subclass takes its options as keyword arguments, the number of species among them, and defines
    `forward(graph) -> graph`, which adds `node_features` [n_atoms, (l_max+1)^2, channels]. It reads `species`,
    `edge_index` and
    `edge_vec`, sends messages to `edge_index[0]` only and calls `nn.scatter.exchange` between layers.

    Attributes:
        cutoff: Angstrom. l_max: highest degree. channels: per component. n_layers: message-passing layers.
        is_fixed_point: whether the features solve z = f(z, x).
    """

    cutoff: float
    l_max: int
    channels: int
    n_layers: int
    is_fixed_point: bool = False

    def set_double_geometry(self, double: bool) -> None:
        """Compute what depends on geometry only in float64 (precision `mixed`); without such a part, nothing changes."""


_BACKBONES: dict[str, type[Backbone]] = {}


def register_backbone(name: str) -> Callable[[type[Backbone]], type[Backbone]]:
    """Class decorator that makes a backbone available to recipes as `name`."""

    def register(backbone: type[Backbone]) -> type[Backbone]:
        _BACKBONES[name] = backbone
        return backbone

    return register


def available_backbones() -> list[str]:
    """Names of the registered backbones, sorted."""
    return sorted(_BACKBONES)


def backbone_options(name: str) -> dict[str, Any]:
    """Options of a registered backbone and their defaults (`inspect.Parameter.empty` where there is none).

    Raises:
        RecipeError: no backbone of that name.
    """
    if name not in _BACKBONES:
        near = difflib.get_close_matches(name, _BACKBONES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        msg = f"unknown backbone {name!r}; available: {', '.join(available_backbones())}{hint}"
        raise RecipeError(msg)
    parameters = inspect.signature(_BACKBONES[name]).parameters
    return {key: parameter.default for key, parameter in parameters.items() if key != "n_species"}


def build_backbone(options: dict[str, Any], n_species: int) -> Backbone:
    """Build the backbone `options["name"]` with the other entries of `options` as its options.

    Raises:
        RecipeError: unknown name, unknown option (with the nearest valid one) or a value out of range.
    """
    options = dict(options)
    name = options.pop("name", "equiformer")
    known = backbone_options(name)
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; valid options: {', '.join(known)}"
            msg = f"unknown option {key!r} of backbone {name!r}{hint}"
            raise RecipeError(msg)
    return _BACKBONES[name](n_species=n_species, **options)
