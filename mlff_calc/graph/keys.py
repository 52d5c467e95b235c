"""The registry of keys and levels: every tensor a graph may hold, with its level, shape, dtype and unit.

A graph is a plain ``dict[str, torch.Tensor]``. Nothing about it is guessed from shapes at run time. What a tensor
belongs to (atoms, edges or systems) is declared once, and batching, validation and the documentation read it from here.
This file declares the keys that every graph has; each room declares its own, and may declare further levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from mlff_calc.errors import OptionError, StructureError
from mlff_calc.near import suggestion

Graph = dict[str, torch.Tensor]
Level = str
WHOLE: Final = "graph"
"""Level of tensors that belong to a graph as a whole."""
INT: Final = torch.int64
DOUBLE: Final = torch.float64


@dataclass(frozen=True)
class LevelRule:
    """How the entries of a level are counted, and which entry of a lower level each belongs to.

    Attributes:
        counted_by: Keys with one entry per entry of the level; the first that a graph holds is counted. Without any
            there are none.
        owner: Index key (its first row if two-dimensional) that says what an entry belongs to. None if entries belong
            to nothing; batches with such entries cannot be split.
    """

    counted_by: tuple[str, ...]
    owner: str | None = None


@dataclass(frozen=True)
class Key:
    """One named tensor of a graph.

    Attributes:
        name: name of the key in the dict.
        level: registered level of which the tensor has one entry each, such as ``atom``, ``edge`` or ``system``;
            `WHOLE` for a tensor of the whole graph, which cannot stand in a batch.
        shape: dimensions besides that of the level; None where a size is free (channels, for example).
        dtype: dtype at the boundary; None for any floating dtype.
        unit: unit of the values, empty where there is none.
        doc: description in one line.
        axis: dimension of the level (1 for ``edge_index``, else 0).
        points_to: level that the values of an index tensor count; batching shifts them.
    """

    name: str
    level: Level
    shape: tuple[int | None, ...]
    dtype: torch.dtype | None
    unit: str
    doc: str
    axis: int = 0
    points_to: Level | None = None

    def full_shape(self, count: int) -> tuple[int | None, ...]:
        """Shape of the whole tensor for `count` entries of its level."""
        if self.level == WHOLE:
            return self.shape
        return (*self.shape[: self.axis], count, *self.shape[self.axis :])


KEYS: dict[str, Key] = {}
LEVELS: dict[Level, LevelRule] = {}


def register_level(name: Level, *counted_by: str, owner: str | None = None) -> Level:
    """Add a level to the registry and return its name.

    Args:
        name: Name of the level.
        *counted_by: Keys that count the entries; see `LevelRule`.
        owner: Key of what the entries belong to; see `LevelRule`.

    Raises:
        OptionError: The name is taken by a different rule.
    """
    rule = LevelRule(counted_by, owner)
    if LEVELS.setdefault(name, rule) != rule:
        raise OptionError(f"level '{name}' is already registered as {LEVELS[name]}; choose another name")
    return name


def register_key(key: Key) -> Key:
    """Add a key to the registry.

    Args:
        key: declaration.

    Returns:
            The same key, so that a module can keep it.

    Raises:
        OptionError: the name is taken by a different declaration.
    """
    known = KEYS.get(key.name)
    if known is not None and known != key:
        raise OptionError(f"graph key '{key.name}' is already registered as {known}; choose another name")
    KEYS[key.name] = key
    return key


def get_key(name: str) -> Key:
    """Return the declaration of `name`; raises a StructureError with the nearest name where there is none."""
    key = KEYS.get(name)
    if key is None:
        hint = suggestion(name, KEYS, after=" ")
        raise StructureError(
            f"graph holds the unknown key '{name}': {hint}Declare new keys with mlff_calc.graph.declare"
        )
    return key


def declare(
    name: str,
    level: Level,
    shape: tuple[int | None, ...],
    dtype: torch.dtype | None,
    unit: str,
    doc: str,
    *,
    axis: int = 0,
    points_to: Level | None = None,
) -> str:
    """Register a key, whose attributes are the arguments, and return its name.

    Raises:
        OptionError: The name is taken by a different declaration.
    """
    return register_key(Key(name, level, shape, dtype, unit, doc, axis, points_to)).name


ATOMIC_NUMBERS: Final = declare("atomic_numbers", "atom", (), INT, "", "atomic number Z, or number of a kind")
SYSTEM_INDEX: Final = declare("system_index", "atom", (), INT, "", "system of the batch it belongs to", points_to="system")
POSITIONS: Final = declare("positions", "atom", (3,), DOUBLE, "Angstrom", "positions as the user gave them, not wrapped")
EDGE_INDEX: Final = declare(
    "edge_index", "edge", (2,), INT, "", "row 0: centre i, which receives; row 1: neighbour j; sorted by centre",
    axis=1, points_to="atom",
)  # fmt: skip
EDGE_VEC: Final = declare("edge_vec", "edge", (3,), DOUBLE, "Angstrom", "x_j - x_i with image shifts included")
CELL: Final = declare("cell", "system", (3, 3), DOUBLE, "Angstrom", "rows are cell vectors, zeros where there is none")
PBC: Final = declare("pbc", "system", (3,), torch.bool, "", "periodic along each cell vector")

INPUT_KEYS: Final = (ATOMIC_NUMBERS, SYSTEM_INDEX, POSITIONS, EDGE_INDEX, EDGE_VEC, CELL, PBC)
"""Keys that every graph has before a backbone sees it."""

register_level("system", CELL)
register_level("atom", ATOMIC_NUMBERS, owner=SYSTEM_INDEX)
register_level("edge", EDGE_INDEX, owner=EDGE_INDEX)
register_level(WHOLE)


def level_counts(graph: Graph) -> dict[Level, int]:
    """Numbers of entries of every registered level, read from the keys that count it."""
    counts = {}
    for level, rule in LEVELS.items():
        name = next((name for name in rule.counted_by if name in graph), None)
        counts[level] = 0 if name is None else graph[name].shape[get_key(name).axis]
    return counts


def systems_of(graph: Graph, level: Level) -> torch.Tensor:
    """Return the system that each entry of a level belongs to.

    Raises:
        StructureError: The entries of this level belong to no system.
    """
    if level == "system":
        return torch.arange(graph[CELL].shape[0], device=graph[CELL].device)
    owner = LEVELS[level].owner
    if owner is None:
        raise StructureError(f"the entries of level '{level}' belong to no system; leave its keys out of batches")
    index, below = graph[owner], get_key(owner).points_to
    index = index[0] if index.ndim > 1 else index
    return index if below == "system" else systems_of(graph, str(below))[index]


def validate_graph(graph: Graph, required: tuple[str, ...] = INPUT_KEYS) -> None:
    """Check that a graph satisfies the contract of its keys.

    Args:
        graph: the graph.
        required: keys that must be present; the seven inputs by default.

    Raises:
        StructureError: a key is missing or unknown, has a wrong dtype or shape, or disagrees in its count with the
            others, or an index is out of range; the message names the key.
    """
    missing = [name for name in dict.fromkeys((*INPUT_KEYS, *required)) if name not in graph]
    if missing:
        raise StructureError(f"graph lacks {missing}; it has {sorted(graph)}. Build graphs with graph_from_atoms")
    for name, tensor in graph.items():
        _check_tensor_kind(get_key(name), tensor)
    counts = level_counts(graph)
    for name, tensor in graph.items():
        key = KEYS[name]
        expected = key.full_shape(counts[key.level])
        if any(want is not None and want != have for want, have in zip(expected, tensor.shape, strict=True)):
            raise StructureError(
                f"graph key '{name}' has shape {tuple(tensor.shape)}, expected {_shape_text(expected)} "
                f"for {counts['atom']} atoms, {counts['edge']} edges, {counts['system']} systems"
            )
        if key.points_to is not None:
            _check_index(key, tensor, counts[key.points_to])
    centers = graph[EDGE_INDEX][0]
    if bool((centers[1:] < centers[:-1]).any()):
        raise StructureError("graph key 'edge_index' is not sorted by centre (row 0); sort the edges by it")


def _check_tensor_kind(key: Key, tensor: torch.Tensor) -> None:
    """Check type, dtype and number of dimensions of one tensor."""
    if not isinstance(tensor, torch.Tensor):
        raise StructureError(f"graph key '{key.name}' is a {type(tensor).__name__}, expected a torch.Tensor")
    right = tensor.dtype.is_floating_point if key.dtype is None else tensor.dtype == key.dtype
    if not right:
        wanted = "a floating dtype" if key.dtype is None else str(key.dtype)
        raise StructureError(
            f"graph key '{key.name}' has dtype {tensor.dtype}, expected {wanted}; convert it with .to()"
        )
    n_dimensions = len(key.full_shape(0))
    if tensor.ndim != n_dimensions:
        per = "" if key.level == WHOLE else f"one per {key.level}, besides "
        raise StructureError(
            f"graph key '{key.name}' has shape {tuple(tensor.shape)}, expected {n_dimensions} dimensions "
            f"({per}{_shape_text(key.shape)})"
        )


def _check_index(key: Key, tensor: torch.Tensor, count: int) -> None:
    """Check that every value of an index tensor lies in 0 .. count-1."""
    if tensor.numel() == 0:
        return
    low, high = int(tensor.min()), int(tensor.max())
    if low < 0 or high >= count:
        raise StructureError(
            f"graph key '{key.name}' holds values from {low} to {high}, but there are {count} {key.points_to}s"
        )


def _shape_text(shape: tuple[int | None, ...]) -> str:
    """A shape as text, ``*`` where a size is free."""
    return "[" + ", ".join("*" if size is None else str(size) for size in shape) + "]"
