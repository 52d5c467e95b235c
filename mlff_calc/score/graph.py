"""Graphs of one molecule or cluster at any noise."""

from __future__ import annotations

from typing import Final

from torch import Tensor

from mlff_calc.graph.keys import DOUBLE, Graph, declare
from mlff_calc.networks import topology

NOISE_LEVEL: Final = declare("noise_level", "system", (), DOUBLE, "Angstrom", "standard deviation of the noise in positions")
SCORE: Final = declare("score", "atom", (3,), DOUBLE, "1/Angstrom", "gradient of the log-density of noisy positions")
moved = topology.moved


class Topology(topology.Topology):
    """Atoms and bonds that all frames have in common."""

    def graph(self, positions: Tensor, sigma: Tensor) -> Graph:
        """Build the graph of frames.

        Args:
            positions: [n_frames, n_atoms, 3] Angstrom, float64.
            sigma: Noise levels [n_frames], Angstrom.
        """
        return self.frames(positions) | {NOISE_LEVEL: sigma.double()}
