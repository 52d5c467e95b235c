"""Offset between two levels of theory: errors of energies after subtracting a constant per atom, or per element.

Total energies of two methods differ by large amounts that no force depends on. The remaining error says how well a
potential of one method works on data of another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols


@dataclass(frozen=True)
class EnergyOffset:
    """Mean offset of energies, predicted minus reference, and the errors after subtracting it.

    Attributes:
        per_atom: Mean of the differences per atom, meV/atom.
        mae: Mean absolute error per atom after that, meV/atom.
        rmse: Root mean square error per atom after that, meV/atom.
        by_element: Offset of each element by least squares, meV; empty where the compositions of the frames do not
            determine it.
        by_element_mae: Mean absolute error per atom after subtracting these, meV/atom; None where there are none.
        by_element_rmse: Root mean square error per atom after subtracting these, meV/atom; None where there are none.
    """

    per_atom: float
    mae: float
    rmse: float
    by_element: dict[str, float]
    by_element_mae: float | None = None
    by_element_rmse: float | None = None

    def rows(self) -> list[str]:
        """Return lines for the table of errors."""
        lines = [_row("  less its mean offset", self.mae, self.rmse, f"(offset {self.per_atom:.3f} meV/atom)")]
        if self.by_element_mae is not None and self.by_element_rmse is not None:
            listed = ", ".join(f"{symbol} {value:.3f}" for symbol, value in self.by_element.items())
            lines.append(_row("  less that of elements", self.by_element_mae, self.by_element_rmse, f"({listed} meV)"))
        return lines


def _row(name: str, mae: float, rmse: float, words: str) -> str:
    return f"{name:<24} {mae:>10.3f} {rmse:>10.3f}  meV/atom {words}"


def energy_offset(reference: np.ndarray, predicted: np.ndarray, compositions: np.ndarray) -> EnergyOffset | None:
    """Compute the offset of predicted energies.

    Args:
        reference: Reference energies [n_frames], eV/atom.
        predicted: Predicted energies [n_frames], eV/atom.
        compositions: Numbers of atoms of each atomic number [n_frames, n].

    Returns:
        The offset, or None for fewer than two frames. Elements have their own offsets if there are at least two
        elements, twice as many frames, and compositions that distinguish the elements.
    """
    if len(reference) < 2:
        return None
    difference = 1000.0 * (predicted - reference)
    mean = float(difference.mean())
    found = EnergyOffset(mean, *_errors(difference - mean), {})
    present = np.flatnonzero(compositions.any(axis=0))
    shares = compositions[:, present] / compositions.sum(axis=1, keepdims=True)
    n_elements = len(present)
    if n_elements < 2 or len(difference) < 2 * n_elements or np.linalg.matrix_rank(shares, tol=1e-6) < n_elements:
        return found
    offsets = np.linalg.lstsq(shares, difference, rcond=None)[0]
    by_element = {chemical_symbols[z]: float(offset) for z, offset in zip(present, offsets, strict=True)}
    return EnergyOffset(mean, found.mae, found.rmse, by_element, *_errors(difference - shares @ offsets))


def _errors(values: np.ndarray) -> tuple[float, float]:
    return float(np.abs(values).mean()), float(np.sqrt(np.square(values).mean()))
