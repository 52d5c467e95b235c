"""The method of Dormand and Prince of order 5, with a step size for each sample.

The error of a step is the root mean square over the whole state of a sample, divided by atol + rtol |y|, with the root
mean square |y| as well. Errors of single components would depend on the axes and on the basis of the state.

Sources: Dormand and Prince, "A family of embedded Runge-Kutta formulae" (1980); Hairer, Norsett and Wanner, "Solving
ordinary differential equations I" (1993), Secs. II.4 (first step, control) and II.6 (values within a step).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mlff_calc.errors import IntegrationError, OptionError
from mlff_calc.ode.pieces import Slope, Solution, Steps, checked_times, quartic, rms

NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""Difference of the results of orders 5 and 4."""
BEND = (
    -12715105075 / 11282082432, 0.0, 87487479700 / 32700410799, -10690763975 / 1880347072, 701980252875 / 199316789632,
    -1453857185 / 822651844, 69997945 / 29380423,
)  # fmt: skip
"""Weights of the term of degree 4 between the ends of a step."""
SAFETY, LEAST, MOST = 0.9, 0.2, 5.0
"""Share of the step that the error allows, and bounds of the ratio of successive steps."""
ROUNDING = 16.0
"""Shortest step in units of the rounding error of the time, below which values that are not finite end a solve."""


@dataclass(frozen=True)
class Dopri5:
    """Steps that keep the error of each sample below its tolerance.

    Attributes:
        rtol: Tolerance relative to the root mean square of the state.
        atol: Absolute tolerance, in the units of the states.
        first_step: Length of the first step; None to choose it from state and derivative.
        max_step: Largest step.
        max_steps: Largest number of steps.
    """

    rtol: float = 1e-3
    atol: float = 1e-4
    first_step: float | None = None
    max_step: float = math.inf
    max_steps: int = 1000

    def __post_init__(self) -> None:
        for name in ("rtol", "atol", "first_step", "max_step", "max_steps"):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise OptionError(f"{name} of the solver is {value}; give a positive number")

    def __call__(self, slope: Slope, state: Tensor, times: Tensor) -> Solution:
        """States at the requested times; gradients flow through the steps, whose lengths count as constants.

        Args:
            slope: Function f.
            state: States at time 0 [n_samples, ...].
            times: [n_times] or [n_samples, n_times], from 0 on, rising.

        Raises:
            OptionError: Times are not finite, negative, or not rising.
            IntegrationError: A sample needs too many steps, or its values are not finite; sample and time are named.
        """
        times = checked_times(times, state)
        shape, y = state.shape, state.flatten(1)

        def f(t: Tensor, flat: Tensor) -> Tensor:
            return slope(t, flat.view(shape)).flatten(1)

        steps, end = Steps(times, y), times[:, -1]
        t = torch.zeros_like(end)
        first = f(t, y)
        length = self._first(f, y, first)
        made = torch.zeros_like(end, dtype=torch.long)
        for _ in range(self.max_steps):
            active = t < end
            if not bool(active.any()):
                return Solution(steps.states().unflatten(2, shape[1:]), made)
            step = torch.where(active, length, torch.zeros_like(length))
            h = step.unsqueeze(1)
            after, slopes = _stages(f, t, y, first, h)
            ratio = self._error(y, after, slopes, h)
            ratio = self._retried(ratio, active, t, step, differentiated=after.requires_grad)
            good = active & (ratio <= 1.0)
            steps.add(quartic(y, after, h, first, slopes[-1], h * _sum(BEND, slopes)), t, t + step, good)
            made, accepted = made + active, good.unsqueeze(1)
            t = torch.where(good, t + step, t)
            y, first = torch.where(accepted, after, y), torch.where(accepted, slopes[-1], first)
            length = torch.where(active, self._next(step, ratio), length)
        late = (t < end).nonzero().flatten()
        if not len(late):
            return Solution(steps.states().unflatten(2, shape[1:]), made)
        raise _failed(int(late[0]), t, f"needs more than {self.max_steps} steps; raise max_steps or the tolerance")

    def _error(self, before: Tensor, after: Tensor, slopes: list[Tensor], h: Tensor) -> Tensor:
        """Error of a step of each sample, in units of what is allowed [n_samples]."""
        with torch.no_grad():
            scale = self.atol + self.rtol * torch.maximum(rms(before), rms(after))
            return rms(h * _sum(ERROR, slopes)) / scale

    def _retried(self, ratio: Tensor, active: Tensor, t: Tensor, step: Tensor, *, differentiated: bool) -> Tensor:
        """Errors in which a step to values that are not finite counts as far too long.

        Raises:
            IntegrationError: Such a step is as short as rounding allows, or gradients are asked for, which it would spoil.
        """
        lost = active & ~torch.isfinite(ratio)
        shortest = step <= ROUNDING * torch.finfo(t.dtype).eps * t.clamp(min=1.0)
        _refuse_not_finite(lost if differentiated else lost & shortest, t)
        return torch.where(lost, 1e12, ratio)

    def _next(self, step: Tensor, ratio: Tensor) -> Tensor:
        """Length of the next step."""
        factor = SAFETY * ratio.clamp(min=1e-10) ** -0.2
        most = torch.where(ratio <= 1.0, MOST, 1.0).to(step)
        return (step * torch.minimum(factor.clamp(min=LEAST), most)).clamp(max=self.max_step)

    @torch.no_grad()
    def _first(self, f: Slope, y: Tensor, slope: Tensor) -> Tensor:
        """Length of the first step of each sample [n_samples], from its state alone."""
        if self.first_step is not None:
            return torch.full_like(y[:, 0], min(self.first_step, self.max_step))
        scale = self.atol + self.rtol * rms(y)
        size, speed = rms(y) / scale, rms(slope) / scale
        _refuse_not_finite(~torch.isfinite(size + speed), torch.zeros_like(size))
        small = (size < 1e-5) | (speed < 1e-5)
        guess = torch.where(small, 1e-6, 0.01 * size / speed.clamp(min=1e-30)).clamp(max=self.max_step)
        ahead = f(guess, y + guess.unsqueeze(1) * slope)
        bend = rms(ahead - slope) / scale / guess
        steepest = torch.maximum(speed, bend)
        better = torch.where(steepest <= 1e-15, (1e-3 * guess).clamp(min=1e-6), (0.01 / steepest.clamp(min=1e-30)) ** 0.2)
        return torch.minimum(100.0 * guess, better).clamp(max=self.max_step)


def _stages(f: Slope, t: Tensor, y: Tensor, first: Tensor, h: Tensor) -> tuple[Tensor, list[Tensor]]:
    """State after a step, and the seven derivatives."""
    slopes, place = [first], y
    for node, weights in zip(NODES, STAGES, strict=True):
        place = y + h * _sum(weights, slopes)
        slopes.append(f(t + node * h.squeeze(1), place))
    return place, slopes


def _sum(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    terms = [weight * slope for weight, slope in zip(weights, slopes, strict=True) if weight != 0.0]
    return torch.stack(terms).sum(dim=0)


def _refuse_not_finite(bad: Tensor, t: Tensor) -> None:
    if bool(bad.any()):
        sample = int(bad.nonzero()[0, 0])
        raise _failed(sample, t, "has values that are not finite; look at its start, and lower first_step or max_step")


def _failed(sample: int, t: Tensor, why: str) -> IntegrationError:
    return IntegrationError(why, sample, float(t[sample]))
