"""Standard deviations of noise over the time of a diffusion, from `sigma_max` at t = 1 down to `sigma_min` at t = 0.

    x_t = x_0 + s(t) eps

| spacing | s(t) |
|---|---|
| geometric | sigma_min (sigma_max / sigma_min)^t |
| karras | (sigma_min^(1/rho) + t (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho, rho = 7 |

Variances explode; a diffusion that preserves them is the same one in other units of length.

Sources: Song et al., "Score-based generative modeling through stochastic differential equations" (2021), Sec. 3.4; Karras
et al., "Elucidating the design space of diffusion-based generative models" (2022), Eq. 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlff_calc.errors import RecipeError

SPACINGS = ("geometric", "karras")
_RHO = 7.0


@dataclass(frozen=True)
class Schedule:
    """Noise over time.

    Attributes:
        sigma_min: Smallest standard deviation, in the unit of positions.
        sigma_max: Largest standard deviation.
        spacing: `geometric` or `karras`.

    Raises:
        RecipeError: A value out of range.
    """

    sigma_min: float
    sigma_max: float
    spacing: str = "geometric"

    def __post_init__(self) -> None:
        if not 0.0 < self.sigma_min < self.sigma_max < float("inf"):
            raise RecipeError(
                f"noise from sigma_min {self.sigma_min:g} to sigma_max {self.sigma_max:g}; give two lengths above 0, the "
                "larger one as sigma_max"
            )
        if self.spacing not in SPACINGS:
            raise RecipeError(f"spacing is {self.spacing!r}; give one of {', '.join(SPACINGS)}")

    def sigmas(self, times: Tensor) -> Tensor:
        """Return the standard deviations at times between 0 and 1, as float64."""
        times = times.double()
        if self.spacing == "geometric":
            return self.sigma_min * (self.sigma_max / self.sigma_min) ** times
        low, high = self.sigma_min ** (1.0 / _RHO), self.sigma_max ** (1.0 / _RHO)
        return (low + times * (high - low)) ** _RHO

    def grid(self, n_steps: int) -> Tensor:
        """Return falling standard deviations [n_steps + 1]: from sigma_max to sigma_min, then 0."""
        return torch.cat([self.sigmas(torch.linspace(1.0, 0.0, n_steps, dtype=torch.float64)), torch.zeros(1).double()])
