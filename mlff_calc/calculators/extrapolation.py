"""Regular checks whether structures resemble those that the potential was trained on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlff_calc.calculators.stats import CalculatorStats
from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.graph.domain import Domain
from mlff_calc.graph.keys import ATOMIC_NUMBERS, EDGE_INDEX, EDGE_VEC, Graph

ACTIONS = ("warn", "stop", "off")
EVERY = 19
"""Number of calculations per check; a larger number costs less and notices extrapolation later.

A check of ethanol takes 60 microseconds. The number is prime, so that every structure gets checked where several take
turns on one calculator, as images of a path do.
"""


class DomainWarning(UserWarning):
    """A structure has distances or numbers of neighbours outside the range of the training data, or too wide a spread."""


def warn_of_new_formula(potential: Any, atoms: Atoms) -> None:  # noqa: ANN401
    """Warn where a molecule's formula was not in the training data, if the potential's file says which formulas were."""
    plain = getattr(potential, "domain", None)
    text = Domain(plain).new_formula(atoms) if plain else None
    if text is not None:
        warnings.warn(f"{text}. Energy and forces may be a guess there", DomainWarning, stacklevel=2)


class DomainWatch:
    """Count structures outside the training data, and warn about them once or refuse them.

    Args:
        potentials: Potentials; those without a `domain` (from older files) are not checked. The spread of forces for which
            a potential was calibrated counts where it is the only one.
        stats: Counters to increase.

    Attributes:
        action: Reaction to a structure outside: ``warn``, ``stop``, or ``off`` for no checks.
        heard: Function called with the finding of every such check, in place of `action`; None to use `action`.
    """

    heard: Callable[[str], None] | None = None

    def __init__(self, potentials: Iterable[Any], stats: CalculatorStats) -> None:
        plain = [getattr(one, "domain", None) for one in potentials]
        self._domains = [Domain(one) for one in plain if one]
        single = self._domains[0] if self._domains and len(plain) == 1 else None
        self._calibrated = single if single is not None and single.spread is not None else None
        self._stats, self._calls, self._said = stats, 0, False
        self._looked = self._found = False  # in the present calculation
        self.action = "warn"

    def act(self, action: str) -> None:
        """Set the reaction to structures outside the training data.

        Raises:
            OptionError: The action is unknown, or it is ``stop`` and no potential describes its training data.
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
        """Whether structures are checked."""
        return bool(self._domains) and self.action != "off"

    def look(self, graph: Graph, *, jumped: bool = False) -> None:
        """Check the first graph and every `EVERY`-th after it.

        Args:
            graph: Graph of the structure.
            jumped: Whether the structure is new or has moved far since the last call; it is then checked in any case.

        Raises:
            SimulationError: The structure is outside and the action is ``stop``.
        """
        self._looked = self._found = False
        if not self.looks:
            return
        self._calls = 1 if jumped else self._calls + 1
        if self._calls % EVERY == 1:
            self.look_now(graph)

    def look_now(self, graph: Graph) -> None:
        """Check this graph; see `look`."""
        numbers, edges, vectors = (graph[key].detach().cpu().numpy() for key in (ATOMIC_NUMBERS, EDGE_INDEX, EDGE_VEC))
        self._stats.n_looks += 1
        self._looked = True
        self._judge(next(filter(None, (one.outside(numbers, edges[0], edges[1], vectors) for one in self._domains)), None))

    def look_at_spread(self, numbers: NDArray[np.int64], results: Mapping[str, Any]) -> None:
        """Compare the spread of forces of every calculation with the one for which the potential was calibrated.

        A structure that `look` has found to be outside in the same calculation does not count twice.

        Args:
            numbers: Atomic numbers [n].
            results: Results of the calculation; without `forces_std` there is nothing to compare.

        Raises:
            SimulationError: The spread is too wide and the action is ``stop``.
        """
        if self._calibrated is None or self.action == "off" or self._found or "forces_std" not in results:
            return
        self._stats.n_looks += not self._looked
        self._judge(self._calibrated.too_wide(numbers, results["forces_std"]))

    def _judge(self, found: str | None) -> None:
        """Count a finding and act on it."""
        if found is None:
            return
        self._found = True
        self._stats.n_outside += 1
        if self.heard is not None:
            self.heard(found)
            return
        message = (
            f"the structure is outside of what the potential was trained on: {found}. Energy and forces are a guess there; "
            "label such structures and train on them"
        )
        if self.action == "stop":
            self._calls = 0  # the same structure is refused again at the next call
            raise SimulationError(message)
        if not self._said:
            self._said = True
            text = f"{message}. This warning appears once per calculator; stats.n_outside counts such structures"
            warnings.warn(text, DomainWarning, stacklevel=8)

    def __getstate__(self) -> dict[str, Any]:
        """State without `heard`, which belongs to a run of this process."""
        return {**self.__dict__, "heard": None}
