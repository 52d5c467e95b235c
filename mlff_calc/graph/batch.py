"""Joining graphs to a batch, and splitting it again."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mlff_calc.errors import OptionError, StructureError
from mlff_calc.graph.keys import WHOLE, Graph, Key, get_key, level_counts, systems_of


def to_device(graph: Graph, device: str | torch.device, non_blocking: bool = False) -> Graph:
    """Return the graph with every tensor on `device`."""
    return {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in graph.items()}


def collate(graphs: Sequence[Graph]) -> Graph:
    """Join several graphs to one that holds all their systems, in order.

    Tensors are concatenated along the dimension of their level, and index tensors are shifted by the entries before
    them. A floating key that only some graphs have (a label) is filled with NaN in the others.

    Args:
        graphs: at least one graph; each may itself hold several systems.

    Returns:
        The batch.

    Raises:
        OptionError: there are no graphs.
        StructureError: a key is unknown, belongs to a whole graph, or is an integer key that only some graphs have.
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
    """Return the declaration of a key that may stand in a batch."""
    key = get_key(name)
    if key.level == WHOLE:
        raise StructureError(f"graph key '{name}' belongs to one graph as a whole; leave it out of batches")
    return key


def _missing(key: Key, template: torch.Tensor, count: int) -> torch.Tensor:
    """NaN in place of a missing tensor, in the shape that `template` implies."""
    if not template.dtype.is_floating_point:
        raise StructureError(f"graph key '{key.name}' is in some graphs of the batch and not in others; give it in all")
    shape = list(template.shape)
    shape[key.axis] = count
    return template.new_full(shape, float("nan"))


def _shifted(parts: list[torch.Tensor], counts: list[int]) -> list[torch.Tensor]:
    """Raise each index tensor by the number of entries before it."""
    result, before = [], 0
    for part, count in zip(parts, counts, strict=True):
        result.append(part + before if before else part)
        before += count
    return result


def split(batch: Graph, parts: Sequence[int] | None = None) -> list[Graph]:
    """Split a batch into smaller ones; the inverse of `collate`.

    Args:
        batch: graph whose atoms are sorted by system and whose edges are sorted by centre, as `collate` leaves them.
        parts: number of systems of each part, which add up to those of the batch; None for one system in each.

    Returns:
        One graph per part, views of the batch where possible.

    Raises:
        OptionError: `parts` do not add up to the systems of the batch.
        StructureError: entries are not sorted by system, or belong to no system.
    """
    keys = {name: _in_batches(name) for name in batch}
    n_systems, sizes = level_counts(batch)["system"], {}
    if parts is not None and (min(parts, default=0) < 1 or sum(parts) != n_systems):
        raise OptionError(f"parts of {list(parts)} systems do not make up a batch of {n_systems}")
    for level in {key.level for key in keys.values()} | {key.points_to for key in keys.values() if key.points_to}:
        owners = systems_of(batch, level)
        if bool((owners[1:] < owners[:-1]).any()):
            raise StructureError(f"entries of level '{level}' are not sorted by system; give a batch made by collate")
        counts = torch.bincount(owners, minlength=n_systems)
        sizes[level] = counts.tolist() if parts is None else [int(part.sum()) for part in counts.split(list(parts))]
    graphs: list[Graph] = [{} for _ in range(n_systems if parts is None else len(parts))]
    for name, tensor in batch.items():
        key = keys[name]
        pieces = list(torch.split(tensor, sizes[key.level], dim=key.axis))
        if key.points_to is not None:
            before = 0
            for number, count in enumerate(sizes[key.points_to]):
                if before:
                    pieces[number] = pieces[number] - before
                before += count
        for graph, piece in zip(graphs, pieces, strict=True):
            graph[name] = piece
    return graphs
