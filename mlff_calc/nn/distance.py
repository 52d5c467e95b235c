"""Distance of features from those of the training atoms, in units in which training atoms are at about 1.

    d^2 = |W (h - centre_z)|^2 / channels

The centre is the mean of the features of training atoms of the same species z, and W^T W the inverse of their covariance
about these centres, one for all species. d^2 is the squared Mahalanobis distance over the number of channels.

Source: Lee, Lee, Lee, Shin, "A simple unified framework for detecting out-of-distribution samples", arXiv 1807.03888, with
species in the place of classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEAST = 1e-4
"""Smallest variance of a direction in units of the mean variance; raising it hides deviations in quiet directions."""


class FeatureDistance(nn.Module):
    """Squared distances d^2, all 0 until they are measured.

    Args:
        n_species: Number of species.
        channels: Number of channels of the features.
    """

    centres: Tensor
    whitening: Tensor

    def __init__(self, n_species: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.zeros(n_species, channels, dtype=torch.float64))
        self.register_buffer("whitening", torch.zeros(channels, channels, dtype=torch.float64))

    def forward(self, features: Tensor, species: Tensor) -> Tensor:
        """Compute d^2 [n_atoms] of features [n_atoms, channels] of species [n_atoms], in float64."""
        offsets = features.double() - self.centres.index_select(0, species)
        return (offsets @ self.whitening).square().mean(dim=1)

    def measure(self, features: Tensor, species: Tensor) -> None:
        """Set centres and covariance by features [n_atoms, channels] of training atoms; other species are at 0."""
        features = features.double()
        sums = torch.zeros_like(self.centres).index_add_(0, species, features)
        counts = torch.bincount(species, minlength=len(sums)).clamp(min=1).unsqueeze(1)
        self.centres.copy_(sums / counts)
        offsets = features - self.centres.index_select(0, species)
        variances, directions = torch.linalg.eigh(offsets.T @ offsets / max(1, len(offsets)))
        least = (LEAST * variances.mean()).clamp(min=1e-30)
        self.whitening.copy_(directions * variances.clamp(min=least).rsqrt())
