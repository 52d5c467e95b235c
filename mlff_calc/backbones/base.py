"""The contract of a backbone, and the registry through which recipes name one."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable
from contextlib import suppress
from numbers import Integral, Real
from typing import Any

from torch import Tensor, nn

from mlff_calc.bounded import shorten
from mlff_calc.errors import RecipeError


class Backbone(nn.Module):
    """Graph to node features.

    A subclass takes its options as keyword arguments, the number of species among them, and defines
    `forward(graph) -> graph`, which adds `node_features` [n_atoms, (l_max+1)^2, channels] (fewer components after
    `limit_outputs`). It reads `species`, `edge_index` and `edge_vec`, and sends messages to `edge_index[0]` only. Features
    of neighbours go through `nn.exchange.exchange` with what `node_species` gives, before they are looked up by
    `edge_index[1]`.

    Attributes:
        cutoff: Angstrom. l_max: highest degree. channels: per component. n_layers: message-passing layers.
        is_fixed_point: whether the features solve z = f(z, x).
        exchange_width: numbers per atom that the largest call of `nn.exchange.exchange` carries.
    """

    cutoff: float
    l_max: int
    channels: int
    n_layers: int
    exchange_width: int
    is_fixed_point: bool = False

    def limit_outputs(self, l_max: int) -> None:
        """Be told that heads read no degree above `l_max`: a backbone may leave them out of `node_features`.

        Weights stay as they are; those that only such degrees need have no gradient then.
        """

    def set_double_geometry(self, double: bool) -> None:
        """Compute what depends on geometry only in float64 (precision `mixed`); without such a part, nothing changes."""


def node_species(graph: dict[str, Tensor]) -> Tensor | None:
    """Species [n_nodes] of an engine's own atoms and its ghosts; None where one process holds all atoms."""
    return graph.get("node_species")


_BACKBONES: dict[str, type[Backbone]] = {}

LARGEST: dict[str, float] = {
    "channels": 4096, "attention_channels": 4096, "ffn_channels": 16384, "edge_channels": 4096, "heads": 256,
    "steerable_channels": 256, "n_basis": 1024, "n_layers": 64, "n_blocks": 64, "hops": 16, "l_max": 16, "m_max": 16,
    "envelope_exponent": 64, "cutoff": 1e4, "avg_num_neighbors": 1e6, "history": 1000, "max_evaluations": 100_000,
    "training_evaluations": 100_000, "phantom_steps": 1000,
}  # fmt: skip
"""The most that an option of these names may be, in any backbone: a width, a count or a length (lengths are in Angstrom in
potentials, and in the unit of the data in propagators). What is trained in practice stays far below."""
MAX_WORK = 4e7
"""Most that `_work` may give; networks at this limit have some 1e7 (hegnn) to 6e8 weights (cg_egnn)."""


def register_backbone(name: str) -> Callable[[type[Backbone]], type[Backbone]]:
    """Class decorator that makes a backbone available to recipes as `name`."""

    def register(backbone: type[Backbone]) -> type[Backbone]:
        _BACKBONES[name] = backbone
        return backbone

    return register


def available_backbones() -> list[str]:
    """Names of the registered backbones, sorted."""
    return sorted(_BACKBONES)


def is_fixed_point(name: str) -> bool:
    """Whether the features of a registered backbone are a fixed point."""
    return _BACKBONES[name].is_fixed_point


