"""Motion of a molecule that needs no network: what the network adds to.

| name | positions at time t, relative to the centre of mass, which moves on |
|---|---|
| `valence` | by the forces of a valence force field (`valence_base.py`) |
| `harmonic` | the mean structure, turned with the angular momentum, plus the best linear prediction of each normal mode |
| `rotor` | the mean structure, turned |
| `start` | the first positions |
| `none` | nothing: the first positions are a channel of the network (the published form) |

The mean structure of the training frames is fitted to the first positions by mass, with reflections, and turns as a free
rigid body with the angular momentum of the first positions and velocities. Displacements from it and velocities beside it,
in the axes of the mean structure, are written in normal modes q_k of the training frames. Each is predicted by

    q_k(t) = a_k(t) q_k(0) + b_k(t) q'_k(0),

with a and b by least squares over the training frames: cos(w t) and sin(w t) / w for a harmonic mode, and falling where
modes lose their phase. They are tables over time, whose slopes give the velocities. Far from the training frames, as in a
conformer that these lack, least squares mislead: there displacements stay as they are, and only turn.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlff_calc.rollout.rotor import angular_momentum, centred, fitted, inverse_inertia, turned

BASES = ("valence", "harmonic", "rotor", "start", "none")
LEAST = 1e-6
"""Smallest variance of a mode, relative to the largest, that counts; displacements along rotations have none."""

EXACT = ("valence", "harmonic", "start")
"""Bases whose positions at time 0 are the first ones, which the network then leaves as they are."""
N_SIGNS = 4
"""Number of signs by which a start is compared with the training frames, see `signs`."""


class Path(NamedTuple):
    """Motion by the base, for n samples.

    Attributes:
        centre: Centre of mass at time 0 [n, 1, 1, 3], Angstrom.
        drift: Its velocity [n, 1, 1, 3], Angstrom/fs.
        turn: Rotation since time 0 [n, n_times, 3, 3].
        positions: Relative to the centre, which has moved [n, n_times, n_atoms, 3].
        velocities: Relative to that of the centre.
        offsets: First positions relative to those of the base [n, n_atoms, 3]; relative to the centre without a rotor.
        rates: First velocities relative to those of the base.
        vibrations: Displacements by normal modes, in the axes of time 0 [n, n_times, n_atoms, 3]; None without them.
        far: Ratio of signs that the start is unlike the training frames to the largest ones there [n, n_times]; None
            without vibrations.
    """

    centre: Tensor
    drift: Tensor
    turn: Tensor
    positions: Tensor
    velocities: Tensor
    offsets: Tensor
    rates: Tensor
    vibrations: Tensor | None = None
    far: Tensor | None = None


def signs(deviations: Tensor, rates: Tensor, velocities: Tensor, masses: Tensor) -> Tensor:
    """Signs of starts that are unlike others [n, N_SIGNS].

    They are mean and largest square of displacements, mean square of their rates, and kinetic energy without that of the
    centre.

    Args:
        deviations: Displacements of n starts [n, n_modes].
        rates: Their rates [n, n_modes].
        velocities: Relative to that of the centre of mass [n, n_atoms, 3].
        masses: [n_atoms].
    """
    squares = deviations.square()
    energy = (masses[:, None] * velocities.square()).sum(dim=(1, 2))
    return torch.stack([squares.mean(dim=1), squares.amax(dim=1), rates.square().mean(dim=1), energy], dim=1)


def beyond(found: Tensor, limits: Tensor) -> tuple[Tensor, Tensor]:
    """Ratio of signs [n, N_SIGNS] to their largest values in the training frames, and share by which vibrations stand still.

    Returns:
        The largest ratio [n]; and a share [n] that is 0 for displacements as in the training frames, and 1 where their
        squares are twice the largest ones.
    """
    ratio = found / limits
    return ratio.amax(dim=1), (ratio[:, :2].amax(dim=1) - 1.0).clamp(0.0, 1.0)


class Base(nn.Module):
    """Constants of the base; `measure.py` of the training room fills them.

    Args:
        name: One of `BASES`.
        masses: [n_atoms], in atomic mass units.
        n_modes: Number of normal modes; 0 without vibrations.
        n_table: Number of times of the tables.
        spacing: Time between them, fs.
    """

    masses: Tensor
    reference: Tensor
    to_modes: Tensor
    from_modes: Tensor
    table: Tensor
    limits: Tensor

    def __init__(self, name: str, masses: list[float], n_modes: int, n_table: int, spacing: float) -> None:
        super().__init__()
        self.name, self.spacing = name, spacing
        n = len(masses)

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64)

        self.register_buffer("masses", torch.tensor(masses, dtype=torch.float64), persistent=False)
        self.register_buffer("reference", zeros(n, 3))
        self.register_buffer("to_modes", zeros(n_modes, 3 * n))
        self.register_buffer("from_modes", zeros(3 * n, n_modes))
        self.register_buffer("table", zeros(n_table, 4, n_modes))
        self.register_buffer("limits", torch.ones(N_SIGNS, dtype=torch.float64))

    def forward(self, positions: Tensor, velocities: Tensor, times: Tensor, *, still: bool = False) -> Path:
        """Motion of samples.

        Args:
            positions: First positions [n, n_atoms, 3], Angstrom.
            velocities: First velocities [n, n_atoms, 3], Angstrom/fs.
            times: [n, n_times], fs.
            still: Whether all starts are taken as far from the training frames.
        """
        x, centre = centred(positions, self.masses)
        v, drift = centred(velocities, self.masses)
        shape = (*times.shape, *x.shape[1:])
        if self.name in ("start", "none"):
            turn = torch.eye(3, dtype=x.dtype, device=x.device).expand(*times.shape, 3, 3)
            place = x.unsqueeze(1).expand(shape) if self.name == "start" else x.new_zeros(shape)
            return Path(centre.unsqueeze(1), drift.unsqueeze(1), turn, place, x.new_zeros(shape), x, v)
        frame = fitted(x, self.reference, self.masses)
        body = self.reference @ frame.transpose(-1, -2)
        momentum, inverse = angular_momentum(x, v, self.masses), inverse_inertia(body, self.masses)
        turn, spin = turned(momentum, inverse, times)
        first_spin = (inverse @ momentum.unsqueeze(-1)).squeeze(-1).unsqueeze(1)
        offsets, rates = x - body, v - torch.linalg.cross(first_spin.expand_as(body), body)
        place, speed, vibrations, far = body.unsqueeze(1).expand(shape), None, None, None
        if self.name == "harmonic":
            first = torch.stack([(one @ frame).flatten(1) @ self.to_modes.T for one in (offsets, rates)], dim=1)
            ratio, share = beyond(signs(first[:, 0], first[:, 1], v, self.masses), self.limits)
            far = ratio.unsqueeze(1).expand_as(times)
            share = (torch.ones_like(share) if still else share).view(-1, 1, 1, 1)
            vibrations, speed = self._vibrations(offsets @ frame, first, times, frame, share)
            place = place + vibrations
        place = place @ turn.transpose(-1, -2)
        moving = torch.linalg.cross(spin.unsqueeze(2).expand_as(place), place)
        if speed is not None:
            moving = moving + speed @ turn.transpose(-1, -2)
        return Path(centre.unsqueeze(1), drift.unsqueeze(1), turn, place, moving, offsets, rates, vibrations, far)

    def _vibrations(
        self, offsets: Tensor, first: Tensor, times: Tensor, frame: Tensor, far: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Displacements and their rates [n, n_times, n_atoms, 3] in the axes of time 0."""
        weights, slopes = self._weights(times)
        found = []
        for factors, still in ((weights, offsets.unsqueeze(1)), (slopes, torch.zeros_like(offsets).unsqueeze(1))):
            modes = (factors * first.unsqueeze(1)).sum(dim=2)
            moving = (modes @ self.from_modes.T).unflatten(-1, (-1, 3))
            found.append(torch.lerp(moving, still.expand_as(moving), far.expand_as(moving)) @ frame.mT.unsqueeze(1))
        return found[0], found[1]

    def _weights(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Weights a, b and their slopes [n, n_times, 2, n_modes], by cubic interpolation."""
        number = torch.floor(times / self.spacing).long().clamp(max=len(self.table) - 2)
        s = (times / self.spacing - number)[..., None, None]
        h = self.spacing
        left, right = self.table[number], self.table[number + 1]
        p, m, q, w = left[..., :2, :], h * left[..., 2:, :], right[..., :2, :], h * right[..., 2:, :]
        change = q - p
        bend, more = 3.0 * change - 2.0 * m - w, m + w - 2.0 * change
        return p + s * (m + s * (bend + s * more)), (m + s * (2.0 * bend + 3.0 * s * more)) / h
