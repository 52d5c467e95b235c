"""The loss of a rollout: mean squares of positions and velocities, and a likelihood that trains error bars.

    loss = w_x |x - x_ref|^2 / E^2 + w_v |v - v_ref|^2 / E_v^2 + w_s s^(2 beta) (|x - x_ref|^2 / (2 s^2) + log s)

is averaged over atoms, times and components, with the errors E of the base and standard deviations s in units of E. In the
last term positions and the factor s^(2 beta) count as constants.

Source: Seitzer et al., "On the pitfalls of heteroscedastic uncertainty estimation with probabilistic neural networks"
(2022).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlff_calc.rollout import Rollout
from mlff_calc.rollout.model import PATH, PATH_SIGMA, PATH_VELOCITIES
from mlff_calc.training.data import Batch
from mlff_calc.training.objective import Objective
from mlff_calc.training.rollout.recipe import RolloutLoss
from mlff_calc.training.sums import ErrorSums


class RolloutObjective(Objective):
    """Objective for positions, velocities and error bars at later times.

    Args:
        section: Section `loss` of a recipe.
        rollout: Its scales are used.
    """

    def __init__(self, section: RolloutLoss, rollout: Rollout) -> None:
        self.section = section
        self.error, self.speed = float(rollout.config["error_scale"]), float(rollout.config["speed_scale"])

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """Compute the loss of one batch, a float64 scalar."""
        section = self.section
        squares = ((outputs[PATH] - batch.labels[PATH]) / self.error).square()
        slow = ((outputs[PATH_VELOCITIES] - batch.labels[PATH_VELOCITIES]) / self.speed).square()
        sigma = outputs[PATH_SIGMA].unsqueeze(-1) / self.error
        likelihood = 0.5 * squares.detach() / sigma.square() + torch.log(sigma)
        weighed = sigma.detach() ** (2.0 * section.beta) * likelihood
        return section.positions * squares.mean() + section.velocities * slow.mean() + section.sigma * weighed.mean()

    def count(self, batch: Batch) -> int:
        """Return the number of windows."""
        return len(batch.frames)

    def errors(self, sums: ErrorSums, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Add the errors of positions and velocities."""
        sums.add(outputs, batch.labels, batch.n_atoms)

    def columns(self, sums: ErrorSums | None) -> dict[str, str]:
        """Mean square errors of the validation."""
        found = {} if sums is None else sums.mean_squares()
        return {f"valid_{name}_mse": f"{mse:.8g}" for name, mse in found.items()}

    def text(self, sums: ErrorSums) -> str:
        """Mean square errors of the validation."""
        found = sums.mean_squares()
        return f"valid MSE of positions {found[PATH]:.4g} Angstrom^2" if PATH in found else ""
