"""What is predicted for structures, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PropertyPrediction:
    """A property of one structure, in the unit of the training labels.

    Attributes:
        mean: Prediction.
        std: Standard deviation.
        quantiles: Values below which the property lies with a probability, by that probability: 0.025, 0.05, 0.25, 0.5,
            0.75, 0.95 and 0.975. The intervals between them are calibrated on the validation frames.
        name: Name of the property.
        unit: Unit as the recipe gives it; empty where it gives none.
    """

    mean: float
    std: float
    quantiles: dict[float, float]
    name: str = "property"
    unit: str = ""

    def interval(self, share: float) -> tuple[float, float]:
        """Lower and upper end of the central interval that holds a share (0.5, 0.9 or 0.95).

        Raises:
            KeyError: There is no interval of that share.
        """
        return self.quantiles[round(0.5 - 0.5 * share, 4)], self.quantiles[round(0.5 + 0.5 * share, 4)]
