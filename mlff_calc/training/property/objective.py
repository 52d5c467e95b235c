"""The loss of a property in standard units t.

That of one number is |t' - t|, its square or Huber's function. That of a distribution is

    L = mean over histograms of the cross entropy to soft targets + expectation * |mean - t|

The cross entropy has bounded gradients, but does not tell how far a wrong bin is. The absolute error does, but its gradient
vanishes where the distribution is sharp. Cross entropies count above those of the targets themselves, so that 0 is the best.

Source: Shoghi et al., "Distribution learning for molecular regression", arXiv 2407.20475.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlff_calc.heads.properties import DistributionHead
from mlff_calc.properties import PropertyNetwork
from mlff_calc.properties.model import PROPERTY, PROPERTY_BASE, PROPERTY_SPREAD
from mlff_calc.training.data import Batch
from mlff_calc.training.loss_forms import huber
from mlff_calc.training.objective import Objective
from mlff_calc.training.property.recipe import PropertyLoss


class PropertyObjective(Objective):
    """Loss of a property.

    Args:
        network: Its head has the bins.
        loss: Section of the recipe.
    """

    def __init__(self, network: PropertyNetwork, loss: PropertyLoss) -> None:
        self.network, self.section = network, loss

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """Compute the loss of one batch, a float64 scalar."""
        labels = (batch.labels[PROPERTY] - outputs[PROPERTY_BASE]) / outputs[PROPERTY_SPREAD]
        error = outputs["standard_value"] - labels
        head = self.network.head
        if isinstance(head, DistributionHead):
            entropy = head.cross_entropy(outputs["bin_logits"], labels).double()
            return (entropy + self.section.expectation * error.abs()).mean()
        if self.section.form == "huber":
            return huber(error.unsqueeze(1), self.section.huber_delta).mean()
        return (error.abs() if self.section.form == "l1" else torch.square(error)).mean()
