"""Base class of calculators of potentials: the evaluation of a graph by ASE's rules."""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.outputs import Properties
from numpy.typing import NDArray

from mlff_calc.calculators.ase_rules import AseCalculator
from mlff_calc.calculators.checks import ElementCheck, IgnoredInputs
from mlff_calc.calculators.extrapolation import DomainWatch
from mlff_calc.calculators.lists import NeighborLists
from mlff_calc.calculators.models import compiled_files, device_of, load_model, reuse_mode, runs_code
from mlff_calc.calculators.outputs import (
    Arrays,
    Results,
    empty_arrays,
    is_finite,
    not_finite,
    require_stress,
    to_host,
)
from mlff_calc.calculators.served import ServedModel
from mlff_calc.calculators.sharing import check_fork, in_forked_child, prepare_for_forks
from mlff_calc.calculators.snapshot import Snapshot
from mlff_calc.calculators.state import calculator_state, restore_state
from mlff_calc.calculators.stats import CalculatorStats
from mlff_calc.device import deterministic_sums, gradients_on
from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.fixed_point.memory import RunCache
from mlff_calc.graph.frame import Frame, System
from mlff_calc.graph.keys import Graph
from mlff_calc.graph.occupancy import check_occupancy
from mlff_calc.memory import keep_freed_memory

PROPERTIES = ["energy", "free_energy", "energies", "forces", "stress", "stresses"]
STRESSES = frozenset({"stress", "stresses"})
_TRANSIENT = ("_lists", "_models", "_reusing", "_device", "_check_elements", "_known")


