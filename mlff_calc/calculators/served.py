"""Models whose results depend on the runs that they serve."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor

from mlff_calc.calculators.stats import CalculatorStats
from mlff_calc.fixed_point.memory import RunCache
from mlff_calc.graph.frame import Frame

Step = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""Function from a graph with a memory to outputs, compiled or not."""


class ServedModel(ABC):
    """A potential with a memory for each run that it serves; `serve` precedes every call.

    Args:
        step: Function for all steps that follow others.
        cache: Memories of the runs.
        stats: Counters of evaluations.
    """

    def __init__(self, step: Step, cache: RunCache, stats: CalculatorStats) -> None:
        self.step, self.cache, self.stats = step, cache, stats
        self._owner: Any = None
        self._place: Frame | None = None

    def serve(self, owner: Any, place: Frame) -> None:  # noqa: ANN401
        """Announce the structure of the next call.

        Args:
            owner: Atoms object of the run.
            place: Frame of these atoms.
        """
        self._owner, self._place = owner, place

    def __call__(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of the potential.

        Raises:
            ConvergenceError: Nothing that was tried converged.
        """
        if self._place is None:
            raise RuntimeError("serve() comes before the call")
        return self._outputs(graph, self._place)

    @abstractmethod
    def _outputs(self, graph: dict[str, Tensor], place: Frame) -> dict[str, Tensor]:
        """Outputs at a structure, whose memory is brought up to date."""
