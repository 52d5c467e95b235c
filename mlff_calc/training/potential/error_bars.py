"""How well the errors that a potential's heads predict agree with its errors on labelled frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import spearmanr
from torch import Tensor

from mlff_calc.heads.uncertainty import ErrorHead
from mlff_calc.training.data import Batch
from mlff_calc.training.potential.uncertainty import errors_of

SHARES = (0.5, 0.9, 0.95)
"""Shares of errors that intervals should hold."""


@dataclass(frozen=True)
class ErrorBars:
    """Agreement of predicted and true errors of one quantity.

    Attributes:
        quantity: `energy` (errors per atom) or `forces` (lengths of the errors).
        count: Number of errors.
        coverage: Share of errors in intervals, by nominal share.
        nll: Mean negative log likelihood of the errors, per eV/atom or eV/Angstrom.
        rank: Rank correlation of standard deviations and errors; None where there is none.
        error: Root mean square of the errors, meV/atom or meV/Angstrom.
        std: The same of the standard deviations.
        calibrated: Number of validation frames that the factor was fitted on.
    """

    quantity: str
    count: int
    coverage: dict[str, float]
    nll: float
    rank: float | None
    error: float
    std: float
    calibrated: int

    @property
    def row(self) -> tuple[str, str]:
        """Name and figures in words."""
        held = ", ".join(f"{value:.1%} in {float(share):.0%}" for share, value in self.coverage.items())
        rank = "" if self.rank is None else f", rank correlation {self.rank:.3f}"
        unit = "meV/atom" if self.quantity == "energy" else "meV/Angstrom"
        size = f"RMS {self.std:.4g} predicted, {self.error:.4g} {unit} found"
        return f"errors of {self.quantity}", f"{held} intervals; NLL {self.nll:.4g}{rank}; {size}"


class ErrorBarSums:
    """Collects errors and what heads say about them, batch by batch.

    Args:
        heads: Heads of errors, which must tell their logits.
    """

    def __init__(self, heads: Sequence[ErrorHead]) -> None:
        self._heads = heads
        self._found: dict[str, list[Tensor]] = {head.label: [] for head in heads}

    def add(self, outputs: Mapping[str, Tensor], batch: Batch) -> None:
        """Add a batch with labels; those that are missing are left out."""
        for head in self._heads:
            errors, present = errors_of(head, outputs, batch)
            logits, far, errors = (one[present] for one in (outputs[head.logits], outputs[head.far], errors))
            stretch = head.factor * far
            below = head.distribution(logits).below(head.standard(errors, stretch))
            nll = -head.log_density(logits, errors, stretch)
            self._found[head.label].append(torch.stack([errors, head.size(logits) * far, below, nll]).cpu())

    def result(self) -> list[ErrorBars]:
        """Figures of every quantity that has labels."""
        made = []
        for head in self._heads:
            errors, std, below, nll = torch.cat(self._found[head.label], dim=1)
            if len(errors):
                signs = math.log(2.0) if head.label == "energy" else 0.0  # an energy may be off to either side
                coverage = {f"{share:g}": float((below <= share).double().mean()) for share in SHARES}
                rank = float(spearmanr(std, errors).statistic) if len(errors) > 2 else math.nan
                error, deviation = (1e3 * float(one.square().mean().sqrt()) for one in (errors, std))
                made.append(
                    ErrorBars(
                        head.label, len(errors), coverage, float(nll.mean()) + signs, None if math.isnan(rank) else rank,
                        error, deviation, int(head.calibrated),
                    )
                )  # fmt: skip
        return made
