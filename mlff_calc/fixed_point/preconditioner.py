"""The low-rank inverse Jacobian that Broyden's method leaves behind, as data that starts the next solve nearby.

With g(z) = f(z) - z and J = df/dz, Broyden's method ends with

    B = -1 + sum_i u_i v_i^T,    near (dg/dz)^-1 = (J - 1)^-1,    for every system of a batch its own.

A solve that is given B takes the step -B g where it would take g: with B = -1 that is plain iteration, with the exact
inverse Newton's method. The adjoint equation, lambda = c + J^T lambda, has the transposed Jacobian, and B^T serves it.

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
    """B = -1 + sum_i u_i v_i^T, an inverse of the Jacobian of f(z) - z, of every system in a batch.

    Attributes:
        left: u [k, n_rows, width]. right: v, of the same shape. k may be 0, which is plain iteration.
    """

    left: Tensor
    right: Tensor


def low_rank_product(left: Tensor, right: Tensor, vector: Tensor, system_index: Tensor, n_systems: int) -> Tensor:
    """Product [n_rows, width] of B = -1 + sum_i u_i v_i^T with `vector`; of its transpose with u and v exchanged."""
    weights = to_rows(system_dot(right, vector, system_index, n_systems), system_index, n_systems)
    return (weights.to(vector.dtype).unsqueeze(-1) * left).sum(dim=0) - vector


def apply_inverse(inverse: LowRankInverse, residual: Tensor, system_index: Tensor, n_systems: int) -> Tensor:
    """B times a residual g, [n_rows, width]: the change of z that would undo -g.

    Args:
        inverse: B.
        residual: [n_rows, width].
        system_index: [n_rows], the system of each row.
        n_systems: number of systems.

    Raises:
        OptionError: B belongs to other rows.
    """
    check_inverse(inverse, residual)
    return low_rank_product(inverse.left, inverse.right, residual, system_index, n_systems)


def transposed(inverse: LowRankInverse) -> LowRankInverse:
    """B^T, for the adjoint equation."""
    return LowRankInverse(inverse.right, inverse.left)


def check_inverse(inverse: LowRankInverse, rows: Tensor) -> None:
    """Refuse a B that is not of the rows it is to act on.

    Args:
        inverse: B.
        rows: [n_rows, width].

    Raises:
        OptionError: shapes differ.
    """
    left, right = inverse.left, inverse.right
    fits = left.dim() == 3 and left.shape == right.shape and left.shape[1:] == rows.shape
    if not fits:
        raise OptionError(
            f"a preconditioner with u {list(left.shape)} and v {list(right.shape)} for rows {list(rows.shape)}; u and v "
            "must both be [rank, rows, width] of the same rows: take it from a solve of the same systems, in their order"
        )


def given_inverse(inverse: LowRankInverse, start: Tensor) -> LowRankInverse:
    """The B that a solver is given, in precision and on the device of `start`.

    Raises:
        OptionError: B belongs to other rows.
    """
    check_inverse(inverse, start)
    return LowRankInverse(inverse.left.to(start), inverse.right.to(start))
