"""Densities and Fock matrices of earlier steps of a trajectory, continued to the next one.

`Aspc` continues any array in time by the always stable predictor-corrector of J. Kolafa, J. Comput. Chem. 25, 335 (2004):

    x_p(n+1) = sum_{j=1}^{k+2} B_j x(n+1-j),    B_j = (-1)^(j+1) j C(2k+4, k+2-j) / C(2k+2, k+1),
    x(n+1) = omega f(x_p) + (1 - omega) x_p,    omega = (k+2)/(2k+3).

The predictor is of second order in the time step, and what is not reversible in time is of order 2k+3. Steps must be
equal. Until there are k+2 earlier steps, a lower order is used.

`DensityExtrapolation` applies it to the contra-covariant density P S as in J. VandeVondele et al., Comput. Phys. Commun.
167, 103 (2005), `DifferenceExtrapolation` to what a model's Fock matrix lacks. All matrices are of one molecule in one
order of orbitals.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlff_calc.electronic.scf.properties import power
from mlff_calc.errors import OptionError

Matrix = NDArray[np.float64]
ORDERS = range(5)


def aspc_coefficients(order: int) -> NDArray[np.float64]:
    """Return the coefficients B_1 (of the last step) to B_{k+2} of the predictor.

    Args:
        order: Order k; -1 is the last step alone.
    """
    scale = comb(2 * order + 2, order + 1)
    return np.array([(-1) ** (j + 1) * j * comb(2 * order + 4, order + 2 - j) / scale for j in range(1, order + 3)])


def aspc_omega(order: int) -> float:
    """Return the share omega of the corrector."""
    return (order + 2) / (2 * order + 3)


class Aspc:
    """Kolafa's predictor for arrays of one shape.

    Args:
        order: Order k, 0 to 4. A higher one is better reversible in time, and has a longer memory and more noise.

    Raises:
        OptionError: The order is out of range.
    """

    def __init__(self, order: int = 3) -> None:
        if order not in ORDERS:
            raise OptionError(f"the order of the extrapolation is {order}; choose 0 to {ORDERS[-1]}")
        self.order = order
        self._values: list[Matrix] = []

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value: Matrix) -> None:
        """Add the array of the next step; only the last k+2 are kept."""
        self._values.insert(0, np.array(value, dtype=np.float64))
        del self._values[self.order + 2 :]

    def predict(self) -> Matrix | None:
        """Return the array of the next step; None without an earlier one."""
        if not self._values:
            return None
        coefficients = aspc_coefficients(len(self._values) - 2)
        return np.einsum("j,j...->...", coefficients, np.stack(self._values))

    def correct(self, predicted: Matrix, solved: Matrix) -> Matrix:
        """Return the corrected value omega f(x_p) + (1 - omega) x_p, to be added where f is a single iteration.

        Where f is iterated to convergence, its value itself is added.
        """
        omega = aspc_omega(self.order)
        return omega * solved + (1.0 - omega) * predicted

    def clear(self) -> None:
        """Forget all steps."""
        self._values = []

    def state(self) -> dict[str, Any]:
        """Return the memory as plain arrays."""
        return {"order": self.order, "values": [value.copy() for value in self._values]}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore a memory from `state`.

        Raises:
            ValueError, KeyError: It is damaged, or of another order.
        """
        if state["order"] != self.order:
            raise ValueError(f"the memory is of order {state['order']}, not {self.order}")
        values = [np.array(value, dtype=np.float64) for value in state["values"]]
        if len({value.shape for value in values}) > 1 or not all(np.isfinite(value).all() for value in values):
            raise ValueError("arrays of the memory have different shapes or values that are not finite")
        self._values = values[: self.order + 2]


def reorthogonalised(coefficients: Matrix, overlap: Matrix) -> Matrix:
    """Return the occupied orbitals [n, n_occ] nearest to the given ones that are orthonormal in a new overlap (Loewdin)."""
    return coefficients @ power(coefficients.T @ overlap @ coefficients, -0.5)


