"""The key registry: every tensor a graph may hold, with its level, shape, dtype and unit.

A graph is a plain ``dict[str, torch.Tensor]``. Nothing about it is guessed from shapes at run time: what a tensor belongs
to (atoms, edges or systems) is declared here once, and batching, validation and the documentation read it from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Literal

import torch

from mlff_calc.errors import OptionError, StructureError

Graph = dict[str, torch.Tensor]
Level = Literal["atom", "edge", "system", "node"]

ATOMIC_NUMBERS: Final = "atomic_numbers"
SYSTEM_INDEX: Final = "system_index"
POSITIONS: Final = "positions"
EDGE_INDEX: Final = "edge_index"
EDGE_VEC: Final = "edge_vec"
CELL: Final = "cell"
PBC: Final = "pbc"
NODE_FEATURES: Final = "node_features"
ENERGY: Final = "energy"
ENERGIES: Final = "energies"
FORCES: Final = "forces"
STRESS: Final = "stress"
VIRIAL: Final = "virial"
ATOMIC_VIRIAL: Final = "atomic_virial"

INPUT_KEYS: Final = (ATOMIC_NUMBERS, SYSTEM_INDEX, POSITIONS, EDGE_INDEX, EDGE_VEC, CELL, PBC)
"""The keys every graph has before a backbone sees it."""


@dataclass(frozen=True)
class Key:
    """One named tensor of a graph.

    Attributes:
        name: the key in the dict.
        level: what the tensor has one entry of: ``atom``, ``edge``, ``system`` or ``node`` (own atoms, then ghosts).
        shape: the dimensions beside the level's own; None where the size is free (channels, for example).
        dtype: the dtype at the boundary; None for any floating dtype.
        unit: unit of the values, empty where there is none.
        doc: one line of what it is.
        axis: where the level's dimension stands (1 for ``edge_index``, else 0).
        points_to: for index tensors, the level that the values count; batching shifts them by it.
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
        return (*self.shape[: self.axis], count, *self.shape[self.axis :])


KEYS: dict[str, Key] = {}


