"""Errors of stresses by component, and hints that a file orders its components differently."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from mlff_calc.datasets.stress_order import COMPONENTS, parsed_order
from mlff_calc.training.sums import Errors

_FEWEST_FRAMES = 10
"""Smallest number of frames for a hint. Raising it gives fewer hints, and fewer false ones."""
_SMALLER = 0.5
"""Largest ratio of squared errors, other order over order as read, for a hint. Raising it gives more false hints."""

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]


def _six(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Return reference and predicted components [n_frames, 6]."""
    rows, columns = zip(*parsed_order(" ".join(COMPONENTS)), strict=True)
    reference, predicted = (np.array(each)[:, rows, columns] for each in zip(*pairs, strict=True))
    return reference, predicted


def component_errors(pairs: Pairs) -> dict[str, Errors]:
    """Compute the errors of each component (meV/Angstrom^3) from (reference, predicted) tensors [3, 3] in eV/Angstrom^3."""
    if not pairs:
        return {}
    reference, predicted = _six(pairs)
    errors = 1000.0 * (predicted - reference)
    mae, rmse = np.abs(errors).mean(axis=0), np.sqrt(np.square(errors).mean(axis=0))
    return {
        name: Errors(float(mae[i]), float(rmse[i]), len(errors), "meV/Angstrom^3") for i, name in enumerate(COMPONENTS)
    }


def order_hint(pairs: Pairs) -> str:
    """Return a hint if labels fit predictions much better with components in another order; else an empty text.

    Args:
        pairs: (Reference, predicted) tensors [3, 3], one for each frame; fewer than ten give no hint.
    """
    if len(pairs) < _FEWEST_FRAMES:
        return ""
    reference, predicted = _six(pairs)
    squares = np.square(reference[:, :, None] - predicted[:, None, :]).mean(axis=0)
    _, fits = linear_sum_assignment(squares)
    moved = [i for i in range(len(COMPONENTS)) if fits[i] != i]
    before, after = (sum(squares[i, j[i]] for i in moved) for j in (range(len(COMPONENTS)), fits))
    if not after < _SMALLER * before:
        return ""
    rmse = 1000.0 * np.sqrt(squares)
    listed = ", ".join(
        f"{COMPONENTS[i]} fits the predicted {COMPONENTS[fits[i]]} (RMSE {rmse[i, fits[i]]:.3f} in place of "
        f"{rmse[i, i]:.3f} meV/Angstrom^3)"
        for i in moved
    )
    return (
        f"The components of the stress labels may stand in another order in the file: {listed}. "
        "Set the key stress_order to the order in the file, for example 'xx yy zz xy yz zx'."
    )
