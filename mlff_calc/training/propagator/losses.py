"""The loss of a propagator: weighted sum over positions and velocities, each averaged over the particles of a batch.

    loss = w_x mean_i f(x_i - x_ref,i)  +  w_v mean_i f(v_i - v_ref,i)

| form | f(e), e a vector               |
|------|--------------------------------|
| mse  | mean of the squared components |
| l2   | Euclidean norm                 |

Lengths and times in the units of the data.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlff_calc.training.loss_forms import l2, mse
from mlff_calc.training.propagator.recipe import MotionLossSection
from mlff_calc.training.sums import ErrorSums


class MotionLoss:
    """Weighted loss over a batch.

    Args:
        section: The `loss` section of a recipe.
    """

    def __init__(self, section: MotionLossSection) -> None:
        self.weights = section.weights()
        self.form = {"mse": mse, "l2": l2}[section.form]

    def __call__(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        """Loss of one batch, a float64 scalar.

        Args:
            outputs: `positions` and `velocities` [n_atoms, 3], as far as they have weights.
            targets: The same names and shapes.
        """
        terms = [weight * self.form(outputs[name] - targets[name]).mean() for name, weight in self.weights.items()]
        return torch.stack(terms).sum()


def mean_squares(sums: ErrorSums) -> dict[str, float]:
    """Mean square of each quantity, over particles and components."""
    found = {name: row.tolist() for name, row in sums.rows.items()}
    return {name: squared / count for name, (_, squared, count) in found.items() if count > 0}
