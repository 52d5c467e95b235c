"""What is measured on training frames: sizes of scores and structures, and whether forces and temperature fit together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlff_calc.errors import DatasetError

FloatArray = NDArray[np.float64]
VIRIAL_WITHIN = 4.0
"""Factor between virial and degrees of freedom up to which forces, positions and temperature count as consistent. Raising it
accepts data that are farther from exp(-E/kT). The half of lower energy has 0.6 of them for ethanol, 0.4 for three atoms;
wrong units give more than 20, or less than 1/20."""
FROZEN = 1e-4
"""Spread of a distance, relative to its mean, below which it counts as frozen. Raising it takes stiff bonds
for constraints."""


def centred(values: FloatArray) -> FloatArray:
    """Values [n_frames, n_atoms, 3] relative to the mean over the atoms of each frame."""
    return values - values.mean(axis=1, keepdims=True)


def dimensions_of(positions: FloatArray) -> int:
    """Number of dimensions of space, 2 where all positions [n_frames, n_atoms, 3] have z = 0, otherwise 3."""
    return 3 if np.any(positions[..., 2]) else 2


def degrees_of_freedom(n_atoms: int, dimensions: int = 3) -> int:
    """Number of degrees of freedom without translations."""
    return dimensions * (n_atoms - 1)


def clipped(scores: FloatArray, largest: float | None) -> FloatArray:
    """Scores [n_frames, n_atoms, 3], scaled down where the norm of a frame is above `largest` (1/length)."""
    if largest is None:
        return scores
    norms = np.sqrt((scores**2).sum(axis=(1, 2), keepdims=True))
    return scores * np.minimum(1.0, largest / np.maximum(norms, 1e-300))


def information_of(scores: FloatArray, dimensions: int) -> float:
    """Mean square of F/kT [n_frames, n_atoms, 3] per degree of freedom, 1/length^2."""
    return float((scores**2).sum(axis=(1, 2)).mean() / degrees_of_freedom(scores.shape[1], dimensions))


def spread_of(positions: FloatArray, dimensions: int) -> float:
    """Root mean square of centred positions [n_frames, n_atoms, 3] per degree of freedom."""
    square = (centred(positions) ** 2).sum(axis=(1, 2)).mean()
    return float(np.sqrt(square / degrees_of_freedom(positions.shape[1], dimensions)))


def virial_ratio(positions: FloatArray, scores: FloatArray, dimensions: int) -> tuple[float, float]:
    """Mean of -x . F/kT over its value for exp(-E/kT), the number of degrees of freedom, and its standard error.

    Args:
        positions: [n_frames, n_atoms, 3].
        scores: F/kT [n_frames, n_atoms, 3], not clipped.
        dimensions: 2 or 3.
    """
    virials = -(centred(positions) * scores).sum(axis=(1, 2)) / degrees_of_freedom(positions.shape[1], dimensions)
    return float(virials.mean()), float(virials.std() / np.sqrt(len(virials)))


def bond_virial_ratio(
    positions: FloatArray, scores: FloatArray, dimensions: int, bonds: Sequence[Sequence[int]]
) -> tuple[float, float]:
    """The same as `virial_ratio` for the virial of bonds only, whose error is many times smaller in molecules.

    For exp(-E/kT) and any field v(x), the means of -v . F/kT and of div v are equal. Here v moves both atoms of a bond of
    length r by (r - a) along it, with a the mean of r, so that div v = 2 + 2 (dimensions - 1) (r - a) / r.

    Args:
        positions: [n_frames, n_atoms, 3], at least two frames.
        scores: F/kT [n_frames, n_atoms, 3], not clipped.
        dimensions: 2 or 3.
        bonds: Pairs of atoms, at least one.
    """
    n = len(positions)
    i, j = np.array(bonds).T
    vectors = positions[:, i] - positions[:, j]
    lengths = np.linalg.norm(vectors, axis=-1)
    longer = (lengths - lengths.mean(axis=0)) / lengths
    virials = -(longer[..., None] * vectors * (scores[:, i] - scores[:, j])).sum(axis=(1, 2)) * n / (n - 1)
    expected = 2.0 * (1.0 + (dimensions - 1) * longer.mean(axis=0)).sum()
    return float(virials.mean() / expected), float(virials.std() / np.sqrt(n) / expected)


def check_temperature(
    positions: FloatArray, scores: FloatArray, dimensions: int, place: str, bonds: Sequence[Sequence[int]] = ()
) -> str:
    """Check that frames with forces F may be distributed as exp(-E/kT), by their virial.

    Args:
        positions: [n_frames, n_atoms, 3].
        scores: F/kT [n_frames, n_atoms, 3], not clipped.
        dimensions: 2 or 3.
        place: Name of the frames.
        bonds: Pairs of atoms; where there are any, the virial is that of bonds.

    Returns:
        A sentence about the virial.

    Raises:
        DatasetError: It is far from the number of degrees of freedom: kT or a unit does not match.
    """
    if len(positions) < 2:
        return f"{place}: one frame with forces does not tell whether temperature and units match"
    if len(bonds):
        ratio, error = bond_virial_ratio(positions, scores, dimensions, bonds)
        expected, what = 2 * len(bonds), "virial of bonds"
    else:
        ratio, error = virial_ratio(positions, scores, dimensions)
        expected, what = degrees_of_freedom(positions.shape[1], dimensions), "virial -x.F/kT"
    said = f"{what} of {place}: {ratio * expected:.4g} +- {error * expected:.2g}, and {expected} for exp(-E/kT)"
    noise = error / max(1.0, abs(ratio))  # the error grows with a factor that is wrong
    consistent = 1.0 / VIRIAL_WITHIN <= ratio <= VIRIAL_WITHIN or abs(ratio - 1.0) <= 4.0 * noise
    if not (np.isfinite(ratio) and consistent):
        raise DatasetError(
            f"{said}; temperature, unit or sign of the forces do not match the positions. Give the temperature at which the "
            "frames were made (kT in the unit of their energies), and data.units or data.keys.forces_sign where they differ"
        )
    return said


def check_not_frozen(positions: FloatArray, place: str) -> None:
    """Refuse frames in which a distance between atoms never changes.

    Raises:
        DatasetError: Such frames were made with constraints, and are not distributed as exp(-E/kT).
    """
    if len(positions) < 3:
        return
    some = positions[np.linspace(0, len(positions) - 1, min(len(positions), 200)).astype(int)]
    distances = np.linalg.norm(some[:, :, None] - some[:, None, :], axis=-1)
    relative = distances.std(axis=0) / np.maximum(distances.mean(axis=0), 1e-12)
    np.fill_diagonal(relative, np.inf)
    i, j = np.unravel_index(np.argmin(relative), relative.shape)
    if relative[i, j] < FROZEN:
        raise DatasetError(
            f"{place}: the distance of atoms {i} and {j} is {distances[0, i, j]:.5f} in all frames; frames with frozen "
            "bonds are not distributed as exp(-E/kT). Make them without constraints"
        )
