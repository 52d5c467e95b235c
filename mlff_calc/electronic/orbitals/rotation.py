"""How rotations and reflections of space act on orbitals and on matrices between them: M' = D M D^T.

D has one block D^l for each shell. Orbitals of degree l have the parity (-1)^l, so that a reflection needs no rule of its
own: D^1 is the transformation itself in the order y, z, x, and D^l is coupled from D^(l-1) and D^1.

| symbol | name in code | shape |
|---|---|---|
| R | `rotation` | [3, 3], acts on positions as R x |
| D^l(R) | `shell_rotations(R, l_max)[l]` | [2l+1, 2l+1] |
| D(R) | `orbital_rotation(R, basis, numbers)` | [n, n] |
"""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.errors import OrbitalError
from mlff_calc.nn.coupling import raising

OUR_AXES = (1, 2, 0)
"""Axes y, z, x: orbitals p in our order, and axes that networks of matrices see."""
ORTHOGONAL = 1e-8
"""Largest deviation of R R^T from one; a larger value accepts transformations that also stretch."""


def shell_rotations(rotation: ArrayLike | Tensor, l_max: int) -> list[Tensor]:
    """Matrices D^l of orbitals of degrees 0 to `l_max`, each [..., 2l+1, 2l+1], float64.

    Args:
        rotation: Orthogonal matrices [..., 3, 3] with determinant 1 or -1, which act on positions as R x.
        l_max: Highest degree.

    Raises:
        OrbitalError: A matrix is not orthogonal.
    """
    given = torch.as_tensor(rotation).double()
    if given.shape[-2:] != (3, 3):
        raise OrbitalError(f"a rotation has shape {tuple(given.shape)}; give [..., 3, 3]")
    one = torch.eye(3, dtype=torch.float64, device=given.device)
    apart = (given.detach() @ given.detach().mT - one).abs()
    if not bool((apart <= ORTHOGONAL).all()):
        raise OrbitalError(f"R R^T differs from one by {float(apart.max()):.2g}; give a rotation or a reflection")
    axes = list(OUR_AXES)
    first = given[..., axes, :][..., axes]
    found = [torch.ones_like(given[..., :1, :1]), first]
    for degree in range(2, l_max + 1):
        couple = raising(degree).to(given.device)
        high = torch.einsum("aim,...ab,...ij,bjn->...mn", couple, found[-1], first, couple)
        found.append((2 * degree + 1) * high)
    return found[: l_max + 1]


def orbital_rotation(rotation: ArrayLike | Tensor, basis: OrbitalBasis, numbers: ArrayLike) -> Tensor:
    """The matrix D [n, n] that acts on the orbitals of a molecule, float64.

    Args:
        rotation: Orthogonal matrix [3, 3].
        basis: Basis of the orbitals.
        numbers: Atomic numbers [n_atoms].

    Raises:
        OrbitalError: The matrix is not orthogonal.
        UnknownElementError: The basis lacks an element.
    """
    blocks = shell_rotations(rotation, basis.l_max)
    return torch.block_diag(*(blocks[degree] for degree in basis.molecule_shells(numbers)))


def block_rotation(rotation: ArrayLike | Tensor, basis: OrbitalBasis) -> Tensor:
    """The matrices D [..., width, width] that act on padded orbitals of an atom, float64; see `shell_rotations`."""
    blocks = shell_rotations(rotation, basis.l_max)
    whole = blocks[0].new_zeros((*blocks[0].shape[:-2], basis.width, basis.width))
    start = 0
    for degree, count in enumerate(basis.multiplicities):
        for _ in range(count):
            end = start + 2 * degree + 1
            whole[..., start:end, start:end] = blocks[degree]
            start = end
    return whole


def rotate(matrices: Tensor, rotation: ArrayLike | Tensor, basis: OrbitalBasis, numbers: ArrayLike) -> Tensor:
    """Matrices [..., n, n] of a molecule that was rotated or reflected, D M D^T; see `orbital_rotation`."""
    turn = orbital_rotation(rotation, basis, numbers).to(matrices)
    return turn @ matrices @ turn.mT