class GraphCalculator(AseCalculator):
    """An ASE calculator that turns atoms into a graph, evaluates it, and hands out arrays.

    Subclasses pass their potentials and implement `_results`. Models on a device and neighbour lists are left out of
    pickles and deep copies, and are rebuilt at the next calculation.

    Children of a fork compute with one thread (`sharing.py`).
    """

    implemented_properties: ClassVar[list[str]] = PROPERTIES
    default_parameters: ClassVar[dict[str, Any]] = {
        "device": "auto",
        "precision": "float32",
        "skin": 0.5,
        "compile": False,
        "neighbor_backend": "auto",
        "deterministic": False,
        "reuse": "auto",
        "domain": "warn",
    }

    def __init__(self, potentials: Sequence[Any], **parameters: Any) -> None:
        super().__init__(**parameters)
        self._potentials = list(potentials)
        self.stats = CalculatorStats()
        self._caches = [RunCache() for _ in self._potentials]
        self._ignored = IgnoredInputs()
        self.watch = DomainWatch(self._potentials, self.stats)
        self._prepare()

    @property
    def device(self) -> torch.device:
        """Device on which the model runs."""
        self._ensure_prepared()
        return self._device

    @property
    def history_free(self) -> bool:
        """Whether results depend on the structure alone (on a CPU, to the last bit).

        This is true unless fixed points are reused: the age of a neighbour list does not change its edges.
        """
        return all(reuse_mode(potential, self.parameters) is None for potential in self._potentials)

    def get_state(self) -> dict[str, Any] | None:
        """Return the history on which the next results depend, and the last results, in plain types and arrays.

        None if results depend on the structure alone. The last results are included so that a resumed run does not
        evaluate its first structure again, which would add a step to the history.
        """
        if self.history_free:
            return None
        memories = [cache.plain() for cache in self._caches]
        return calculator_state(memories, self._last, {} if self._last is None else self.results)

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state from `get_state`, so that a run resumes bit for bit.

        Raises:
            SimulationError: The state is damaged or belongs to another calculator.
        """
        self._ensure_prepared()
        restored = restore_state(state, [partial(cache.load, device=self._device) for cache in self._caches])
        if restored is not None:
            self._last, self.results = restored

    @property
    def potentials(self) -> tuple[Any, ...]:
        """Potentials of all members, as loaded or given."""
        return tuple(self._potentials)

    def export_properties(self) -> Properties:
        """Results with names that ASE knows; ASE refuses others."""
        return Properties({name: value for name, value in self.results.items() if name in PROPERTIES})

    @property
    def cutoff(self) -> float:
        """Largest cutoff of all members, in Angstrom."""
        return max(float(potential.cutoff) for potential in self._potentials)

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Return the parameters as plain types; a `Reuse` or `Shadow` as its options."""
        plain = super().todict(skip_default)
        return {key: asdict(value) if is_dataclass(value) else value for key, value in plain.items()}  # type: ignore[arg-type]

    def _prepare(self) -> None:
        """Build models, neighbour lists and checks for the current parameters.

        Raises:
            OptionError: A parameter cannot be honoured.
        """
        options = self.parameters
        prepare_for_forks()
        device = device_of(self._potentials, options["device"])
        check_fork(device, compiled_files(self._potentials))
        if device.type == "cpu":
            keep_freed_memory()
        if options["compile"] and options["deterministic"]:
            raise OptionError(
                "deterministic=True cannot be promised with compile=True, compiled sums may use atomic operations in any "
                "order; choose one of the two"
            )
        self.watch.act(options["domain"])
        lists = NeighborLists(self.cutoff, options["skin"], options["neighbor_backend"], device)
        elements = set.intersection(*(set(potential.elements) for potential in self._potentials))
        self._check_elements = ElementCheck(elements)
        self._models = [
            load_model(potential, options, device, cache, self.stats)
            for potential, cache in zip(self._potentials, self._caches, strict=True)
        ]
        for cache in self._caches:
            cache.to(device)
        self._reusing = [model for model in self._models if isinstance(model, ServedModel)]
        self._known: NDArray[np.int64] | None = None  # atomic numbers that have passed the element check
        self._lists, self._device, self._on_gpu, self._prepared_in = lists, device, device.type == "cuda", os.getpid()

    def _ensure_prepared(self) -> None:
        """Rebuild what a pickle or deep copy left out; in the child of a fork, compile again for one thread."""
        if self._models is None or (self._prepared_in != os.getpid() and in_forked_child() and self._runs_code()):
            self._prepare()

    def _runs_code(self) -> bool:
        """Whether models hold compiled code or are on a GPU; such models do not survive a fork."""
        return self._device.type != "cpu" or runs_code(self._potentials, self.parameters)

    @abstractmethod
    def _results(self, outputs: list[Arrays], system: System) -> Results:
        """Make ASE's results from the arrays of all members."""

    def _go_back(self, before: dict[str, Any]) -> None:
        super()._go_back(before)
        self.watch.act(before["domain"])

    def set_atoms(self, atoms: Atoms) -> None:
        """Refuse unknown elements and shared sites at `atoms.calc = calculator`, where ASE calls this.

        Raises:
            UnknownElementError: The potential does not cover an element; see `ElementCheck`.
            StructureError: A site is shared by several elements; see `check_occupancy`.
        """
        self._ensure_prepared()
        check_occupancy(atoms)
        self._check_elements(atoms.numbers)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """List what changed since the last calculation; warn once about inputs that the potential ignores."""
        self._ignored(atoms)
        return super().check_state(atoms, tol)

    def _require(self, name: str, atoms: Atoms) -> None:
        if name in STRESSES:
            require_stress(System(atoms.numbers, atoms.cell.array, atoms.pbc))

    def reset(self) -> None:
        """Forget the last results and structure, and the fixed points of all runs."""
        super().reset()
        for cache in self._caches:
            cache.clear()

    def _calculate(self, source: Atoms, properties: Sequence[str]) -> None:
        """Evaluate the potential once; all properties are then in `results`.

        Raises:
            UnknownElementError, StructureError: The structure cannot be evaluated; raised before the model runs.
            SimulationError: Memory does not suffice, or results are not finite.
        """
        self._held = {}
        try:
            self._ensure_prepared()
            frame = self._take_in(source)
            with gradients_on():  # forces are a gradient, whatever mode the caller is in
                outputs = self._evaluate(source, frame)
            results = self._results(outputs, frame.system)
            self.stats.n_calls += 1
            if not is_finite(results):  # the calling run stops; its fixed point is useless and dropped
                for cache in self._caches:
                    cache.forget(source)
                raise not_finite(results, frame.numbers)
            self.watch.look_at_spread(frame.numbers, results)  # results that are refused are not kept
            self._held = results
        finally:
            self._turn.new_results()
        if "stress" not in results and not STRESSES.isdisjoint(properties):
            require_stress(frame.system)
            raise PropertyNotImplementedError("this potential gives direct forces and no virial, so it has no stress")

    def _take_in(self, source: Atoms) -> Frame:
        """Check a structure and keep it as the last one; return its frame.

        Raises:
            UnknownElementError, StructureError: The structure cannot be evaluated.
        """
        check_occupancy(source)
        self._ignored(source)
        last = Snapshot(source, None if self._last is None else self._last.frame)
        if last.frame.numbers is not self._known:
            self._check_elements(last.frame.numbers)
            self._known = last.frame.numbers
        self._last = last
        return last.frame

    def look(self, atoms: Atoms | None = None) -> None:
        """Compare the last structure with the training data now; see `DomainWatch.look`.

        Args:
            atoms: Object with this structure, whose neighbour list is used; None for any object.
        """
        with self._turn:
            last = self._last
            if self.watch.looks and last is not None and len(last.frame) > 0:
                self._ensure_prepared()
                self.watch.look_now(self._lists.graph(last.atoms() if atoms is None else atoms, last.frame)[0])

    def _evaluate(self, atoms: Atoms, frame: Frame) -> list[Arrays]:
        """Compute the arrays of every member; add times to `stats`."""
        if len(frame) == 0:
            return [empty_arrays() for _ in self._models]
        stats, clock = self.stats, time.perf_counter
        begin = clock()
        graph, rebuilt = self._lists.graph(atoms, frame)
        stats.neighbors_s += clock() - begin
        stats.n_rebuilds += rebuilt
        self.watch.look(graph, jumped=rebuilt)
        for model in self._reusing:
            model.serve(atoms, frame)
        begin = clock()
        try:
            with deterministic_sums(self.parameters["deterministic"]):
                outputs = self._outputs(graph)
                if self._on_gpu:
                    torch.cuda.synchronize(self._device)
        except torch.OutOfMemoryError as error:
            n_edges = graph["edge_index"].shape[1]
            raise SimulationError(
                f"out of memory on {self._device} with {len(frame)} atoms and {n_edges} edges: {error} "
                "Use a smaller structure, precision='float32', or a device with more memory"
            ) from error
        end = clock()
        arrays = [to_host(output, frame.system) for output in outputs]
        stats.model_s += end - begin
        stats.copies_s += clock() - end
        return arrays

    def _outputs(self, graph: Graph) -> list[dict[str, torch.Tensor]]:
        """The outputs of every member for one graph."""
        return [model(graph) for model in self._models]

    def __getstate__(self) -> dict[str, Any]:
        """State without models on a device, compiled code and neighbour lists."""
        return {**self.__dict__, **dict.fromkeys(_TRANSIENT)}
