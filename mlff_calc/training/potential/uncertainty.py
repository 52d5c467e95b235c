"""Training and calibration of the heads that predict errors of a potential (heads/uncertainty.py).

Their labels are the errors of the present prediction, which are numbers here: no gradient of these heads reaches energies
and forces through them. A training loss adds the mean cross entropy of each head; a validation loss does not, so that the
best epoch is that of energies and forces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from mlff_calc.errors import RecipeError
from mlff_calc.heads.uncertainty import ErrorHead
from mlff_calc.nn.mixture import best_temperature
from mlff_calc.potential import Potential
from mlff_calc.training.data import Batch
from mlff_calc.training.frames.read import Frames
from mlff_calc.training.potential.data import GraphSource
from mlff_calc.training.potential.recipe import PotentialRecipe

FACTORS = (0.03, 300.0)
"""Smallest and largest factor of a calibration."""
MOST_FRAMES = 2000
"""Largest number of training frames whose features are measured; a larger one takes longer."""
_BATCH = 16  # frames evaluated at once; a larger number takes more memory


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


@contextmanager
def told_logits(heads: Iterable[ErrorHead]) -> Iterator[None]:
    """Let heads return logits and factors of distance in evaluations inside the `with` block."""
    heads = list(heads)
    for head in heads:
        head.tells = True
    try:
        yield
    finally:
        for head in heads:
            head.tells = False


def check_error_labels(recipe: PotentialRecipe, potential: Potential, parts: Mapping[str, Frames]) -> None:
    """Refuse heads of errors whose labels are missing: their deviations would be those of an untrained head.

    Raises:
        RecipeError: The training or validation part has no label of a head; the message names both and the cure.
    """
    for part in ("train", "valid"):
        count = parts[part].count()
        for head in potential.error_heads:
            if not count.labels.get(head.label):
                raise RecipeError(
                    f"{recipe.origin}: the potential predicts errors of {head.label}, but {count.path} ({part}) has no "
                    f"{head.label} to learn or calibrate them on; name its key in data.keys.{head.label}, or train without "
                    "these errors: leave out potential.uncertainty, and with a start that predicts them write "
                    "fine_tuning.heads: new"
                )


def measure_distances(potential: Potential, frames: GraphSource) -> None:
    """Measure the features of training atoms for all heads of errors, in place.

    Args:
        potential: Trained potential, in evaluation mode.
        frames: Training frames, of which `MOST_FRAMES` at equal distances are used.
    """
    first, *others = potential.error_heads
    numbers = range(0, len(frames), max(1, -(-len(frames) // MOST_FRAMES)))
    seen: list[tuple[Tensor, Tensor]] = []
    first.seen = seen
    try:
        for start in range(0, len(numbers), _BATCH):
            potential(frames.batch(list(numbers[start : start + _BATCH])).graph)
    finally:
        first.seen = None
    scalars, species = (torch.cat(parts) for parts in zip(*seen, strict=True))
    first.distance.measure(scalars, species)
    for head in others:
        head.distance.load_state_dict(first.distance.state_dict())


def calibrate_errors(potential: Potential, frames: GraphSource) -> None:
    """Set the factor of every head, in place: that of the largest likelihood of the errors on validation frames.

    `calibrated` becomes the number of frames with a label of the head. A head without labels keeps both.

    Args:
        potential: Trained potential, in evaluation mode, with measured distances.
        frames: Validation frames with labels.
    """
    found: dict[str, list[tuple[Tensor, ...]]] = {}
    labelled = Counter[str]()
    for start in range(0, len(frames), _BATCH):
        batch = frames.batch(list(range(start, min(start + _BATCH, len(frames)))))
        with told_logits(potential.error_heads):
            outputs = potential(batch.graph)
        for head in potential.error_heads:
            errors, present = errors_of(head, outputs, batch)
            own = tuple(one[present] for one in (outputs[head.logits], errors, outputs[head.far]))
            found.setdefault(head.label, []).append(own)
            owner = batch.graph["system_index"] if head.label == "forces" else torch.arange(len(present))
            labelled[head.label] += len(owner[present].unique())
    for head in potential.error_heads:
        logits, errors, far = (torch.cat(parts) for parts in zip(*found[head.label], strict=True))
        if len(errors):
            head.factor.fill_(_best_factor(head, logits, errors, far))
            head.calibrated.fill_(labelled[head.label])


def _best_factor(head: ErrorHead, logits: Tensor, errors: Tensor, far: Tensor) -> float:
    return best_temperature(lambda factor: -float(head.log_density(logits, errors, factor * far).mean()), *FACTORS)
