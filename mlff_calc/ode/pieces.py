"""Steps that were made, and the values between their ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mlff_calc.errors import OptionError

Slope = Callable[[Tensor, Tensor], Tensor]
"""Function f from times [n_samples] and states [n_samples, ...] to derivatives of the states."""


class Solution(NamedTuple):
    """States at the requested times.

    Attributes:
        states: [n_samples, n_times, ...].
        steps: Number of steps that each sample made, those that were rejected included [n_samples].
    """

    states: Tensor
    steps: Tensor


def checked_times(times: Tensor, state: Tensor) -> Tensor:
    """Return times as [n_samples, n_times] in the precision of the states.

    Args:
        times: [n_times], or one row for each sample.
        state: States at time 0 [n_samples, ...].

    Raises:
        OptionError: There are none, or one is not finite, is negative, or is smaller than the one before it.
    """
    if times.ndim == 1:
        times = times.unsqueeze(0).expand(state.shape[0], -1)
    if times.ndim != 2 or times.shape[0] != state.shape[0] or times.shape[1] == 0:
        raise OptionError(f"times have shape {list(times.shape)}; give at least one for each of {state.shape[0]} samples")
    before = torch.cat([torch.zeros_like(times[:, :1]), times[:, :-1]], dim=1)
    for wrong, why in (
        (~torch.isfinite(times), "is not finite"), (times < 0.0, "is negative"), (times < before, "is below the one before"),
    ):  # fmt: skip
        if bool(wrong.any()):
            sample, number = (int(i) for i in wrong.nonzero()[0])
            value = float(times[sample, number])
            raise OptionError(
                f"time {number} of sample {sample} is {value:g}, which {why}; give finite times from 0 on, in rising order"
            )
    return times.to(state)


def rms(values: Tensor) -> Tensor:
    """Root mean square over a whole sample [n_samples], for values [n_samples, n]."""
    return values.square().mean(dim=1).sqrt()


def quartic(before: Tensor, after: Tensor, step: Tensor, first: Tensor, last: Tensor, bend: Tensor) -> Tensor:
    """Coefficients of the polynomial of a step [5, n_samples, n], for `between`.

    Args:
        before: State at its beginning [n_samples, n].
        after: State at its end.
        step: Its length [n_samples, 1].
        first: Derivative at its beginning.
        last: Derivative at its end.
        bend: What the polynomial of degree 4 adds to the cubic one.
    """
    change = after - before
    entry = step * first - change
    return torch.stack([before, change, entry, change - step * last - entry, bend])


def between(pieces: Tensor, share: Tensor) -> Tensor:
    """Values of polynomials [..., 5, n] at shares of their steps [...]."""
    c0, c1, c2, c3, c4 = pieces.unbind(dim=-2)
    s = share.unsqueeze(-1)
    return c0 + s * (c1 + (1.0 - s) * (c2 + s * (c3 + (1.0 - s) * c4)))


@dataclass
class Steps:
    """Steps so far, and which of them covers each requested time.

    Attributes:
        times: Requested times [n_samples, n_times].
        start: States at time 0 [n_samples, n].
    """

    times: Tensor
    start: Tensor

    def __post_init__(self) -> None:
        self._pieces: list[Tensor] = []
        self._number = torch.zeros_like(self.times, dtype=torch.long)
        self._share = torch.zeros_like(self.times)

    def add(self, piece: Tensor, begin: Tensor, end: Tensor, good: Tensor) -> None:
        """Keep a step.

        Args:
            piece: Result of `quartic`.
            begin: Times at which it begins [n_samples], the very numbers at which the step before ended.
            end: Times at which it ends [n_samples].
            good: Whether each sample accepts it [n_samples].
        """
        here, there = begin.unsqueeze(1), end.unsqueeze(1)
        covered = good.unsqueeze(1) & (self.times > here) & (self.times <= there)
        self._number = torch.where(covered, len(self._pieces), self._number)
        self._share = torch.where(covered, (self.times - here) / (there - here), self._share)
        self._pieces.append(piece)

    def states(self) -> Tensor:
        """States at the requested times [n_samples, n_times, n]."""
        if not self._pieces:
            return self.start.unsqueeze(1).expand(-1, self.times.shape[1], -1)
        samples = torch.arange(len(self.start), device=self.start.device).unsqueeze(1)
        chosen = torch.stack(self._pieces).permute(0, 2, 1, 3)[self._number, samples]
        return torch.where(self.times.unsqueeze(2) > 0.0, between(chosen, self._share), self.start.unsqueeze(1))
