"""The loss of a potential: a weighted sum over energy, forces and stress, each averaged over the available labels.

    loss = w_E mean_s f((E_s - E_ref,s) / N_s)  +  w_F mean_a f(F_a - F_ref,a)  +  w_S mean_s f(S_s - S_ref,s)

| form  | f(x), x a number or a vector                                            |
|-------|-------------------------------------------------------------------------|
| l2    | Euclidean norm of x (per frame, per atom, per frame), in the label's unit |
| mse   | mean of the squares of the components                                    |
| huber | mean over components: x^2/2 below delta, delta (|x| - delta/2) above      |

Weights of frames (datasets/weights.py) multiply f, but the means still divide by the number of labels. A frame of
weight 4 thus counts four times as much as one of weight 1, independent of the rest of its batch, and one of weight 0
not at all.

Heads of errors add their own terms in training steps (uncertainty.py).

Energies count per atom (eV), forces in eV/Angstrom, stress in eV/Angstrom^3. A label that is NaN is missing in the data
(the reader refuses NaN in a file) and enters neither numerator nor denominator of its mean.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mlff_calc.potential import Potential
from mlff_calc.training.data import Batch
from mlff_calc.training.loss_forms import huber, l2, mse
from mlff_calc.training.objective import Forward, Objective
from mlff_calc.training.potential.recipe import LossSection
from mlff_calc.training.potential.uncertainty import error_loss
from mlff_calc.training.sums import EXTENSIVE


def masked_mean(values: Tensor, present: Tensor) -> Tensor:
    """Mean of `values` [n] over the entries where `present` [n] is true; 0 where there are none."""
    kept = torch.where(present, values, torch.zeros_like(values))
    return kept.sum() / present.sum().clamp(min=1)


class PotentialObjective(Objective):
    """Objective for energies, forces and stresses.

    Args:
        section: Section `loss` of a recipe.
        potential: Potential that is trained; needed where it has heads of errors.
    """

    needs_tape = True

    def __init__(self, section: LossSection, potential: Potential | None = None) -> None:
        self.weights = section.weights()
        self.error_heads = [] if potential is None else potential.error_heads
        forms: dict[str, Callable[[Tensor], Tensor]] = {"l2": l2, "mse": mse}
        forms["huber"] = partial(huber, delta=section.huber_delta)
        self.form = forms[section.form]

    def compiled(self, network: Potential, example: Batch) -> Forward:
        """See `compile_for_training`."""
        from mlff_calc.export import compile_for_training

        return compile_for_training(network, example.graph)

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """Compute the loss of one batch, a float64 scalar; outputs and labels have the shapes and units of graph/keys.py."""
        total = torch.zeros((), dtype=torch.float64, device=batch.n_atoms.device)
        for name, weight in self.weights.items():
            of_frames = None if batch.weights is None else batch.weights[name]
            total = total + weight * self._term(name, outputs[name], batch.labels[name], batch.n_atoms, of_frames)
        training = [head for head in self.error_heads if head.training]
        return total + error_loss(training, outputs, batch) if training else total

    def _term(self, name: str, output: Tensor, label: Tensor, n_atoms: Tensor, weights: Tensor | None) -> Tensor:
        rows = label.reshape(label.shape[0], -1)
        present = ~torch.isnan(rows).any(dim=-1)
        # the missing label is replaced before the subtraction: NaN times zero would still poison the gradient
        error = output.reshape(rows.shape) - torch.where(present.unsqueeze(-1), rows, torch.zeros_like(rows))
        if name in EXTENSIVE:
            error = error / n_atoms.unsqueeze(-1)
        values = self.form(error)
        return masked_mean(values if weights is None else weights * values, present)