def backbone_class(name: str) -> type[Backbone]:
    """The class of a registered backbone.

    Raises:
        RecipeError: no backbone of that name.
    """
    if not isinstance(name, str) or name not in _BACKBONES:
        near = difflib.get_close_matches(str(name), _BACKBONES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        msg = f"unknown backbone {name!r}; available: {', '.join(available_backbones())}{hint}"
        raise RecipeError(msg)
    return _BACKBONES[name]


def backbone_options(name: str) -> dict[str, Any]:
    """Options of a registered backbone and their defaults (`inspect.Parameter.empty` where there is none).

    Raises:
        RecipeError: no backbone of that name.
    """
    parameters = inspect.signature(backbone_class(name)).parameters
    return {key: parameter.default for key, parameter in parameters.items() if key != "n_species"}


def option_findings(options: dict[str, Any]) -> dict[str, str]:
    """What is wrong with the names and types of a backbone's options, by option; empty where nothing is.

    The type of an option is that of its default. A whole number passes where a number is expected; nothing else is
    converted, so that `true` is no 1, `"8"` no 8 and 8.5 no 8.

    Raises:
        RecipeError: no backbone of that name.
    """
    name, known = _defaults_of(options)
    findings: dict[str, str] = {}
    for key, value in options.items():
        if key == "name":
            continue
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; valid options: {', '.join(known)}"
            findings[key] = f"unknown option {key!r} of backbone {name!r}{hint}"
            continue
        try:
            _as_type_of(known[key], value)
            if key in LARGEST and value > LARGEST[key]:
                raise ValueError(f"it must be at most {LARGEST[key]:g}")
        except ValueError as error:
            findings[key] = f"{key} of backbone {name!r} is {shorten(value)}; {error}"
    for key, default in known.items():
        if default is inspect.Parameter.empty and key not in options:
            findings[key] = f"{key} of backbone {name!r} is missing; it has no default, give it"
    work = 0.0 if findings else _work({key: options.get(key, default) for key, default in known.items()})
    if work > MAX_WORK:
        findings["channels"] = (
            f"the sizes of backbone {name!r} together are too large ({work:.1e}, and {MAX_WORK:.0e} is the limit); lower "
            "channels (or attention_channels, ffn_channels, edge_channels), l_max or n_layers"
        )
    return findings


def _work(sizes: dict[str, Any]) -> float:
    """How large a network of these options is: layers, each with maps between all widths; weights go in proportion."""
    widths = [float(sizes.get(key) or 0) for key in ("channels", "attention_channels", "ffn_channels", "edge_channels")]
    layers = (sizes.get("n_layers") or 1) * (sizes.get("n_blocks") or 1) * (sizes.get("hops") or 1)
    degrees, copies = (sizes.get("l_max") or 0) + 1, sizes.get("steerable_channels") or 1
    total = sum(widths) + (sizes.get("n_basis") or 0)
    return float(layers * degrees**2 * (total**2 / 4.0 + copies**2))


def resolve_backbone(options: dict[str, Any]) -> dict[str, Any]:
    """Check the names and types of a backbone's options, and fill in every default.

    Numbers come back as plain `int` and `float`, so that the result can be saved. Ranges are checked by the backbone.

    Args:
        options: `name` (default `equiformer`) and options. `avg_num_neighbors` is one of them: a configuration that has
            it elsewhere must put it in before, or gets its default here.

    Returns:
        `name` and every option of that backbone, in the order of its signature.

    Raises:
        RecipeError: unknown name, unknown option (with the nearest valid one), or a value of the wrong type, NaN or
            infinite; the message names option, value and what is expected.
    """
    name, known = _defaults_of(options)
    findings = option_findings(options)
    if findings:
        raise RecipeError("\n".join(findings.values()))
    return {"name": name} | {key: _as_type_of(default, options.get(key, default)) for key, default in known.items()}


def build_backbone(options: dict[str, Any], n_species: int) -> Backbone:
    """Build the backbone `options["name"]` with the other entries of `options` as its options.

    Raises:
        RecipeError: unknown name, unknown option (with the nearest valid one), or a value of the wrong type or out of
            range.
    """
    options = resolve_backbone(options)
    return _BACKBONES[options.pop("name")](n_species=n_species, **options)


def _defaults_of(options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and defaults of the backbone that options are for."""
    if not isinstance(options, dict):
        raise RecipeError(
            f"backbone is {options!r}; give its name and options, e.g. {{name: equiformer, channels: 32}}"
        )
    name = options.get("name", "equiformer")
    return name, backbone_options(name)


def _as_type_of(default: Any, value: Any) -> Any:  # noqa: ANN401 - an option may be of any type
    """`value` as a plain value of the type that `default` has.

    Raises:
        ValueError: it is not of that type, or not finite; says what is expected.
    """
    if default is None or default is inspect.Parameter.empty:
        return value
    is_switch = isinstance(value, bool)
    if isinstance(default, bool):
        if is_switch:
            return value
        raise ValueError("give true or false")
    if isinstance(default, int):
        if isinstance(value, Integral) and not is_switch:
            return int(value)
        raise ValueError(f"give a whole number, such as {default}")
    if isinstance(default, float):
        with suppress(OverflowError):  # a whole number beyond every float
            if isinstance(value, Real) and not is_switch and math.isfinite(value):
                return float(value)
        raise ValueError(f"give a finite number, such as {default:g}")
    if not isinstance(value, type(default)):
        raise ValueError(f"give a value of type {type(default).__name__}, such as {default!r}")
    return value
