"""Errors of stresses by component, and signs that a file writes its components in another order than was read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from mlff_calc.datasets.stress_order import COMPONENTS, parsed_order
from mlff_calc.training.sums import Errors

_FEWEST_FRAMES = 10
_GAIN = 0.25
"""Least gain of a component's correlation in the other order. Raising it keeps back hints about potentials that are bad."""

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]


def _six(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Reference and predicted components [n_frames, 6]."""
    rows, columns = zip(*parsed_order(" ".join(COMPONENTS)), strict=True)
    reference, predicted = (np.array(each)[:, rows, columns] for each in zip(*pairs, strict=True))
    return reference, predicted


def component_errors(pairs: Pairs) -> dict[str, Errors]:
    """Errors of each component, meV/Angstrom^3, from (reference, predicted) tensors [3, 3] in eV/Angstrom^3."""
    if not pairs:
        return {}
    reference, predicted = _six(pairs)
    errors = 1000.0 * (predicted - reference)
    mae, rmse = np.abs(errors).mean(axis=0), np.sqrt(np.square(errors).mean(axis=0))
    return {
        name: Errors(float(mae[i]), float(rmse[i]), len(errors), "meV/Angstrom^3") for i, name in enumerate(COMPONENTS)
    }


def order_hint(pairs: Pairs) -> str:
    """A sentence where the labels fit the predictions much better with their components in another order; else none.

    Args:
        pairs: (Reference, predicted) tensors [3, 3], one for each frame. Fewer than ten say nothing.
    """
    if len(pairs) < _FEWEST_FRAMES:
        return ""
    reference, predicted = (each - each.mean(axis=0) for each in _six(pairs))
    sizes = np.outer(np.linalg.norm(reference, axis=0), np.linalg.norm(predicted, axis=0))
    correlations = (reference.T @ predicted) / np.where(sizes > 0.0, sizes, np.inf)
    _, fits = linear_sum_assignment(-correlations)
    moved = [i for i in range(len(COMPONENTS)) if fits[i] != i]
    gains = [correlations[i, fits[i]] - correlations[i, i] for i in moved]
    if not moved or min(gains) < _GAIN:
        return ""
    listed = ", ".join(
        f"{COMPONENTS[i]} fits the predicted {COMPONENTS[fits[i]]} (correlation {correlations[i, fits[i]]:.2f}, "
        f"{correlations[i, i]:.2f} as it was read)"
        for i in moved
    )
    return (
        f"The components of the stress labels may stand in another order in the file: {listed}. "
        "The key stress_order names the order, for example 'xx yy zz xy yz zx'."
    )
