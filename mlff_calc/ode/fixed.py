"""The classical Runge-Kutta method of order 4 with equal steps, and cubic values between their ends."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlff_calc.errors import IntegrationError, OptionError
from mlff_calc.ode.pieces import Slope, Solution, Steps, checked_times, quartic


@dataclass(frozen=True)
class RK4:
    """Equal steps.

    Attributes:
        step: Length of a step.
        max_steps: Largest number of steps.
    """

    step: float = 0.05
    max_steps: int = 100_000

    def __post_init__(self) -> None:
        for name in ("step", "max_steps"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise OptionError(f"{name} of the solver is {getattr(self, name)}; give a positive number")

    def __call__(self, slope: Slope, state: Tensor, times: Tensor) -> Solution:
        """See `Dopri5.__call__`.

        Raises:
            OptionError: Times are not finite, negative, or not rising.
            IntegrationError: A sample needs too many steps, or its values are not finite; sample and time are named.
        """
        times = checked_times(times, state)
        shape, y, h = state.shape, state.flatten(1), self.step
        last = times[:, -1]
        count = torch.ceil(last / h).long()
        count = count + (count.to(last.dtype) * h < last)  # rounding
        if int(count.max()) > self.max_steps:
            sample = int(count.argmax())
            raise IntegrationError(
                f"needs {int(count[sample])} steps, and {self.max_steps} are the limit; give longer steps",
                sample, 0.0, step=h,
            )  # fmt: skip

        def f(t: Tensor, flat: Tensor) -> Tensor:
            return slope(t, flat.view(shape)).flatten(1)

        steps = Steps(times, y)
        column, t = y.new_full((len(y), 1), h), torch.zeros_like(last)
        k1 = f(t, y)
        for number in range(int(count.max())):
            t, end = torch.full_like(last, number * h), torch.full_like(last, (number + 1) * h)
            k2 = f(t + 0.5 * h, y + 0.5 * h * k1)
            k3 = f(t + 0.5 * h, y + 0.5 * h * k2)
            k4 = f(t + h, y + h * k3)
            after = y + (h / 6.0) * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
            first, k1 = k1, f(t + h, after)
            active = number < count
            bad = active & ~torch.isfinite(after).all(dim=1)
            if bool(bad.any()):
                sample = int(bad.nonzero()[0, 0])
                raise IntegrationError(
                    "has values that are not finite; look at its start, and give a shorter step", sample, number * h
                )  # fmt: skip
            steps.add(quartic(y, after, column, first, k1, torch.zeros_like(y)), t, end, active)
            y = after
        return Solution(steps.states().unflatten(2, shape[1:]), count)
