"""Versions of the format, and upgrades of older files to the present one.

An upgrade takes header and tensors of version n and returns those of version n + 1, without changing its arguments.
Where only the header is read, there are no tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 4

Header: TypeAlias = dict[str, Any]
Tensors: TypeAlias = "dict[str, Tensor]"

_USE = {
    "potential": "use load_potential, or `mlff md`: it gives energy and forces, and no positions at a later time",
    "propagator": "use load_propagator, or `mlff eval`: it gives positions at a later time, and neither energy nor forces",
}
"""Use of the kinds of version 2; from version 3 on, every file contains it."""

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
    """Upgrade to version 2, which has another checksum."""
    return header, tensors


def _to_3(header: Header, tensors: Tensors) -> tuple[Header, Tensors]:
    """Upgrade to version 3, which always names the kind and its use; version 2 omitted the kind `potential`.

    The heads of a potential move under a common name, and an unused head of direct forces is dropped. `build_potential`
    still accepts the entries on heads in configurations of version 2.
    """
    kind = header.get("kind", "potential")
    if kind == "potential":
        tensors = with_heads(tensors, direct=header["config"].get("forces") == "direct")
    return {**header, "kind": kind, "use": _USE.get(kind, "")}, tensors


def _to_4(header: Header, tensors: Tensors) -> tuple[Header, Tensors]:
    """Upgrade to version 4, in which the backbone `deq` repeats the layers of any other one, named by `block`.

    Before, it had those of `equiformer` and no prelude, and what is not part of the map stood beside it.
    """
    config = header.get("config", {})
    backbone = config.get("backbone") if isinstance(config, dict) else None
    if not isinstance(backbone, dict) or backbone.get("name") != "deq":
        return header, tensors
    own = ("backbone.geometry.", "backbone.embedding.", "backbone.norm.")
    tensors = {
        f"backbone.stack.{name.removeprefix('backbone.')}" if name.startswith(own) else name: tensor
        for name, tensor in tensors.items()
    }
    return {**header, "config": config | {"backbone": {"block": "equiformer", "prelude": 0} | backbone}}, tensors


UPGRADES: dict[int, Callable[[Header, Tensors], tuple[Header, Tensors]]] = {1: _to_2, 2: _to_3, 3: _to_4}
"""Upgrade functions by the version that they start from."""
