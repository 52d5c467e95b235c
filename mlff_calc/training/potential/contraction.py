"""How contractive a fixed-point potential is on the frames of a validation."""

from __future__ import annotations

import torch
from torch import Tensor

from mlff_calc.fixed_point import spectral_radius
from mlff_calc.potential.fixed_point import FixedPointPotential

FRAMES = 20
"""Frames of a validation that are looked at; each costs as much as a few forces."""


class SpectralRadius:
    """Spectral radii of df/dz at the solutions of some frames."""

    def __init__(self) -> None:
        self.radii: list[float] = []

    def add(self, potential: FixedPointPotential, graph: dict[str, Tensor], state: Tensor) -> None:
        """Measure a batch, unless enough frames have been seen.

        Args:
            potential: looked at.
            graph: a batch.
            state: its solutions [n_atoms, (l_max+1)^2, channels].
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
        """Mean over frames; NaN where there were none."""
        return sum(self.radii) / len(self.radii) if self.radii else float("nan")

    def largest(self) -> float:
        """The largest of them; NaN where there were none."""
        return max(self.radii, default=float("nan"))
