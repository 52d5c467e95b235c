"""The loss of a propagator: a weighted sum over positions and velocities, each averaged over the particles of a batch.

    loss = w_x mean_i f(x_i - x_ref,i)  +  w_v mean_i f(v_i - v_ref,i)

| form | f(e), e a vector               |
|------|--------------------------------|
| mse  | mean of the squared components |
| l2   | Euclidean norm                 |

Lengths and times are in the units of the data.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlff_calc.graph.keys import Graph
from mlff_calc.propagator import Propagator
from mlff_calc.training.compiling import compile_network
from mlff_calc.training.data import Batch
from mlff_calc.training.loss_forms import l2, mse
from mlff_calc.training.objective import Forward, Objective
from mlff_calc.training.propagator.recipe import MotionLossSection
from mlff_calc.training.sums import ErrorSums


class MotionObjective(Objective):
    """Objective for positions and velocities at a later time.

    Args:
        section: Section `loss` of a recipe.
    """

    def __init__(self, section: MotionLossSection) -> None:
        self.weights = section.weights()
        self.form = {"mse": mse, "l2": l2}[section.form]

    def compiled(self, network: Propagator, example: Batch) -> Forward:
        """See `compile_network`."""
        return compile_network(network, example.graph, _changes)

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """Compute the loss of one batch, a float64 scalar."""
        terms = [weight * self.form(outputs[name] - batch.labels[name]).mean() for name, weight in self.weights.items()]
        return torch.stack(terms).sum()

    def count(self, batch: Batch) -> int:
        """Return the number of particles."""
        return len(batch.labels["positions"])

    def columns(self, sums: ErrorSums | None) -> dict[str, str]:
        """Mean square errors of the validation, over particles and components, in the units of the data."""
        found = {} if sums is None else sums.mean_squares()
        return {f"valid_{name}_mse": f"{mse:.8g}" for name, mse in found.items()}

    def text(self, sums: ErrorSums) -> str:
        """Mean square errors of the validation."""
        parts = [f"{name} {mse:.4g}" for name, mse in sums.mean_squares().items()]
        return "valid MSE " + ", ".join(parts) if parts else ""


def _changes(outputs: dict[str, Tensor], graph: Graph) -> Tensor:
    """Sum of the mean squares of the predicted changes."""
    return torch.stack([(value - graph[name]).square().mean() for name, value in outputs.items()]).sum()
