"""Spectral radii of a fixed-point potential on the frames of a validation, which measure how contractive it is."""

from __future__ import annotations

import torch
from torch import Tensor

from mlff_calc.fixed_point import spectral_radius
from mlff_calc.potential.fixed_point import FixedPointPotential

FRAMES = 20
"""Largest number of frames that are measured in a validation; each costs as much as a few forces."""


class SpectralRadius:
    """Spectral radii of df/dz at the solutions of some frames."""

    def __init__(self) -> None:
        self.radii: list[float] = []

    def add(self, potential: FixedPointPotential, graph: dict[str, Tensor], state: Tensor) -> None:
        """Measure a batch, unless enough frames have been measured.

        Args:
            potential: Potential to measure.
            graph: Batch.
            state: Solutions of the batch [n_atoms, (l_max+1)^2, channels].
        """
        if len(self.radii) >= FRAMES:
            return
        backbone, n_systems = potential.backbone, graph["cell"].shape[0]
        with torch.no_grad():
            prepared = backbone.prepare(potential.inputs(graph, graph["edge_vec"]))
        found = spectral_radius(
            lambda z: backbone.evaluate(z, graph["edge_index"], prepared),
            state,
            graph["system_index"],
            n_systems,
            iterations=30,
        )
        self.radii.extend(found.tolist())

    def mean(self) -> float:
        """Return the mean over frames; NaN where there are none."""
        return sum(self.radii) / len(self.radii) if self.radii else float("nan")

    def largest(self) -> float:
        """Return the largest radius; NaN where there are none."""
        return max(self.radii, default=float("nan"))
