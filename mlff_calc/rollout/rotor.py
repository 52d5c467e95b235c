"""Molecules that turn like rigid bodies: the fit of a structure, and free rotation.

Everything is in double precision, for many samples at once. Fits allow reflections, which makes them equivariant under O(3).

Source: Schönemann, "A generalized solution of the orthogonal Procrustes problem" (1966).
"""

from __future__ import annotations

import torch
from torch import Tensor

STEP = 4.0
"""Length of a step of the rotation, fs. A molecule turns by a few degrees in it."""


def centred(values: Tensor, masses: Tensor) -> tuple[Tensor, Tensor]:
    """Values relative to their mean by mass, and that mean.

    Args:
        values: Positions or velocities [..., n_atoms, 3].
        masses: [n_atoms].
    """
    mean = (masses[:, None] * values).sum(dim=-2, keepdim=True) / masses.sum()
    return values - mean, mean


def fitted(positions: Tensor, reference: Tensor, masses: Tensor, *, proper: bool = False) -> Tensor:
    """Orthogonal matrices R [..., 3, 3] for which R reference is nearest by mass.

    Args:
        positions: Relative to the centre of mass [..., n_atoms, 3].
        reference: Relative to its centre of mass [n_atoms, 3], or one for each of the positions.
        masses: [n_atoms].
        proper: Whether R turns only; otherwise it may reflect too.
    """
    overlap = (masses[:, None] * positions).transpose(-1, -2) @ reference
    u, _, vh = torch.linalg.svd(overlap)
    if proper:
        sign = torch.linalg.det(u @ vh).sign()[..., None]
        u = torch.cat([u[..., :2], u[..., 2:] * sign[..., None]], dim=-1)
    return u @ vh


def angular_momentum(positions: Tensor, velocities: Tensor, masses: Tensor) -> Tensor:
    """Angular momentum [..., 3] of positions and velocities [..., n_atoms, 3] relative to the centre of mass."""
    return (masses[:, None] * torch.linalg.cross(positions, velocities)).sum(dim=-2)


def inverse_inertia(positions: Tensor, masses: Tensor) -> Tensor:
    """Inverse of the tensor of inertia [..., 3, 3]; zero along the axis of linear molecules."""
    squares = positions.square().sum(dim=-1)[..., None, None] * torch.eye(3, dtype=positions.dtype, device=positions.device)
    parts = masses[:, None, None] * (squares - positions.unsqueeze(-1) * positions.unsqueeze(-2))
    return torch.linalg.pinv(parts.sum(dim=-3), hermitian=True, rtol=1e-8)


def rotation(angles: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] about vectors [..., 3] by their lengths (Rodrigues)."""
    size = torch.linalg.vector_norm(angles, dim=-1)[..., None, None].clamp(min=1e-12)
    zero = torch.zeros_like(angles[..., 0])
    x, y, z = angles.unbind(-1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    one = torch.eye(3, dtype=angles.dtype, device=angles.device)
    return one + torch.sin(size) / size * cross + (1.0 - torch.cos(size)) / size.square() * (cross @ cross)


def turned(momentum: Tensor, inverse: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation of free rigid bodies since time 0, and their angular velocity.

    Steps of `STEP` begin at time 0, and one shorter step leads to each requested time, so that it does not depend on others.

    Args:
        momentum: Angular momentum [n_samples, 3].
        inverse: Inverse inertia at time 0 [n_samples, 3, 3].
        times: [n_samples, n_times], at least 0.

    Returns:
        Rotations [n_samples, n_times, 3, 3] and angular velocities [n_samples, n_times, 3].
    """

    def spin(turn: Tensor, l: Tensor, j: Tensor) -> Tensor:  # noqa: E741
        return (turn @ j @ (turn.transpose(-1, -2) @ l.unsqueeze(-1))).squeeze(-1)

    def step(turn: Tensor, length: Tensor, l: Tensor, j: Tensor) -> Tensor:  # noqa: E741
        half = rotation(0.5 * length * spin(turn, l, j)) @ turn
        return rotation(length * spin(half, l, j)) @ turn

    n = len(momentum)
    turn = torch.eye(3, dtype=momentum.dtype, device=momentum.device).expand(n, 3, 3)
    grid, length = [turn], torch.full_like(momentum[:, :1], STEP)
    for _ in range(int(torch.floor(times.max() / STEP))):
        turn = step(turn, length, momentum, inverse)
        grid.append(turn)
    number = torch.floor(times / STEP).long()
    before = torch.stack(grid)[number, torch.arange(n, device=times.device).unsqueeze(1)]
    l, j = momentum.unsqueeze(1), inverse.unsqueeze(1)  # noqa: E741
    found = step(before, (times - STEP * number).unsqueeze(-1), l, j)
    return found, spin(found, l, j)


def rigid_path(structure: Tensor, momentum: Tensor, masses: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Positions and velocities [n_samples, n_times, n_atoms, 3] of structures that turn about their centre.

    Args:
        structure: Relative to the centre of mass [n_samples, n_atoms, 3].
        momentum: Angular momentum [n_samples, 3].
        masses: [n_atoms].
        times: [n_samples, n_times], at least 0.
    """
    turns, spin = turned(momentum, inverse_inertia(structure, masses), times)
    places = structure.unsqueeze(1) @ turns.transpose(-1, -2)
    return places, torch.linalg.cross(spin.unsqueeze(2).expand_as(places), places)
