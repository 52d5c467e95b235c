"""Energies and forces of many structures: potentials in one batch, other calculators one by one or in worker processes.

A structure that fails has an energy that is NaN and a sentence that says why; the others are not touched by it.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ase.calculators.calculator import BaseCalculator
from numpy.typing import NDArray

from mlff_calc.errors import MLFFError, StructureError
from mlff_calc.export.compiled import CompiledPotential
from mlff_calc.graph import keys
from mlff_calc.graph.batch import split
from mlff_calc.graph.many import NeighborLists
from mlff_calc.potential import Potential
from mlff_calc.potential.evaluate import check_elements
from mlff_calc.sampling.outside import outside_of_training
from mlff_calc.sampling.systems import FloatArray, Systems

PORTION = 1500
"""Number of edges that are evaluated in one go. Raising it calls the network less often; much larger ones make
arrays that do not stay in the processor's cache, and cost up to twice the time per structure."""
Factory = Callable[[], BaseCalculator]
"""Function without arguments that makes an ASE calculator."""


@dataclass(frozen=True)
class Evaluation:
    """Energies and forces of many structures.

    Attributes:
        energies: [n_systems] eV; NaN where the system failed.
        forces: [n_atoms, 3] eV/Angstrom; zero where the system failed.
        problems: Reason of each failure, by number of the system.
    """

    energies: FloatArray
    forces: FloatArray
    problems: dict[int, str] = field(default_factory=dict)


class Evaluator(ABC):
    """What gives energies and forces of many structures."""

    @abstractmethod
    def __call__(self, systems: Systems, positions: FloatArray) -> Evaluation:
        """Energies and forces at positions [n_atoms, 3] (Angstrom)."""

    def check(self, systems: Systems) -> None:  # noqa: B027 - not every evaluator has something to look at
        """Refuse systems that can never be evaluated, before anything begins.

        Raises:
            UnknownElementError: An element that the potential does not know.
        """

    def name(self) -> str:
        """Text that tells this evaluator from one that gives other energies, as far as it can be told."""
        return type(self).__name__

    def outside(self, systems: Systems, positions: FloatArray) -> list[str]:
        """What of structures this was not trained on, as parts of sentences; none where it cannot be told."""
        return []

    def close(self) -> None:  # noqa: B027 - not every evaluator holds something
        """End worker processes, if any."""