def purified(contra_covariant: Matrix, overlap: Matrix, n_occupied: int) -> Matrix:
    """Return the orbitals [n, n_occ] of the idempotent density nearest to an approximate one.

    The density is symmetrised in Loewdin's orthogonal orbitals, S^(1/2) (P S) S^(-1/2), and its eigenvectors with the
    largest occupations are filled. This is the limit of McWeeny's purification with the number of electrons kept.

    Args:
        contra_covariant: P S [n, n] of one spin, with eigenvalues near 0 and 1.
        overlap: Overlap matrix [n, n] of the new structure.
        n_occupied: Number of occupied orbitals.
    """
    inverse = power(overlap, -0.5)
    orthogonal = power(overlap, 0.5) @ contra_covariant @ inverse
    _, vectors = np.linalg.eigh(0.5 * (orthogonal + orthogonal.T))
    return inverse @ vectors[:, ::-1][:, :n_occupied]


class PreviousDensity:
    """The occupied orbitals of the last step, made orthonormal in the overlap of the next one."""

    def __init__(self) -> None:
        self._coefficients: Matrix | None = None

    def __len__(self) -> int:
        return int(self._coefficients is not None)

    def add(self, coefficients: Matrix, overlap: Matrix) -> None:
        """Add the occupied orbitals [n, n_occ] of a step; the overlap is not needed."""
        self._coefficients = np.array(coefficients, dtype=np.float64)

    def predict(self, overlap: Matrix) -> Matrix | None:
        """Return orbitals [n, n_occ] for a new overlap [n, n]; None without an earlier step."""
        return None if self._coefficients is None else reorthogonalised(self._coefficients, overlap)

    def clear(self) -> None:
        """Forget the last step."""
        self._coefficients = None

    def state(self) -> dict[str, Any]:
        """Return the memory as plain arrays."""
        return {} if self._coefficients is None else {"coefficients": self._coefficients.copy()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore a memory from `state`.

        Raises:
            ValueError: It is damaged.
        """
        found = state.get("coefficients")
        array = None if found is None else np.array(found, dtype=np.float64)
        if array is not None and (array.ndim != 2 or not np.isfinite(array).all()):
            raise ValueError("orbitals of the memory are no finite matrix")
        self._coefficients = array


class DensityExtrapolation:
    """The contra-covariant density P S of earlier steps, continued by `Aspc` and purified in the new overlap.

    Args:
        order: Order of the predictor, 0 to 4.
    """

    def __init__(self, order: int = 3) -> None:
        self._steps = Aspc(order)

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, coefficients: Matrix, overlap: Matrix) -> None:
        """Add occupied orbitals [n, n_occ] and overlap [n, n] of a step that has converged."""
        self._steps.add(coefficients @ (coefficients.T @ overlap))
        self._n_occupied = coefficients.shape[1]

    def predict(self, overlap: Matrix) -> Matrix | None:
        """Return occupied orbitals [n, n_occ] for a new overlap [n, n]; None without an earlier step."""
        predicted = self._steps.predict()
        return None if predicted is None else purified(predicted, overlap, self._n_occupied)

    def clear(self) -> None:
        """Forget all steps."""
        self._steps.clear()

    def state(self) -> dict[str, Any]:
        """Return the memory as plain arrays."""
        return {**self._steps.state(), "n_occupied": self._n_occupied if len(self) else 0}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore a memory from `state`; raises as `Aspc.load`."""
        self._steps.load(state)
        self._n_occupied = int(state["n_occupied"])


class DifferenceExtrapolation:
    """What a model's Fock matrix lacks, continued in time by `Aspc` and added to its next prediction.

    Differences are stored in Loewdin's orthogonal orbitals, S^(-1/2) (F - F_model) S^(-1/2), and come back with the new
    overlap as S^(1/2) (..) S^(1/2), so that changes of the overlap between steps are not taken for changes of the error.

    Args:
        order: Order of the predictor, 0 to 4.
    """

    def __init__(self, order: int = 3) -> None:
        self._steps = Aspc(order)

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, converged: Matrix, predicted: Matrix, overlap: Matrix) -> None:
        """Add the converged and the model's Fock matrix [n, n] of a step, with its overlap [n, n]."""
        inverse = power(overlap, -0.5)
        self._steps.add(inverse @ (converged - predicted) @ inverse)

    def predict(self, predicted: Matrix, overlap: Matrix) -> Matrix:
        """Return the model's Fock matrix [n, n] of the next step with the continued difference."""
        difference = self._steps.predict()
        if difference is None:
            return predicted
        root = power(overlap, 0.5)
        return predicted + root @ difference @ root

    def clear(self) -> None:
        """Forget all steps."""
        self._steps.clear()

    def state(self) -> dict[str, Any]:
        """Return the memory as plain arrays."""
        return self._steps.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore a memory from `state`; raises as `Aspc.load`."""
        self._steps.load(state)
