"""The state of a random generator as plain numbers, and a generator that goes on from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlff_calc.bounded import shorten
from mlff_calc.errors import SimulationError


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """The state of a random generator, as plain numbers."""
    return dict(rng.bit_generator.state)


def restore_generator(state: dict[str, Any]) -> np.random.Generator:
    """A random generator that goes on where `generator_state` was taken (PCG64, numpy's default).

    Raises:
        SimulationError: the state is none of that generator.
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