class BatchedPotential(Evaluator):
    """A potential that evaluates all structures as one graph, portion by portion.

    Args:
        potential: `Potential` or `CompiledPotential`, on the CPU.
        skin: Angstrom, see `NeighborLists`.
    """

    def __init__(self, potential: Potential | CompiledPotential, skin: float = 0.5) -> None:
        self.potential, self.skin = potential, skin
        self._systems: Systems | None = None
        self._lists: NeighborLists | None = None

    def name(self) -> str:
        """Digest of configuration, precision and weights."""
        potential = self.potential.potential if isinstance(self.potential, CompiledPotential) else self.potential
        digest = hashlib.sha256(json.dumps([potential.config, potential.precision], sort_keys=True).encode())
        for tensor in potential.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def check(self, systems: Systems) -> None:
        """See `Evaluator`."""
        check_elements(systems.numbers, self.potential, "the structures")

    def outside(self, systems: Systems, positions: FloatArray) -> list[str]:
        """See `Evaluator`."""
        return outside_of_training(self.potential, systems, positions)

    def __call__(self, systems: Systems, positions: FloatArray) -> Evaluation:
        """See `Evaluator`."""
        try:
            return _checked(systems, *self._outputs(systems, positions))
        except StructureError:  # of one or several systems; the others must not suffer
            return self._without_failures(systems, positions)

    def _outputs(self, systems: Systems, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Energies and forces of systems that can be evaluated.

        Raises:
            StructureError: Positions that are not finite, or atoms that overlap.
        """
        if self._lists is None or self._systems is not systems:
            self._lists, self._systems = self._neighbors(systems), systems
        graph = self._lists.graph(np.ascontiguousarray(positions))
        parts = portions(np.bincount(systems.index[graph[keys.EDGE_INDEX][0].numpy()], minlength=len(systems)))
        graphs = [graph] if len(parts) == 1 else split(graph, parts)
        outputs = [self.potential(part) for part in graphs]
        energies, forces = (torch.cat([found[name] for found in outputs]) for name in ("energy", "forces"))
        return energies.detach().numpy(), forces.detach().numpy()

    def _neighbors(self, systems: Systems) -> NeighborLists:
        return NeighborLists(
            systems.numbers, systems.sizes, systems.cells, systems.pbc, self.potential.cutoff, self.skin
        )

    def _without_failures(self, systems: Systems, positions: FloatArray) -> Evaluation:
        """All systems but those that cannot be turned into a graph."""
        energies, forces = np.full(len(systems), np.nan), np.zeros_like(positions)
        problems: dict[int, str] = {}
        for number in range(len(systems)):
            alone = np.array([number])
            try:
                self._neighbors(systems.take(alone)).graph(positions[systems.rows(alone)])
            except StructureError as error:
                problems[number] = str(error)
        left = np.array([k for k in range(len(systems)) if k not in problems], dtype=np.intp)
        if len(left):
            found = self(systems.take(left), positions[systems.rows(left)])
            energies[left], forces[systems.rows(left)] = found.energies, found.forces
            problems |= {int(left[k]): text for k, text in found.problems.items()}
        return Evaluation(energies, forces, problems)


def portions(n_edges: NDArray[np.intp]) -> list[int]:
    """Numbers of systems that stand together, out of the numbers of edges of all [n_systems]."""
    parts, used = [0], 0
    for count in n_edges.tolist():
        if parts[-1] and used + count > PORTION:
            parts.append(0)
            used = 0
        parts[-1] += 1
        used += count
    return parts


def _checked(systems: Systems, energies: FloatArray, forces: FloatArray) -> Evaluation:
    """An evaluation in which systems with values that are not finite have failed."""
    finite = np.isfinite(energies) & np.isfinite(systems.sums(forces.sum(axis=1)))
    if finite.all():
        return Evaluation(energies, forces)
    broken = ~finite
    problems = {int(k): "energy or forces are not finite" for k in broken.nonzero()[0]}
    return Evaluation(
        np.where(broken, np.nan, energies), np.where(broken.take(systems.index)[:, None], 0.0, forces), problems
    )


class OneByOne(Evaluator):
    """Any ASE calculator, one structure after the other in this process.

    Args:
        factory: Makes a calculator; one is made for each structure, so that none remembers another.
        info: What every structure has in `info`, such as `charge` and `spin`, which some calculators read.
    """

    def __init__(self, factory: Factory, info: dict[str, int] | None = None) -> None:
        self.factory, self.info = factory, info or {}

    def name(self) -> str:
        """Name of the factory."""
        return name_of(self.factory, self.info)

    def check(self, systems: Systems) -> None:
        """See `Evaluator`."""
        check_factory(self.factory, systems)

    def __call__(self, systems: Systems, positions: FloatArray) -> Evaluation:
        """See `Evaluator`."""
        energies, forces, problems = np.full(len(systems), np.nan), np.zeros_like(positions), {}
        for number in range(len(systems)):
            rows = slice(systems.starts[number], systems.starts[number] + systems.sizes[number])
            atoms = systems.atoms(number, positions)
            atoms.info |= self.info
            energy, force, problem = single(self.factory, atoms)
            if problem is None:
                energies[number], forces[rows] = energy, force
            else:
                problems[number] = problem
        return Evaluation(energies, forces, problems)


def name_of(factory: Factory, info: dict[str, int] | None = None) -> str:
    """Name of a factory: what a dataclass says of itself, or module and name of a function; with what structures tell it."""
    qualified = getattr(factory, "__qualname__", None)
    name = repr(factory) if qualified is None else f"{getattr(factory, '__module__', '')}:{qualified}"
    return f"{name} {info}" if info else name


def check_factory(factory: Factory, systems: Systems) -> None:
    """Let a factory refuse systems that its calculators can never evaluate, where it has a method `check`.

    Raises:
        MLFFError: What it raises.
    """
    check = getattr(factory, "check", None)
    if check is not None:
        check(systems)


def single(factory: Factory, atoms: Any) -> tuple[float, FloatArray, str | None]:
    """Energy, forces and, in place of both, the reason of a failure of one structure."""
    try:
        atoms.calc = factory()
        energy = float(atoms.get_potential_energy())
        forces = np.array(atoms.get_forces(), dtype=np.float64)
    except Exception as error:  # calculators raise what they like
        text = str(error) if isinstance(error, MLFFError) else f"{type(error).__name__}: {error}"
        return float("nan"), np.zeros((len(atoms), 3)), text
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        return float("nan"), np.zeros((len(atoms), 3)), f"energy {energy} eV or forces are not finite"
    return energy, forces, None
