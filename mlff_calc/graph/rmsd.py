"""Root mean square distances of structures over rotations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def rmsds(one: FloatArray, others: FloatArray) -> FloatArray:
    """Smallest RMSD over rotations of [n, 3] against each of [m, n, 3], Angstrom [m].

    Source: Kabsch, Acta Cryst. A 32, 922 (1976).
    """
    one, others = one - one.mean(axis=0), others - others.mean(axis=1, keepdims=True)
    mixed = np.einsum("ik,mil->mkl", one, others)
    sizes = np.linalg.svd(mixed, compute_uv=False)
    overlap = sizes[:, 0] + sizes[:, 1] + np.sign(np.linalg.det(mixed)) * sizes[:, 2]
    squares = (one**2).sum() + (others**2).sum(axis=(1, 2)) - 2.0 * overlap
    found: FloatArray = np.sqrt(np.maximum(squares, 0.0) / len(one))
    return found
