"""Watches losses and gradients for values that are not finite, without making a GPU wait at every step."""

from __future__ import annotations

import torch
from torch import Tensor

from mlff_calc.errors import TrainingError

CHECK_EVERY = 32  # steps between two looks at the flag on a device other than the CPU


class NotFiniteError(TrainingError):
    """A loss or a gradient is not finite.

    Attributes:
        frames: Frames of the training part that made the batch.
    """

    def __init__(self, what: str, frames: list[int]) -> None:
        super().__init__(what, frames)
        self.what = what
        self.frames = frames

    def __str__(self) -> str:
        return f"the {self.what} is not finite"


class FiniteGuard:
    """Finds the first batch whose loss or gradient is not finite.

    On the CPU every value is looked at when it is made, so a bad step never reaches the weights. On other devices a flag
    stays there and is read every `CHECK_EVERY` steps and before anything is saved; the batch is found by its number.
    """

    def __init__(self) -> None:
        self._recent: list[list[int]] = []
        self._flags: list[tuple[str, int, Tensor]] = []

    def new_batch(self, frames: list[int]) -> None:
        """Name the frames that the values from here on come from."""
        if len(self._recent) >= CHECK_EVERY:
            self.check()
        self._recent.append(frames)

    def look(self, what: str, value: Tensor) -> None:
        """Watch a scalar.

        Args:
            what: `loss` or `gradient`.
            value: Scalar tensor.

        Raises:
            NotFiniteError: It is not finite (raised later on devices other than the CPU).
        """
        finite = torch.isfinite(value.detach())
        if value.device.type != "cpu":
            self._flags.append((what, len(self._recent) - 1, finite))
        elif not bool(finite):
            raise NotFiniteError(what, self._recent[-1])

    def check(self) -> None:
        """Read the flags that are still on the device.

        Raises:
            NotFiniteError: For the first value that was not finite.
        """
        if self._flags:
            finite = torch.stack([flag for _, _, flag in self._flags]).tolist()
            for (what, index, _), good in zip(self._flags, finite, strict=True):
                if not good:
                    raise NotFiniteError(what, self._recent[index])
        self._flags.clear()
        self._recent.clear()
