"""The training loss: weighted sum over energy, forces and stress, each averaged over the labels that are there.

    loss = w_E mean_s f((E_s - E_ref,s) / N_s)  +  w_F mean_a f(F_a - F_ref,a)  +  w_S mean_s f(S_s - S_ref,s)

| form  | f(x), x a number or a vector                                            |
|-------|-------------------------------------------------------------------------|
| l2    | Euclidean norm of x (per frame, per atom, per frame), in the label's unit |
| mse   | mean of the squares of the components                                    |
| huber | mean over components: x^2/2 below delta, delta (|x| - delta/2) above      |

Weights of frames (datasets/weights.py) multiply f, and the means still divide by the number of labels: a frame of weight 4
pulls four times as hard as one of weight 1, whatever else is in its batch, and one of weight 0 not at all.

A fixed-point potential may be held contractive: `contraction` times mean_s (rho_s - spectral_radius)^2 where rho_s, the
spectral radius of df/dz by a power iteration that goes on from epoch to epoch, is above `spectral_radius`.

Fixed-point correction: `correction` times the mean of the loss over outputs read on the way of the solves
(training/potential/correction.py), so that a solve that is cut off early is right already.

Energies count per atom (eV), forces in eV/Angstrom, stress in eV/Angstrom^3. A label that is NaN was not given by the data
(the reader refuses NaN in a file) and takes no part: in its mean it counts neither above nor below the line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mlff_calc.training.loss_forms import huber, l2, mse
from mlff_calc.training.potential.recipe import LossSection


def masked_mean(values: Tensor, present: Tensor) -> Tensor:
    """Mean of `values` [n] where `present` [n] is true; 0 where nothing is."""
    kept = torch.where(present, values, torch.zeros_like(values))
    return kept.sum() / present.sum().clamp(min=1)


class Loss:
    """Weighted loss over a batch.

    Args:
        section: The `loss` section of a recipe.
    """

    def __init__(self, section: LossSection) -> None:
        self.weights = section.weights()
        self.contraction = section.contraction
        self.contraction_every = section.contraction_every
        self.spectral_radius = section.spectral_radius
        self.correction = section.correction
        self.form: Callable[[Tensor], Tensor]
        if section.form == "huber":
            self.form = lambda error: huber(error, section.huber_delta)
        else:
            self.form = {"l2": l2, "mse": mse}[section.form]

    def __call__(
        self,
        outputs: dict[str, Tensor],
        labels: dict[str, Tensor],
        n_atoms: Tensor,
        weights: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Loss of one batch.

        Args:
            outputs: What the potential gave; `energy` [n_systems] eV, `forces` [n_atoms, 3] eV/Angstrom, `stress`
                [n_systems, 3, 3] eV/Angstrom^3, as far as they have weights.
            labels: The same names and shapes; NaN where a label is missing.
            n_atoms: Atoms per system [n_systems].
            weights: Of frames: `energy` [n_systems], `forces` [n_atoms], `stress` [n_systems]; None where all are 1.

        Returns:
            A float64 scalar.
        """
        total = torch.zeros((), dtype=torch.float64, device=n_atoms.device)
        for name, weight in self.weights.items():
            of_frames = None if weights is None else weights[name]
            total = total + weight * self._term(name, outputs[name], labels[name], n_atoms, of_frames)
        return total

    def penalty(self, outputs: dict[str, Tensor]) -> Tensor:
        """What is added every few steps for a fixed point that is not contractive enough; a float64 scalar."""
        excess = torch.relu(outputs["growth"].double() - self.spectral_radius)
        return self.contraction * self.contraction_every * excess.square().mean()

    def on_the_way(
        self,
        outputs: Sequence[dict[str, Tensor]],
        labels: dict[str, Tensor],
        n_atoms: Tensor,
        weights: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """What is added in training for outputs read off intermediate states; a float64 scalar.

        Args:
            outputs: one dict for each state, at least one.
            labels: as for the loss.
            n_atoms: likewise.
            weights: likewise.
        """
        losses = torch.stack([self(one, labels, n_atoms, weights) for one in outputs])
        return self.correction * losses.mean()

    def _term(self, name: str, output: Tensor, label: Tensor, n_atoms: Tensor, weights: Tensor | None) -> Tensor:
        rows = label.reshape(label.shape[0], -1)
        present = ~torch.isnan(rows).any(dim=-1)
        # the missing label is replaced before the subtraction: NaN times zero would still poison the gradient
        error = output.reshape(rows.shape) - torch.where(present.unsqueeze(-1), rows, torch.zeros_like(rows))
        if name == "energy":
            error = error / n_atoms.unsqueeze(-1)
        values = self.form(error)
        return masked_mean(values if weights is None else weights * values, present)
