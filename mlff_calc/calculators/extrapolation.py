"""A look, every few calculations, at whether a structure is like those the potential was trained on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

from mlff_calc.calculators.stats import CalculatorStats
from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.graph.domain import Domain
from mlff_calc.graph.keys import ATOMIC_NUMBERS, EDGE_INDEX, EDGE_VEC, Graph

ACTIONS = ("warn", "stop", "off")
EVERY = 19
"""Calculations between two looks: one costs 60 microseconds for ethanol, and structures of a trajectory change slowly.

It is a prime number, so that of several structures that take turns on one calculator, as images of a path do, each has
its turn.
"""


class DomainWarning(UserWarning):
    """A structure has distances or numbers of neighbours that the training data had not."""


class DomainWatch:
    """Warns once about structures outside the training data, or refuses them, and counts them.

    Args:
        potentials: those with a `domain` are looked at; older ones have none.
        stats: counts go there.

    Attributes:
        action: What happens outside: ``warn``, ``stop``, or ``off`` for no looks.
        heard: Function that is told instead what is outside, at every look that finds something; None acts as `action` says.
    """

    heard: Callable[[str], None] | None = None

    def __init__(self, potentials: Iterable[Any], stats: CalculatorStats) -> None:
        plain = [one.domain for one in potentials if getattr(one, "domain", None)]
        self._domains = [Domain(one) for one in plain]
        self._stats, self._calls, self._said = stats, 0, False
        self.action = "warn"

    def act(self, action: str) -> None:
        """Set what happens outside.

        Raises:
            OptionError: an unknown action, or ``stop`` where no potential knows its training data.
        """
        if action not in ACTIONS:
            raise OptionError(f"unknown domain {action!r}; choose one of {', '.join(ACTIONS)}")
        if action == "stop" and not self._domains:
            raise OptionError(
                "domain='stop' cannot be honoured: the potential's file does not say what distances its training data had, "
                "as files of older versions do not; choose warn or off, or train the potential again"
            )
        self.action = action

    @property
    def looks(self) -> bool:
        """Whether structures are looked at."""
        return bool(self._domains) and self.action != "off"

    def look(self, graph: Graph, *, jumped: bool = False) -> None:
        """Look at the first graph and each EVERY-th after it; what is outside is told, warned about once, or refused.

        Args:
            graph: of the structure.
            jumped: the structure has moved far from the one before, or is another one: it is looked at as well.

        Raises:
            SimulationError: the structure is outside, and the action is ``stop``.
        """
        if not self.looks:
            return
        self._calls = 1 if jumped else self._calls + 1
        if self._calls % EVERY == 1:
            self.look_now(graph)

    def look_now(self, graph: Graph) -> None:
        """Look at this graph; see `look`."""
        numbers, edges, vectors = (graph[key].detach().cpu().numpy() for key in (ATOMIC_NUMBERS, EDGE_INDEX, EDGE_VEC))
        self._stats.n_looks += 1
        found = next(filter(None, (domain.outside(numbers, edges[0], edges[1], vectors) for domain in self._domains)), None)
        if found is None:
            return
        self._stats.n_outside += 1
        if self.heard is not None:
            self.heard(found)
            return
        message = (
            f"the structure is outside of what the potential was trained on: {found}. Energy and forces are a guess there; "
            "label such structures and train on them"
        )
        if self.action == "stop":
            self._calls = 0  # whoever asks again for the same structure is refused again
            raise SimulationError(message)
        if not self._said:
            self._said = True
            warnings.warn(f"{message}. Said once per calculator; stats.n_outside counts", DomainWarning, stacklevel=8)

    def __getstate__(self) -> dict[str, Any]:
        """State without who listens, who belongs to a run of this process."""
        return {**self.__dict__, "heard": None}
