"""A look, every few calculations, at whether a structure is like those the potential was trained on."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from mlff_calc.calculators.stats import CalculatorStats
from mlff_calc.graph.domain import Domain
from mlff_calc.graph.keys import ATOMIC_NUMBERS, EDGE_INDEX, EDGE_VEC, Graph

EVERY = 10
"""Calculations between two looks: one costs 60 microseconds for ethanol, and structures of a trajectory change slowly."""


class DomainWarning(UserWarning):
    """A structure has distances that the training data had not."""


class DomainWatch:
    """Warns once about structures outside the training data, and counts them.

    Args:
        potentials: those with a `domain` are looked at; older ones have none.
        stats: counts go there.
    """

    def __init__(self, potentials: Iterable[Any], stats: CalculatorStats) -> None:
        plain = [one.domain for one in potentials if getattr(one, "domain", None)]
        self._domains = [Domain(one) for one in plain]
        self._stats, self._calls, self._said = stats, 0, False

    def look(self, graph: Graph, *, jumped: bool = False) -> None:
        """Look at the first graph and each EVERY-th after it; the first that is outside is warned about.

        Args:
            graph: of the structure.
            jumped: the structure has moved far from the one before, or is another one: it is looked at as well.
        """
        if not self._domains:
            return
        self._calls = 1 if jumped else self._calls + 1
        if self._calls % EVERY != 1:
            return
        numbers, centers, vectors = (graph[key].detach().cpu().numpy() for key in (ATOMIC_NUMBERS, EDGE_INDEX, EDGE_VEC))
        self._stats.n_looks += 1
        found = next(filter(None, (domain.outside(numbers, centers[0], vectors) for domain in self._domains)), None)
        if found is None:
            return
        self._stats.n_outside += 1
        if not self._said:
            self._said = True
            warnings.warn(
                f"the structure is outside of what the potential was trained on: {found}. Energy and forces are a guess "
                "there; label such structures and train on them. Said once per calculator; stats.n_outside counts",
                DomainWarning,
                stacklevel=6,
            )
