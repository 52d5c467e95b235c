"""Several graphs as one, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mlff_calc.errors import OptionError, StructureError
from mlff_calc.graph import keys
from mlff_calc.graph.keys import Graph, Key, Level, get_key, level_counts


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
        StructureError: an unknown key, or an integer key that only some graphs have.
    """
    if len(graphs) == 0:
        raise OptionError("cannot make a batch of no graphs; give at least one")
    counts = [level_counts(graph) for graph in graphs]
    names = dict.fromkeys(name for graph in graphs for name in graph)
    batch: Graph = {}
    for name in names:
        key = get_key(name)
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
        StructureError: atoms are not in order of their system.
    """
    system_index = batch[keys.SYSTEM_INDEX]
    if bool((system_index[1:] < system_index[:-1]).any()):
        raise StructureError("graph key 'system_index' is not sorted; only batches made by collate can be split")
    n_systems = level_counts(batch)["system"]
    edge_system = system_index[batch[keys.EDGE_INDEX][0]]
    sizes: dict[Level, list[int]] = {
        "atom": torch.bincount(system_index, minlength=n_systems).tolist(),
        "edge": torch.bincount(edge_system, minlength=n_systems).tolist(),
        "system": [1] * n_systems,
    }
    graphs: list[Graph] = [{} for _ in range(n_systems)]
    for name, tensor in batch.items():
        key = get_key(name)
        parts = list(torch.split(tensor, sizes[key.level], dim=key.axis))
        if key.points_to is not None:
            before = 0
            for number, count in enumerate(sizes[key.points_to]):
                parts[number] = parts[number] - before
                before += count
        for graph, part in zip(graphs, parts, strict=True):
            graph[name] = part
    return graphs