def register_key(key: Key) -> Key:
    """Add a key to the registry.

    Args:
        key: the declaration.

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
    """The declaration of `name`; a StructureError that names the nearest key where there is none."""
    key = KEYS.get(name)
    if key is None:
        near = get_close_matches(name, KEYS, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise StructureError(
            f"graph holds the unknown key '{name}': {hint}Declare new keys with register_key(Key(...))"
        )
    return key


_INT, _DOUBLE = torch.int64, torch.float64
for _key in (
    Key(ATOMIC_NUMBERS, "atom", (), _INT, "", "atomic number Z"),
    Key(SYSTEM_INDEX, "atom", (), _INT, "", "which system of the batch the atom belongs to", points_to="system"),
    Key(POSITIONS, "atom", (3,), _DOUBLE, "Angstrom", "positions as the user gave them, not wrapped"),
    Key(
        EDGE_INDEX,
        "edge",
        (2,),
        _INT,
        "",
        "row 0: centre i, which receives; row 1: neighbour j; sorted by centre",
        axis=1,
        points_to="atom",
    ),
    Key(EDGE_VEC, "edge", (3,), _DOUBLE, "Angstrom", "x_j - x_i with image shifts included"),
    Key(CELL, "system", (3, 3), _DOUBLE, "Angstrom", "rows are cell vectors, zeros where there is none"),
    Key(PBC, "system", (3,), torch.bool, "", "periodic along each cell vector"),
    Key(NODE_FEATURES, "atom", (None, None), None, "", "features [n_atoms, (degree+1)^2, channels], e3nn order"),
    Key(ENERGY, "system", (), _DOUBLE, "eV", "total energy"),
    Key(ENERGIES, "atom", (), _DOUBLE, "eV", "energy of each atom"),
    Key(FORCES, "atom", (3,), _DOUBLE, "eV/Angstrom", "force on each atom"),
    Key(STRESS, "system", (3, 3), _DOUBLE, "eV/Angstrom^3", "stress, tensile positive: -virial / volume"),
    Key(VIRIAL, "system", (3, 3), _DOUBLE, "eV", "minus the sum of r (x) dE/dr, positive in compression"),
    Key(ATOMIC_VIRIAL, "atom", (3, 3), _DOUBLE, "eV", "the virial's share of each atom"),
    Key("start_state", "atom", (None, None), None, "", "where the solve of a fixed point begins"),
    Key("start_adjoint", "atom", (None, None), None, "", "where the solve of its adjoint begins"),
    Key("state", "atom", (None, None), None, "", "fixed point z [n_atoms, (l_max+1)^2, channels], e3nn order"),
    Key("adjoint", "atom", (None, None), None, "", "adjoint lambda of the fixed point, of the same shape"),
    Key("residual", "system", (), _DOUBLE, "", "relative residual of z"),
    Key("adjoint_residual", "system", (), _DOUBLE, "", "relative residual of lambda"),
    Key("evaluations", "system", (), _INT, "", "evaluations of f that the solve took"),
    Key("adjoint_evaluations", "system", (), _INT, "", "products with the transposed Jacobian that it took"),
    Key("probe", "atom", (None, None), None, "", "direction of a power iteration in training"),
    Key("growth", "system", (), None, "", "how much the transposed Jacobian lengthens the probe"),
    Key("node_numbers", "node", (), _INT, "", "atomic numbers of an engine's own atoms, then of its ghosts"),
    Key("owned", "atom", (), _DOUBLE, "", "1 where the energy of an atom counts, 0 elsewhere"),
    Key("dropout", "atom", (None,), None, "", "factors of messages, the same in every evaluation of a solve"),
    Key("velocities", "atom", (3,), _DOUBLE, "length/time", "velocities, in the units of the data"),
    Key("node_scalars", "atom", (None,), _DOUBLE, "", "numbers that belong to atoms, such as charges"),
    Key("edge_scalars", "edge", (None,), _DOUBLE, "", "numbers that belong to edges, such as hops"),
    Key("horizon", "system", (), _DOUBLE, "time", "how far ahead to predict, in the velocities' unit of time"),
    Key("input_features", "atom", (4, None), None, "", "what is known of atoms beside their species: scalars, vectors"),
    Key("edge_inputs", "edge", (None,), None, "", "what is known of edges, added to their radial basis"),
    Key("drift", "atom", (3,), None, "length", "constant-velocity steps, as long as what is to be predicted"),
    Key("moved", "atom", (3,), None, "length", "how far a backbone has moved its atoms"),
    Key("displacements", "atom", (3,), _DOUBLE, "length", "how far atoms are from where they were"),
    Key("velocity_changes", "atom", (3,), _DOUBLE, "length/time", "final velocities minus initial ones"),
    Key("noise", "atom", (3,), _DOUBLE, "", "noise in positions, in units of its standard deviation"),
):
    register_key(_key)


def level_counts(graph: Graph) -> dict[Level, int]:
    """Numbers of atoms, edges and systems, read from the keys that define them."""
    return {
        "atom": graph[ATOMIC_NUMBERS].shape[0],
        "edge": graph[EDGE_INDEX].shape[1],
        "system": graph[CELL].shape[0],
        "node": graph["node_numbers" if "node_numbers" in graph else ATOMIC_NUMBERS].shape[0],
    }


def validate_graph(graph: Graph, required: tuple[str, ...] = INPUT_KEYS) -> None:
    """Check that a graph is what the contract says.

    Args:
        graph: the graph.
        required: keys that must be there; the seven inputs by default.

    Raises:
        StructureError: a key is missing or unknown, has the wrong dtype or shape, disagrees in its count with the
            others, or an index points outside; the message names the key.
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
    """Type, dtype and number of dimensions of one tensor."""
    if not isinstance(tensor, torch.Tensor):
        raise StructureError(f"graph key '{key.name}' is a {type(tensor).__name__}, expected a torch.Tensor")
    right = tensor.dtype.is_floating_point if key.dtype is None else tensor.dtype == key.dtype
    if not right:
        wanted = "a floating dtype" if key.dtype is None else str(key.dtype)
        raise StructureError(
            f"graph key '{key.name}' has dtype {tensor.dtype}, expected {wanted}; convert it with .to()"
        )
    if tensor.ndim != len(key.shape) + 1:
        raise StructureError(
            f"graph key '{key.name}' has shape {tuple(tensor.shape)}, expected {len(key.shape) + 1} dimensions "
            f"(one per {key.level}, beside {_shape_text(key.shape)})"
        )


def _check_index(key: Key, tensor: torch.Tensor, count: int) -> None:
    """Every value of an index tensor lies in 0 .. count-1."""
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
