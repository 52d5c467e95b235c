"""The low-rank inverse Jacobian that Broyden's method leaves behind, as data that starts the next solve nearby.

With g(z) = f(z) - z and J = df/dz, Broyden's method ends with

    B = -1 + sum_i u_i v_i^T,    near (dg/dz)^-1 = (J - 1)^-1,    for every system of a batch its own.

A solve that is given B takes the step -B g instead of g. With B = -1 this is plain iteration; with the exact inverse it
is Newton's method. The adjoint equation, lambda = c + J^T lambda, has the transposed Jacobian and uses B^T.

    found = solve(f, start, Broyden(history=30))
    inverse = inverse_of(found.known)
    solve(f_nearby, found.state, Picard(), preconditioner=inverse)
    solve(adjoint_map, cotangent, Picard(), preconditioner=transposed(inverse))

| symbol | name in code | shape |
|---|---|---|
| u_i | `left` | [k, n_rows, width] |
| v_i | `right` | [k, n_rows, width] |

Source: Broyden (1965); Bai, Kolter, Koltun, "Deep equilibrium models" (2019), Sec. 3 (low-rank form).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mlff_calc.errors import OptionError
from mlff_calc.fixed_point.systems import system_dot, to_rows


class LowRankInverse(NamedTuple):
    """Inverse B = -1 + sum_i u_i v_i^T of the Jacobian of f(z) - z, one for every system of a batch.

    Attributes:
        left: vectors u_i [k, n_rows, width]; k may be 0, which gives plain iteration.
        right: vectors v_i, of the same shape.
    """

    left: Tensor
    right: Tensor


def low_rank_product(left: Tensor, right: Tensor, vector: Tensor, system_index: Tensor, n_systems: int) -> Tensor:
    """Multiply B = -1 + sum_i u_i v_i^T by `vector` [n_rows, width]; exchange u and v to multiply by B^T."""
    weights = to_rows(system_dot(right, vector, system_index, n_systems), system_index, n_systems)
    return (weights.to(vector.dtype).unsqueeze(-1) * left).sum(dim=0) - vector


def apply_inverse(inverse: LowRankInverse, residual: Tensor, system_index: Tensor, n_systems: int) -> Tensor:
    """Multiply a residual g [n_rows, width] by B, which gives the change of z that would undo -g.

    Args:
        inverse: low-rank inverse B.
        residual: [n_rows, width].
        system_index: [n_rows], the system of each row.
        n_systems: number of systems.

    Raises:
        OptionError: the shapes of B do not fit the rows.
    """
    check_inverse(inverse, residual)
    return low_rank_product(inverse.left, inverse.right, residual, system_index, n_systems)


def transposed(inverse: LowRankInverse) -> LowRankInverse:
    """Return B^T, for the adjoint equation."""
    return LowRankInverse(inverse.right, inverse.left)


def check_inverse(inverse: LowRankInverse, rows: Tensor) -> None:
    """Check that B has the shape of the rows it is applied to.

    Args:
        inverse: low-rank inverse B.
        rows: [n_rows, width].

    Raises:
        OptionError: the shapes differ.
    """
    left, right = inverse.left, inverse.right
    fits = left.dim() == 3 and left.shape == right.shape and left.shape[1:] == rows.shape
    if not fits:
        raise OptionError(
            f"a preconditioner with u {list(left.shape)} and v {list(right.shape)} for rows {list(rows.shape)}; u and v "
            "must both be [rank, rows, width] of the same rows: take it from a solve of the same systems, in their order"
        )


def given_inverse(inverse: LowRankInverse, start: Tensor) -> LowRankInverse:
    """Return B in the precision and on the device of `start`.

    Raises:
        OptionError: the shapes of B do not fit the rows.
    """
    check_inverse(inverse, start)
    return LowRankInverse(inverse.left.to(start), inverse.right.to(start))
