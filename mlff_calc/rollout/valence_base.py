"""The base `valence`: motion by a valence force field that is fitted to the trajectory.

It knows no mean structure, and holds in every conformer of the training frames. In others, whose distances these frames
lack, and where a molecule leaves what the force field knows on its way, it stays as it was at first, and turns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlff_calc.rollout.base import N_SIGNS, Path, beyond, signs
from mlff_calc.rollout.rotor import angular_momentum, centred, fitted, inverse_inertia, rigid_path, turned
from mlff_calc.rollout.valence import Valence

AWHILE = 5.0
"""Time, fs, whose square turns accelerations at time 0 into the displacements that the network sees; their scale is measured
after that."""


class ValenceBase(nn.Module):
    """Motion by the force field, as `Base` gives it.

    Args:
        masses: [n_atoms], in atomic mass units.
        bonds: Pairs of bonded atoms.
        straight: Angles that are straight, see `Terms`.
        step: Time step, fs.
    """

    name = "valence"
    masses: Tensor
    reference: Tensor
    limits: Tensor

    def __init__(
        self, masses: list[float], bonds: Sequence[Sequence[int]], straight: Sequence[Sequence[int]], step: float
    ) -> None:
        super().__init__()
        self.straight = [list(angle) for angle in straight]
        self.register_buffer("masses", torch.tensor(masses, dtype=torch.float64), persistent=False)
        self.register_buffer("reference", torch.zeros(len(masses), 3, dtype=torch.float64))
        self.register_buffer("limits", torch.ones(N_SIGNS, dtype=torch.float64))
        self.field = Valence(len(masses), bonds, masses, straight, step)
        self.linear = len(straight) >= len(masses) - 2

    def forward(self, positions: Tensor, velocities: Tensor, times: Tensor, *, still: bool = False) -> Path:
        """Motion of samples; see `Base.forward`."""
        x, centre = centred(positions, self.masses)
        v, drift = centred(velocities, self.masses)
        momentum, inverse = angular_momentum(x, v, self.masses), inverse_inertia(x, self.masses)
        place, moving = rigid_path(x, momentum, self.masses, times)
        turn, _ = turned(momentum, inverse, times)
        ratio, share = beyond(signs(*self.field.deviations_and_rates(x, v), v, self.masses), self.limits)
        far = ratio.unsqueeze(1).expand_as(times)
        if not still:
            motion = self.field(x, v, times)
            lost, weight = motion.broken[..., None, None], share.view(-1, 1, 1, 1)
            place, moving = (
                torch.where(lost, one, torch.lerp(two, one, weight))
                for one, two in ((place, motion.positions), (moving, motion.velocities))
            )
            far = torch.where(motion.broken, far.clamp(min=2.0), far)
        if not self.linear:  # about its axis, a linear molecule turns in no way that a fit could find
            turn = fitted(place, x.unsqueeze(1), self.masses, proper=True)
        spin = (inverse @ momentum.unsqueeze(-1)).squeeze(-1).unsqueeze(1)
        offsets, rates = AWHILE**2 * self.field.accelerations(x), v - torch.linalg.cross(spin.expand_as(x), x)
        vibrations = place @ turn - x.unsqueeze(1)
        return Path(centre.unsqueeze(1), drift.unsqueeze(1), turn, place, moving, offsets, rates, vibrations, far)
