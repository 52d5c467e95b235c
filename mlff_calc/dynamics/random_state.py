"""Conversion of the state of a random generator to plain numbers and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlff_calc.bounded import shorten
from mlff_calc.errors import SimulationError


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """Return the state of a random generator as plain numbers."""
    return dict(rng.bit_generator.state)


def restore_generator(state: dict[str, Any]) -> np.random.Generator:
    """Return a random generator that continues from a state of `generator_state` (PCG64, numpy's default).

    Raises:
        SimulationError: The state is not one of that generator.
    """
    rng = np.random.default_rng()
    try:
        rng.bit_generator.state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        reason = shorten(f"{type(error).__name__}: {error}", 200)
        raise SimulationError(
            f"the state of the random numbers is damaged ({reason}). Start over with --overwrite."
        ) from error
    return rng
