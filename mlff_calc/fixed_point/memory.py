"""Memory of a trajectory from one solve to the next, and the cache that finds it again.

A `Memory` belongs to one run. It holds past solutions for the predictor, secants for the acceleration, and the last
structure, so that a jump is noticed. A `RunCache` holds the memories of all runs that one calculator serves (the images
of a band, replicas, several structures in turn). A run is identified by the object that asks for its memory. A memory
that comes from a copy or a restart file has no such object yet and is matched by its structure. When an object is
deleted its memory is dropped too, so that results do not depend on when Python frees an object.
"""

from __future__ import annotations

import base64
import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlff_calc.bounded import shorten
from mlff_calc.fixed_point.predictors import Past, Predictor
from mlff_calc.fixed_point.warm_start import WarmStart
from mlff_calc.graph.frame import Frame, System, equal

REACH = WarmStart().reach
"""Default for the largest distance (Angstrom) an atom may move between two steps; raising it makes fewer cold starts."""
ALIGNED = 0.3
"""Cosine between the displacements of two successive steps above which the motion counts as continued.

Raising it restarts more trajectories. At 1 fs the direction of a hydrogen atom turns by about 40 degrees per step, that
of all other atoms by less.
"""
STRAIN = 0.05
"""Largest relative change of a cell vector's length between two steps; a larger one causes a cold start."""


def same_system(one: Frame, other: Frame) -> bool:
    """Whether both frames have the same atoms in the same order and the same boundary conditions."""
    return one.system is other.system or (equal(one.numbers, other.numbers) and equal(one.pbc, other.pbc))


def displacement(now: Frame, then: Frame) -> NDArray[np.float64]:
    """Displacement of each atom [n, 3] (Angstrom, nearest image); both frames must be of the same system."""
    moved = now.positions - then.positions
    if now.system.is_periodic and np.abs(moved).max(initial=0.0) > REACH:  # an atom may have been wrapped
        cell = np.where(now.pbc[:, None], now.cell, 0.0)
        moved = moved - np.round(moved @ np.linalg.pinv(cell)) @ cell
    return moved


def distance(now: Frame, then: Frame) -> float:
    """Largest displacement (Angstrom, nearest image), infinite where the cell jumped; both of the same system."""
    if now.cell is not then.cell:
        change = np.linalg.norm(now.cell - then.cell, axis=1)
        if (change > STRAIN * np.linalg.norm(then.cell, axis=1)).any():
            return float("inf")
    return float(np.sqrt((displacement(now, then) ** 2).sum(axis=1).max(initial=0.0)))


