"""Errors of a property network, and how well its distributions cover the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlff_calc.datasets.properties import PropertySample
from mlff_calc.properties import LEVELS, PropertyNetwork
from mlff_calc.properties.predictive import Predictive
from mlff_calc.training.property.calibrate import BATCH_SIZE, outputs_of

SHARES = tuple(round(0.1 * k, 1) for k in range(1, 10))
"""Shares of the calibration plot."""
OTHER_SIZE = 0.2
"""Ratio of mean absolute errors below which labels are named as those of another size. Raising it names more of them."""


@dataclass(frozen=True)
class PropertyReport:
    """Result of `evaluate_property`, in the unit of the labels.

    Attributes:
        name: Name of the property.
        unit: Unit of the property; may be empty.
        structures: Number of structures.
        mae: Mean absolute error.
        rmse: Root mean square error.
        baseline: Mean absolute error of what composition alone tells: the mean of the training labels, or sums over atoms.
        nll: Mean negative log likelihood of the labels.
        coverage: Share of labels in the calibrated intervals, by nominal share.
        width: Mean width of these intervals, by nominal share.
        covered: Share of labels in the central intervals before the conformal widening, by nominal share.
        rank: Rank correlation of standard deviations and absolute errors; None where all deviations are equal.
        calibrated: Number of validation labels that the intervals were calibrated on.
        notes: Sentences about the labels.
        pairs: Labels, predictions and standard deviations, for plots.
    """

    name: str
    unit: str
    structures: int
    mae: float
    rmse: float
    baseline: float
    nll: float
    coverage: dict[float, float]
    width: dict[float, float]
    covered: dict[float, float]
    rank: float | None
    calibrated: int
    notes: list[str] = field(default_factory=list)
    pairs: tuple[NDArray[np.float64], ...] = field(default=(), repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Everything but the single labels, fit for JSON."""
        found = {key: value for key, value in self.__dict__.items() if key != "pairs"}
        for key in ("coverage", "width", "covered"):
            found[key] = {f"{share:g}": value for share, value in found[key].items()}
        return found

    def rows(self) -> list[tuple[str, ...]]:
        """The table of the card."""
        unit = f" [{self.unit}]" if self.unit else ""
        rows: list[tuple[str, ...]] = [
            ("", self.name),
            (f"mean absolute error{unit}", f"{self.mae:.5g}"),
            (f"the same of composition alone{unit}", f"{self.baseline:.5g}"),
            (f"root mean square error{unit}", f"{self.rmse:.5g}"),
            ("negative log likelihood", f"{self.nll:.4g}"),
        ]
        for share, covered in self.coverage.items():
            rows.append((f"labels in {share:.0%} intervals", f"{covered:.1%} (mean width {self.width[share]:.4g})"))
        if self.rank is not None:
            rows.append(("rank correlation of deviation and error", f"{self.rank:.3f}"))
        return rows

    def as_text(self) -> str:
        """A table of plain text."""
        head = f"{self.name} of {self.structures} structures; intervals calibrated on {self.calibrated} labels"
        return "\n".join([head, *(f"{one:<42} {other}" for one, other in self.rows()[1:]), *self.notes])


def evaluate_property(
    network: PropertyNetwork, samples: Sequence[PropertySample], *, batch_size: int = BATCH_SIZE
) -> PropertyReport:
    """Compare a network with labels.

    Args:
        network: Network, on any device; it is put in evaluation mode.
        samples: Structures with labels.
        batch_size: Number of structures evaluated at once.

    Raises:
        UnknownElementError: A structure holds an element that the network does not know.
        StructureError: A structure cannot be a graph, is charged in another way than in training, or holds isotopes.
        EvaluationError: The network gives a value that is not finite; the message names the structure.
    """
    for one in samples:
        network.check(one.atoms, one.place)
    labels = torch.tensor([one.value for one in samples], dtype=torch.float64)
    found = network.predictive(outputs_of(network, samples, batch_size))
    error = (found.mean - labels).abs()
    ends = found.intervals()
    inside = (labels[:, None] >= ends[..., 0]) & (labels[:, None] <= ends[..., 1])
    middle = (found.below(labels) - 0.5).abs()
    sizes = torch.tensor([float(len(one.atoms)) for one in samples], dtype=torch.float64)
    return PropertyReport(
        network.name,
        network.unit,
        len(samples),
        mae=float(error.mean()),
        rmse=float(error.square().mean().sqrt()),
        baseline=float((found.base - labels).abs().mean()),
        nll=-float(found.log_density(labels).mean()),
        coverage=dict(zip(LEVELS, inside.double().mean(dim=0).tolist(), strict=True)),
        width=dict(zip(LEVELS, (ends[..., 1] - ends[..., 0]).mean(dim=0).tolist(), strict=True)),
        covered={share: float((middle <= 0.5 * share).double().mean()) for share in SHARES},
        rank=_rank(found.std, error),
        calibrated=int(network.calibrated),
        notes=_notes(found, labels, sizes),
        pairs=tuple(one.numpy() for one in (labels, found.mean, found.std)),
    )


def _rank(one: torch.Tensor, other: torch.Tensor) -> float | None:
    """Rank correlation; None where there is none."""
    if len(one) < 3 or float(one.std()) <= 1e-9 * float(one.abs().max()) or float(other.std()) == 0.0:
        return None
    ranks = torch.stack([values.argsort().argsort().double() for values in (one, other)])
    return float(torch.corrcoef(ranks)[0, 1])


def _notes(found: Predictive, labels: torch.Tensor, sizes: torch.Tensor) -> list[str]:
    """Sentences about labels of another size: per atom where the network gives totals, or the reverse."""
    own = float((found.mean - labels).abs().mean())
    words = {
        "values per atom, and the network gives totals": found.mean / sizes,
        "totals, and the network gives values per atom": found.mean * sizes,
    }
    return [
        f"the labels look like {text}: MAE {float((other - labels).abs().mean()):.4g} in place of {own:.4g}"
        for text, other in words.items()
        if float((other - labels).abs().mean()) < OTHER_SIZE * own
    ]
