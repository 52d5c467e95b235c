"""The contract of a head, and the registry that configurations name heads from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from mlff_calc.backbones import Backbone
from mlff_calc.errors import RecipeError
from mlff_calc.nn.vectors import VectorReadout
from mlff_calc.registry import Registry


@dataclass(frozen=True)
class Features:
    """Properties of the network that a head is built for.

    Attributes:
        l_max: Highest degree of the features.
        channels: Number of channels per component.
        cutoff: Longest edge, in the unit of the data (Angstrom in potentials).
        avg_num_neighbors: Mean number of neighbours.
        species: Atomic numbers (or numbers of kinds) of the species.
        energies: Reference energies of the species, in eV; empty where there are none.
    """

    l_max: int
    channels: int
    cutoff: float = 1.0
    avg_num_neighbors: float = 10.0
    species: Sequence[int] = ()
    energies: Sequence[float] = ()

    @classmethod
    def of(
        cls, backbone: Backbone, options: dict[str, Any], species: Sequence[int], energies: Sequence[float] = ()
    ) -> Features:
        """Describe a backbone that was built with `options`."""
        neighbors = float(options.get("avg_num_neighbors", 10.0))
        return cls(backbone.l_max, backbone.channels, float(backbone.cutoff), neighbors, species, energies)


class Head(nn.Module):
    """Part of a network that maps node features to quantities: `forward(graph) -> graph` adds what it `provides`.

    A subclass takes `features` (`Features`) and its options as arguments, and is registered by `@register_head("name")`.

    Attributes:
        provides: Registered keys that it adds, some perhaps only with certain options.
        needs: Keys that it reads besides the features and the keys of every graph.
        degree: Highest degree of the features that it reads.
    """

    provides: ClassVar[tuple[str, ...]]
    needs: ClassVar[tuple[str, ...]] = ()
    degree: int = 0


def vectors_of(features: Features, n_vectors: int) -> VectorReadout:
    """Build the readout of `n_vectors` vectors per atom."""
    return VectorReadout(features.l_max, features.channels, n_vectors, features.cutoff, features.avg_num_neighbors)


HEADS: Registry[Head] = Registry("head", "features")
register_head = HEADS.register
available_heads = HEADS.names
build_head = HEADS.build


def resolve_heads(heads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the heads of a configuration with every default written out.

    Raises:
        RecipeError: `heads` is not a list, or a head is named twice; see also `Registry.resolve`.
    """
    if not isinstance(heads, list | tuple):
        raise RecipeError(f"heads is {heads!r}; give a list of names and options, e.g. [{{name: energy}}]")
    resolved = [HEADS.resolve(head) for head in heads]
    names = [head["name"] for head in resolved]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecipeError(f"the head {twice[0]!r} is named twice; name it once")
    return resolved


def build_heads(heads: list[dict[str, Any]], features: Features) -> dict[str, Head]:
    """Build the heads of a configuration with new weights, by name and in the given order.

    Raises:
        RecipeError: A head reads a higher degree than the features have; see also `resolve_heads`.
    """
    built = {head["name"]: HEADS.build(head, features=features) for head in resolve_heads(heads)}
    for name, head in built.items():
        if head.degree > features.l_max:
            raise RecipeError(
                f"head {name!r} needs features of degree {head.degree}; l_max is {features.l_max}, raise it"
            )
    return built
