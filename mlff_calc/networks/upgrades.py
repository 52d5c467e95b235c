"""Versions of the format, and how an older file is read as one of today.

An upgrade takes header and tensors of version n and returns those of version n + 1. It does not change what it is given.
Where the header alone is read, there are no tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 3

Header: TypeAlias = dict[str, Any]
Tensors: TypeAlias = "dict[str, Tensor]"

_USE = {
    "potential": "use load_potential, or `mlff md`: it gives energy and forces, and no positions at a later time",
    "propagator": "use load_propagator, or `mlff eval`: it gives positions at a later time, and neither energy nor forces",
}
"""What the kinds of version 2 are for; from version 3 on, every file says so itself."""

_HEADS = {"head": "heads.energy", "forces_head": "heads.direct_forces"}
"""Names that the heads of potentials had before version 3, and those they have since."""


def with_heads(tensors: Tensors, *, direct: bool) -> Tensors:
    """Tensors of a potential of version 2 under the names of version 3.

    Args:
        tensors: Tensors by name.
        direct: Whether forces are direct; before version 3 the head of direct forces was there in other potentials as well.
    """
    parts = {name: name.partition(".") for name in tensors}
    return {
        f"{_HEADS.get(first, first)}.{rest}": tensors[name]
        for name, (first, _, rest) in parts.items()
        if direct or first != "forces_head"
    }


def _to_2(header: Header, tensors: Tensors) -> tuple[Header, Tensors]:
    """Version 2 has another checksum."""
    return header, tensors


def _to_3(header: Header, tensors: Tensors) -> tuple[Header, Tensors]:
    """Version 3 says what kind it is, where version 2 left out `potential`, and what this kind is for.

    Heads of potentials stand together, by name; a head of direct forces is there where it is used. What version 2 says of
    heads in its configuration, `build_potential` still takes.
    """
    kind = header.get("kind", "potential")
    if kind == "potential":
        tensors = with_heads(tensors, direct=header["config"].get("forces") == "direct")
    return {**header, "kind": kind, "use": _USE.get(kind, "")}, tensors


UPGRADES: dict[int, Callable[[Header, Tensors], tuple[Header, Tensors]]] = {1: _to_2, 2: _to_3}
"""Functions by the version that they start from."""
