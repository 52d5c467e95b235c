"""Targets of a score model: what the gradient of the log-density of noisy structures is compared with.

For x_t = x_0 + s eps, with x_0 distributed as exp(-E/kT) and F its force, both of these have the score as their mean:

    denoising score matching (DSM)   -eps / s         mean square per degree of freedom 1/s^2
    target score matching (TSM)      F(x_0) / kT      mean square per degree of freedom I

and so has every mixture l TSM + (1 - l) DSM. Since eps does not depend on x_0, the mixture of least variance has

    l*(s) = 1 / (1 + I s^2),

which is force matching at s = 0 and denoising at large s. With `piecewise`, l is 1 below a window and 0 above it. The loss
weighs a target by w(s), the inverse of its mean square, so that every noise level counts alike. Outputs of a network are in
units of 1/sqrt(s^2 + 1/I), the size of the score of normal data, which is smooth in s for every target.

| target | l(s) |
|---|---|
| dsm | 0 |
| tsm | 1 |
| optimal | l*(s) |
| piecewise | 1 where s < window (1/sqrt(I) by default), else 0 |
| directional | (1 + s^2 G)^-1, a matrix with the stiffness G by direction |

I is a mean over directions. In a molecule, bonds are a hundred times as stiff as torsions, so that the mean learns bonds
from forces where noise tells more, and torsions from noise where forces tell more. Since l may be any function of the noisy
structure x_t, `directional` has a matrix: with the stiffness of x_t by direction (`stiffness.py`), the target of normal data
has no variance at all. Equal weights of all levels would then spend most of the training on small noise, which hardly
changes what is drawn: weights are those of the divergence between drawn structures and data, s^2 in place of w, but at least
a tenth of w. w is the inverse of the mean square of the target here too, that of tr G (1 + s^2 G)^-1 per degree of freedom.

Sources: Guo et al., "Potential score matching" (2025); De Bortoli et al., "Target score matching" (2024), Sec. 3; Song et
al., "Maximum likelihood training of score-based diffusion models" (2021), for s^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlff_calc.errors import RecipeError
from mlff_calc.score.stiffness import Stiffness

LEAST_WEIGHT = 0.1
"""Least weight of a noise level in the loss of `directional`, where 1 makes all levels count alike. Raising it learns small
noise more exactly, at the cost of large noise."""
TARGETS = ("optimal", "directional", "piecewise", "dsm", "tsm")


@dataclass(frozen=True)
class Target:
    """A mixture of the two targets.

    Attributes:
        name: One of `TARGETS`.
        information: Mean square I of F/kT per degree of freedom, 1/length^2.
        window: Noise level below which `piecewise` takes forces; None for 1/sqrt(I).
        stiffness: Stiffness by direction, which `directional` needs.

    Raises:
        RecipeError: The name is unknown, or a value out of range.
    """

    name: str
    information: float
    window: float | None = None
    stiffness: Stiffness | None = None

    def __post_init__(self) -> None:
        if self.name not in TARGETS:
            raise RecipeError(f"target is {self.name!r}; give one of {', '.join(TARGETS)}")
        if not 0.0 < self.information < float("inf"):
            raise RecipeError(f"information is {self.information}; give a positive number")
        if self.window is not None and self.name != "piecewise":
            raise RecipeError(f"window is {self.window:g}, which the target {self.name} does not use; leave it out")
        if self.window is not None and not 0.0 < self.window < float("inf"):
            raise RecipeError(f"window is {self.window}; give a positive length")
        if (self.stiffness is not None) != (self.name == "directional"):
            raise RecipeError(f"springs belong to the target directional, which needs them; the target is {self.name}")

    def share(self, sigma: Tensor) -> Tensor:
        """Return l, the share of forces, at noise levels, or its mean; without noise it is 1 for every target."""
        if self.name in ("optimal", "directional"):
            return 1.0 / (1.0 + self.information * sigma.square())
        window = {"dsm": 0.0, "tsm": float("inf"), "piecewise": self.window or self.information**-0.5}[self.name]
        return ((sigma < window) | (sigma == 0.0)).to(sigma.dtype)

    def weight(self, sigma: Tensor) -> Tensor:
        """Return w, the inverse of the target's mean square per degree of freedom, at noise levels; in length^2."""
        share = self.share(sigma)
        square = share.square() * self.information
        return 1.0 / (square + torch.where(share == 1.0, torch.zeros_like(sigma), ((1.0 - share) / sigma).square()))

    def size(self, sigma: Tensor) -> Tensor:
        """Return the expected size of a component of the score at noise levels, 1/length."""
        return (sigma.square() + 1.0 / self.information).rsqrt()

    def of_frames(
        self, positions: Tensor, scores: Tensor, noise: Tensor, sigma: Tensor, degrees: int
    ) -> tuple[Tensor, Tensor]:
        """Return the target [n_frames, n_atoms, 3] and its expected mean square per degree of freedom [n_frames].

        Args:
            positions: Noisy positions [n_frames, n_atoms, 3], length.
            scores: F(x_0)/kT [n_frames, n_atoms, 3], 1/length.
            noise: eps [n_frames, n_atoms, 3], without a mean.
            sigma: Noise levels [n_frames], length.
            degrees: Number of degrees of freedom of a frame.
        """
        if self.stiffness is None:
            return self(scores, noise, sigma[:, None, None]), 1.0 / self.weight(sigma)
        target, trace = _directional(self.stiffness.matrices(positions), scores, noise, sigma)
        fixed = (positions[0].numel() - degrees) * self.stiffness.least / (1.0 + self.stiffness.least * sigma.square())
        return target, (trace - fixed) / degrees

    def emphasis(self, sigma: Tensor, square: Tensor) -> Tensor:
        """Return the weight of frames in the loss, for errors in units of the mean square that `of_frames` returns."""
        return torch.ones_like(square) if self.stiffness is None else (sigma.square() * square).clamp_min(LEAST_WEIGHT)

    def __call__(self, scores: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Return the target.

        Args:
            scores: F(x_0)/kT [n, 3], 1/length.
            noise: eps [n, 3].
            sigma: Noise levels [n, 1], length.
        """
        share = self.share(sigma)
        return share * scores - torch.where(share == 1.0, torch.zeros_like(noise), (1.0 - share) * noise / sigma)


def _directional(stiffness: Tensor, scores: Tensor, noise: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Return L F/kT - s L G eps with L = (1 + s^2 G)^-1, in which nothing is divided by s, and tr L G."""
    one = torch.eye(stiffness.shape[1], dtype=sigma.dtype, device=sigma.device)
    share = torch.linalg.inv(one + sigma.square()[:, None, None] * stiffness)
    pulled = stiffness @ noise.flatten(1).unsqueeze(2)
    mixed = scores.flatten(1).unsqueeze(2) - sigma[:, None, None] * pulled
    return (share @ mixed).view_as(scores), (share * stiffness).sum(dim=(1, 2))
