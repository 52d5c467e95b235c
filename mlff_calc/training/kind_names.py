"""The table of trainable kinds: their names, and where their tasks stand.

Packages add kinds by entry points of the group `mlff_calc.kinds`: name of the kind = module:class of its `Task`.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import entry_points

GROUP = "mlff_calc.kinds"
DEFAULT = "potential"
"""Kind of a recipe that has the section of none, such as one that goes on from another potential."""
KINDS = {
    "potential": "mlff_calc.training.potential:PotentialTask",
    "propagator": "mlff_calc.training.propagator.task:PropagatorTask",
}


@lru_cache(maxsize=1)
def table() -> dict[str, str]:
    """Where the task of each kind stands, as module:class; a kind of this package is never replaced by another one's."""
    found = {entry.name: entry.value for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}
    return {**KINDS, **{name: place for name, place in found.items() if name not in KINDS}}


def kinds() -> list[str]:
    """Names of all kinds that there are."""
    return list(table())
