"""Training and calibration of the heads that predict errors of a potential (heads/uncertainty.py).

Their labels are the errors of the present prediction, which are numbers here: no gradient of these heads reaches energies
and forces through them. A training loss adds the mean cross entropy of each head; a validation loss does not, so that the
best epoch is that of energies and forces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from mlff_calc.heads.uncertainty import ErrorHead
from mlff_calc.nn.mixture import best_temperature
from mlff_calc.potential import Potential
from mlff_calc.training.data import Batch
from mlff_calc.training.potential.data import GraphSource

FACTORS = (0.03, 300.0)
"""Smallest and largest factor of a calibration."""


@contextmanager
def told_logits(potential: Potential) -> Iterator[None]:
    """Let the heads of errors return their logits in evaluations inside the `with` block."""
    for head in potential.error_heads:
        head.tells_logits = True
    try:
        yield
    finally:
        for head in potential.error_heads:
            head.tells_logits = False


def errors_of(head: ErrorHead, outputs: Mapping[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
    """Errors of the present prediction in the sense of a head, without gradient.

    Args:
        head: Head of errors per atom of energies, or of forces.
        outputs: Outputs of the potential.
        batch: Batch with labels; those that are missing are NaN.

    Returns:
        Errors [n] in eV or eV/Angstrom, 0 where there is no label, and whether there is one [n].
    """
    label = batch.labels[head.label].detach()
    error = (label - outputs[head.label].detach()).reshape(label.shape[0], -1)
    sizes = (error / batch.n_atoms.unsqueeze(-1) if head.label == "energy" else error).norm(dim=1)
    present = torch.isfinite(sizes)
    return torch.where(present, sizes, torch.zeros_like(sizes)), present


def error_loss(heads: Iterable[ErrorHead], outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Sum over heads of the mean cross entropy above that of the targets, a float64 scalar; missing labels are left out."""
    total = torch.zeros((), dtype=torch.float64, device=batch.n_atoms.device)
    for head in heads:
        if head.label in batch.labels:
            errors, present = errors_of(head, outputs, batch)
            values = head.cross_entropy(outputs[head.logits], head.standard(errors)).double()
            total = total + torch.where(present, values, 0.0).sum() / present.sum().clamp(min=1)
    return total


def calibrate_errors(potential: Potential, frames: GraphSource, batch_size: int = 16) -> None:
    """Set the factor of every head, in place: that of the largest likelihood of the errors on validation frames.

    A head without labels there keeps its factor, and 0 frames as `calibrated`.

    Args:
        potential: Trained potential, in evaluation mode.
        frames: Validation frames with labels.
        batch_size: Number of frames evaluated at once.
    """
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for start in range(0, len(frames), batch_size):
        batch = frames.batch(list(range(start, min(start + batch_size, len(frames)))))
        with told_logits(potential):
            outputs = potential(batch.graph)
        for head in potential.error_heads:
            errors, present = errors_of(head, outputs, batch)
            found.setdefault(head.logits, []).append((outputs[head.logits][present], errors[present]))
    for head in potential.error_heads:
        logits, errors = (torch.cat(parts) for parts in zip(*found[head.logits], strict=True))
        if len(errors):
            factor = best_temperature(
                lambda one, h=head, z=logits, e=errors: -float(h.log_density(z, e, one).mean()), *FACTORS  # type: ignore[misc]
            )
            head.factor.fill_(factor)
            head.calibrated.fill_(len(frames))
