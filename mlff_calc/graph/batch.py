"""Several graphs as one, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mlff_calc.errors import OptionError, StructureError
from mlff_calc.graph.keys import WHOLE, Graph, Key, get_key, level_counts, systems_of


def to_device(graph: Graph, device: str | torch.device, non_blocking: bool = False) -> Graph:
    """The same graph with every tensor on `device`."""
    return {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in graph.items()}


def collate(graphs: Sequence[Graph]) -> Graph:
    """One graph that holds all systems of several, in order.

    Tensors are concatenated along their level's dimension, and index tensors are shifted by what stands before them. A
    floating key that some graphs have and others lack (labels) is filled with NaN there.

    Args:
        graphs: at least one; each may itself hold several systems.

    Returns:
        The batch.

    Raises:
        OptionError: no graphs.
        StructureError: an unknown key, one of a whole graph, or an integer key that only some graphs have.
    """
    if len(graphs) == 0:
        raise OptionError("cannot make a batch of no graphs; give at least one")
    counts = [level_counts(graph) for graph in graphs]
    names = dict.fromkeys(name for graph in graphs for name in graph)
    batch: Graph = {}
    for name in names:
        key = _in_batches(name)
        parts = [graph.get(name) for graph in graphs]
        template = next(part for part in parts if part is not None)
        filled = [
            _missing(key, template, count[key.level]) if part is None else part
            for part, count in zip(parts, counts, strict=True)
        ]
        if key.points_to is not None:
            filled = _shifted(filled, [count[key.points_to] for count in counts])
        batch[name] = torch.cat(filled, dim=key.axis)
    return batch


def _in_batches(name: str) -> Key:
    """The declaration of a key that a batch may hold."""
    key = get_key(name)
    if key.level == WHOLE:
        raise StructureError(f"graph key '{name}' belongs to one graph as a whole; leave it out of batches")
    return key


def _missing(key: Key, template: torch.Tensor, count: int) -> torch.Tensor:
    """NaN in place of a tensor that a graph lacks, shaped as its neighbours in the batch are."""
    if not template.dtype.is_floating_point:
        raise StructureError(f"graph key '{key.name}' is in some graphs of the batch and not in others; give it in all")
    shape = list(template.shape)
    shape[key.axis] = count
    return template.new_full(shape, float("nan"))


def _shifted(parts: list[torch.Tensor], counts: list[int]) -> list[torch.Tensor]:
    """Index tensors, each raised by the number of entries that stand before it."""
    result, before = [], 0
    for part, count in zip(parts, counts, strict=True):
        result.append(part + before if before else part)
        before += count
    return result


def split(batch: Graph) -> list[Graph]:
    """The systems of a batch as graphs of their own; the inverse of `collate`.

    Args:
        batch: atoms stand in order of their system and edges in order of their centre, as `collate` leaves them.

    Returns:
        One graph per system, views of the batch where possible.

    Raises:
        StructureError: entries are not in order of their system, or belong to none.
    """
    keys = {name: _in_batches(name) for name in batch}
    n_systems, sizes = level_counts(batch)["system"], {}
    for level in {key.level for key in keys.values()} | {key.points_to for key in keys.values() if key.points_to}:
        owners = systems_of(batch, level)
        if bool((owners[1:] < owners[:-1]).any()):
            raise StructureError(f"entries of level '{level}' are not sorted by system; split what collate has made")
        sizes[level] = torch.bincount(owners, minlength=n_systems).tolist()
    graphs: list[Graph] = [{} for _ in range(n_systems)]
    for name, tensor in batch.items():
        key = keys[name]
        parts = list(torch.split(tensor, sizes[key.level], dim=key.axis))
        if key.points_to is not None:
            before = 0
            for number, count in enumerate(sizes[key.points_to]):
                parts[number] = parts[number] - before
                before += count
        for graph, part in zip(graphs, parts, strict=True):
            graph[name] = part
    return graphs
