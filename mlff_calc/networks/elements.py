"""Elements in the configuration of a network, and their numbers as species of its backbone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from mlff_calc.errors import RecipeError


def checked_element(number: object, what: str, key: str = "elements") -> int:
    """Return an atomic number of a configuration.

    Args:
        number: As configured.
        what: Name of the network with its article, for messages.
        key: Key of the configuration.

    Raises:
        RecipeError: It is not from 1 to 118.
    """
    if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 119:
        return number
    raise RecipeError(f"{key} holds {number!r} in {what}'s configuration; give atomic numbers from 1 to 118")


def checked_elements(numbers: Iterable[Any], what: str) -> list[int]:
    """Return the elements of a configuration, each once and sorted; see `checked_element`."""
    return sorted({checked_element(number, what) for number in numbers})


def species_table(elements: Sequence[int]) -> Tensor:
    """Return the species of each atomic number [119]: its place among the elements, or their number where it is unknown."""
    table = torch.full((119,), len(elements), dtype=torch.long)
    table[torch.tensor(elements)] = torch.arange(len(elements))
    return table
