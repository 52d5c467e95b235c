"""Structures that differ from what a potential was trained on, by the rule of `mlff md --domain warn`, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlff_calc.export.compiled import CompiledPotential
from mlff_calc.graph import keys
from mlff_calc.graph.domain import Domain
from mlff_calc.graph.many import NeighborLists
from mlff_calc.heads.uncertainty import FORCES_STD
from mlff_calc.sampling.systems import FloatArray, Systems


def outside_of_training(potential: Any, systems: Systems, positions: FloatArray) -> list[str]:
    """What of structures a potential was not trained on, as parts of sentences; none where it does not say.

    Args:
        potential: `Potential` or `CompiledPotential`; its `domain` counts.
        systems: Structures.
        positions: [n_atoms, 3] Angstrom.

    Raises:
        PotentialFileError: The domain is damaged.
        StructureError: See `NeighborLists`.
    """
    plain = getattr(potential.potential if isinstance(potential, CompiledPotential) else potential, "domain", None)
    if not plain:
        return []
    domain = Domain(plain)
    new = dict.fromkeys(domain.new_formula(systems.atoms(number, positions)) for number in range(len(systems)))
    found = [text for text in new if text is not None]
    outside: NDArray[np.int64] = np.unique(systems.index[domain.are_outside(*_neighbors(systems, positions, domain.cutoff))])
    if len(outside):
        chosen = outside[:1]
        alone = _neighbors(systems.take(chosen), positions[systems.rows(chosen)], domain.cutoff)
        found.append(f"{domain.outside(*alone)}, and {len(outside)} of {len(systems)} structures are outside")
    if domain.spread is not None:
        found += _too_wide(potential, domain, systems, positions)
    return found


def _too_wide(potential: Any, domain: Domain, systems: Systems, positions: FloatArray) -> list[str]:
    """The first structure with a spread of a force above the calibrated one, and the number of all of them."""
    lists = NeighborLists(systems.numbers, systems.sizes, systems.cells, systems.pbc, potential.cutoff, skin=0.0)
    spreads = potential(lists.graph(np.ascontiguousarray(positions))).get(FORCES_STD)
    if spreads is None or domain.spread is None:
        return []
    spreads = spreads.detach().double().numpy()
    wide = np.flatnonzero(systems.maxima(np.linalg.norm(spreads, axis=1)) > domain.spread)
    if not len(wide):
        return []
    rows = systems.rows(wide[:1])
    text = domain.too_wide(systems.numbers[rows], spreads[rows])
    return [f"{text}, and that of {len(wide)} of {len(systems)} structures is above it"]


def _neighbors(systems: Systems, positions: FloatArray, cutoff: float) -> tuple[Any, Any, Any, Any]:
    """Arguments of `Domain.outside`."""
    lists = NeighborLists(systems.numbers, systems.sizes, systems.cells, systems.pbc, cutoff, skin=0.0)
    graph = lists.graph(np.ascontiguousarray(positions))
    edges = graph[keys.EDGE_INDEX].numpy()
    return systems.numbers, edges[0], edges[1], graph[keys.EDGE_VEC].numpy()
