"""Distance of features from those of the training atoms, in units in which training atoms are at about 1.

    d^2 = |W (h - centre_z)|^2 / channels

The centre is the mean of the features of training atoms of the same species z, and W^T W the inverse of their covariance
about these centres, one for all species. A potential that is trained further keeps what its start knew (see `measure`).
d^2 is the squared Mahalanobis distance over the number of channels.

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
        """Set centres and covariance by features [n_atoms, channels] of training atoms; species without any keep theirs.

        An earlier measurement, as that of a potential that was trained further, counts as much as this one: the centre of a
        species of both is in the middle, and the covariance is the mean of both about these centres.
        """
        features = features.double()
        sums = torch.zeros_like(self.centres).index_add_(0, species, features)
        counts = torch.bincount(species, minlength=len(sums)).unsqueeze(1)
        means = sums / counts.clamp(min=1)
        halves = torch.where((counts > 0) & self.centres.any(dim=1, keepdim=True), 0.5 * (means - self.centres), 0.0)
        before = self._covariance() + halves.T @ (halves * counts / max(1, len(features)))
        self.centres.copy_(torch.where(counts > 0, means - halves, self.centres))
        offsets = features - self.centres.index_select(0, species)
        covariance = offsets.T @ offsets / max(1, len(offsets))
        covariance = 0.5 * (covariance + before) if bool(self.whitening.any()) else covariance
        variances, directions = torch.linalg.eigh(covariance)
        least = (LEAST * variances.mean()).clamp(min=1e-30)
        self.whitening.copy_(directions * variances.clamp(min=least).rsqrt())

    def _covariance(self) -> Tensor:
        """Covariance of the last measurement, 0 where there is none; column i of W is direction i over its deviation."""
        scaled = self.whitening / self.whitening.square().sum(dim=0).clamp(min=1e-30)
        return scaled @ scaled.T