@dataclass
class Memory:
    """State that one run keeps between steps.

    Attributes:
        place: structure of the last step.
        past: past solutions, for the predictor.
        secants: secants of the solves for the state and for the adjoint, two lists of [2, n_atoms, ...], newest first.
        move: displacement of the atoms in the last step [n, 3], Angstrom; None after a cold start.
        failures: numbers of steps since each of the last failed ones.
    """

    place: Frame
    past: Past = field(default_factory=Past)
    secants: tuple[list[Tensor], list[Tensor]] = field(default_factory=lambda: ([], []))
    move: NDArray[np.float64] | None = None
    failures: list[int] = field(default_factory=list)

    def goes_on(self, place: Frame) -> bool:
        """Whether a step to `place` continues in the direction of the previous step, as steps of a trajectory do."""
        if self.move is None:
            return False
        now = displacement(place, self.place)
        sizes = np.linalg.norm(now) * np.linalg.norm(self.move)
        return bool(sizes > 0.0 and np.vdot(now, self.move) >= ALIGNED * sizes)

    def keeps_pace(self, place: Frame, factor: float) -> bool:
        """Whether a step to `place` is as long as the previous step within a factor, as steps of equal time are."""
        if self.move is None:
            return False
        now, before = np.linalg.norm(displacement(place, self.place)), np.linalg.norm(self.move)
        return bool(before <= factor * now and now <= factor * before)

    def inputs(
        self, predictor: Predictor, kept: int, window: int = 0, ridges: tuple[float, float] = (1e-10, 1e-6)
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Build the inputs of a compiled step (`MEMORY_INPUTS`), and a start that does not combine past solutions.

        Args:
            predictor: rule for the start.
            kept: number of secants per solve that the step takes.
            window: number of past solutions that the step takes; raised to the predictor's own window if smaller.
            ridges: ridge of the least-squares mix, and of the acceleration.
        """
        window = max(window, predictor.window)
        past = self.past
        solutions = past.solutions[: predictor.window]
        start = predictor.replaced(past)
        if start is not None:
            solutions = [start, *solutions[1:]]
        weights = predictor.weights(past)
        mix = [0.0] * window if weights is None else [*weights, *[0.0] * (window - len(weights))]
        like = past.embeddings[0]
        return {
            "past_embeddings": _filled(past.embeddings[: predictor.window], window, like),
            "past_states": _filled([solution[0] for solution in solutions], window, like),
            "past_adjoints": _filled([solution[1] for solution in solutions], window, like),
            "mix": torch.tensor(mix, dtype=torch.float64, device=like.device),
            "ridges": torch.tensor(ridges, dtype=torch.float64, device=like.device),
            "state_secants": _stack(self.secants[0], kept, like),
            "adjoint_secants": _stack(self.secants[1], kept, like),
        }, start

    def remember(
        self, predictor: Predictor, kept: int, outputs: dict[str, Tensor], place: Frame, start: Tensor | None
    ) -> None:
        """Store the results of a step.

        Args:
            predictor: rule for the start.
            kept: number of secants per solve to keep.
            outputs: outputs of the step, copied where the step may overwrite them.
            place: structure of the step.
            start: start that `inputs` returned.
        """
        self.go_to(place)
        solution = torch.stack([outputs["state"], outputs["adjoint"]])
        predictor.remember(self.past, solution, outputs["embedding"], start)
        for secants, name in zip(self.secants, ("new_state_secants", "new_adjoint_secants"), strict=True):
            if name in outputs:
                new = outputs[name]
                secants[:] = [*(new[:, i] for i in reversed(range(new.shape[1]))), *secants][:kept]

    def go_to(self, place: Frame) -> None:
        """Note the structure of a step, and how far it is from the one before."""
        if self.past.solutions:
            self.move = displacement(place, self.place)
        self.place = place

    def to(self, device: torch.device) -> Memory:
        """Return a copy of the memory on `device`."""
        past = Past(*([tensor.to(device) for tensor in part] for part in vars(self.past).values()))
        first, second = ([tensor.to(device) for tensor in part] for part in self.secants)
        return Memory(self.place, past, (first, second), self.move, list(self.failures))

    def plain(self) -> dict[str, Any]:
        """Return the contents as JSON types and small arrays; numbers keep every bit."""
        return {
            "place": [self.place.numbers, self.place.positions, self.place.cell, self.place.pbc],
            "solutions": _packed(self.past.solutions),
            "embeddings": _packed(self.past.embeddings),
            "auxiliary": _packed(self.past.auxiliary),
            "secants": [_packed(part) for part in self.secants],
            "move": self.move,
            "failures": self.failures,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any], device: torch.device) -> Memory:
        """The inverse of `plain`.

        Raises:
            KeyError, TypeError, ValueError: `plain` does not describe a memory.
        """

        def tensors(packed: list[dict[str, Any]]) -> list[Tensor]:
            return [_unpacked(one).to(device) for one in packed]

        past = Past(tensors(plain["solutions"]), tensors(plain["embeddings"]), tensors(plain["auxiliary"]))
        first, second = plain["secants"]
        move = None if plain.get("move") is None else np.asarray(plain["move"])
        failures = [int(count) for count in plain.get("failures", [])]
        return cls(_place(*plain["place"]), past, (tensors(first), tensors(second)), move, failures)


def _place(numbers: Any, positions: Any, cell: Any, pbc: Any) -> Frame:  # noqa: ANN401
    """Build a frame from the entries of a restart file; raises ValueError where they do not describe one."""
    found = Frame(System(np.asarray(numbers), np.asarray(cell), np.asarray(pbc)), np.asarray(positions))
    shapes = (found.numbers.shape[1:], found.positions.shape, found.cell.shape, found.pbc.shape)
    kinds = [part.dtype.kind for part in (found.numbers, found.positions, found.cell, found.pbc)]
    if shapes != ((), (*found.numbers.shape, 3), (3, 3), (3,)) or kinds != ["i", "f", "f", "b"]:
        raise ValueError(f"the place of a memory has shapes {shapes} and dtypes {kinds}")
    if not (np.isfinite(found.positions).all() and np.isfinite(found.cell).all()):
        raise ValueError("the place of a memory is not finite")
    return found


def _packed(tensors: list[Tensor]) -> list[dict[str, Any]]:
    arrays = [tensor.cpu().contiguous().numpy() for tensor in tensors]
    return [
        {"dtype": array.dtype.name, "shape": list(array.shape), "base64": base64.b64encode(array.tobytes()).decode()}
        for array in arrays
    ]


def _unpacked(packed: dict[str, Any]) -> Tensor:
    """Decode a tensor of floats; raises ValueError where the data is of another type or not finite."""
    if packed["dtype"] not in ("float32", "float64"):
        raise ValueError(f"dtype is {shorten(packed['dtype'])}")
    array = np.frombuffer(base64.b64decode(packed["base64"]), dtype=packed["dtype"])
    array = array.reshape([int(length) for length in packed["shape"]])
    if not np.isfinite(array).all():
        raise ValueError("values that are not finite")
    return torch.from_numpy(array.copy())


def _filled(tensors: list[Tensor], window: int, like: Tensor) -> Tensor:
    """Stack to [window, ...], repeating the newest entry where there are too few."""
    if window == 0:
        return like.new_zeros((0, *like.shape))
    return torch.stack([*tensors, *[tensors[0]] * (window - len(tensors))])


def _stack(secants: list[Tensor], kept: int, like: Tensor) -> Tensor:
    """Stack to [2, kept, ...], with rows of zeros where there are too few."""
    if kept == 0:
        return like.new_zeros((2, 0, *like.shape))
    missing = [like.new_zeros((2, *like.shape))] * (kept - len(secants))
    return torch.stack([*secants[:kept], *missing], dim=1)


class RunCache:
    """Memories of the runs that one calculator serves.

    Args:
        most: largest number of runs kept; the least recently used one is dropped first.
    """

    def __init__(self, most: int = 64) -> None:
        self.most = most
        self._runs: list[tuple[Any, Memory]] = []

    def find(
        self,
        owner: Any,  # noqa: ANN401 - any object may identify a run
        place: Frame,
        reach: float = REACH,
    ) -> Memory | None:
        """Return the memory of a run, or None where there is none or the run jumped (its memory is then dropped).

        Args:
            owner: object that identifies the run, kept by a weak reference.
            place: present structure.
            reach: largest distance of a warm start, see `WarmStart`.
        """
        for i, (known, memory) in enumerate(self._runs):
            if known is not None and known() is owner:
                del self._runs[i]
                if same_system(memory.place, place) and distance(memory.place, place) <= reach:
                    self._runs.append((known, memory))
                    return memory
                return None
        orphans = [
            (distance(memory.place, place), i)
            for i, (known, memory) in enumerate(self._runs)
            if known is None and same_system(memory.place, place)
        ]
        nearest, i = min(orphans, default=(float("inf"), -1))
        if nearest > reach:
            return None
        memory = self._runs.pop(i)[1]
        self._runs.append((weakref.ref(owner), memory))
        return memory

    def add(self, owner: Any, memory: Memory) -> None:  # noqa: ANN401
        """Keep a new memory for a run."""
        self.forget(owner)
        self._runs.append((weakref.ref(owner), memory))
        del self._runs[: -self.most]

    def forget(self, owner: Any) -> None:  # noqa: ANN401
        """Drop the memory of a run, and the memories whose object no longer exists."""
        self._runs = [(known, kept) for known, kept in self._present() if known is None or known() is not owner]

    def _present(self) -> list[tuple[Any, Memory]]:
        """All runs except those whose object no longer exists."""
        return [(known, memory) for known, memory in self._runs if known is None or known() is not None]

    def clear(self) -> None:
        """Drop everything."""
        self._runs = []

    def __len__(self) -> int:
        return len(self._runs)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the owners, which are objects of this process; runs are then matched by structure."""
        return {"most": self.most, "_runs": [(None, memory.to(torch.device("cpu"))) for _, memory in self._present()]}

    def to(self, device: torch.device) -> None:
        """Move all memories to `device`."""
        self._runs = [(known, memory.to(device)) for known, memory in self._runs]

    def plain(self) -> list[dict[str, Any]]:
        """Return all memories as JSON types and arrays, for a restart file."""
        return [memory.plain() for _, memory in self._present()]

    def load(self, plain: list[dict[str, Any]], device: torch.device) -> None:
        """Replace the contents by what `plain` returned."""
        self._runs = [(None, Memory.from_plain(one, device)) for one in plain]
