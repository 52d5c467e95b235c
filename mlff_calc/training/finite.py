"""Checks that losses, gradients and outputs are finite, without making a GPU wait at every step."""

from __future__ import annotations

import torch
from torch import Tensor

from mlff_calc.errors import IntegrationError, TrainingError

CHECK_EVERY = 32  # number of steps between checks of the flags on a GPU


class NotFiniteError(TrainingError):
    """A loss or a gradient is not finite.

    Attributes:
        what: `loss`, `gradient` or `validation loss`.
        part: `train` or `valid`.
        frames: Frames of that part in the batch.
    """

    def __init__(self, what: str, part: str, frames: list[int]) -> None:
        super().__init__(what, part, frames)
        self.what, self.part, self.frames = what, part, frames

    def __str__(self) -> str:
        return f"the {self.what} is not finite"


class NotSolvedError(NotFiniteError):
    """An equation of the network could not be solved.

    Attributes:
        why: Error of the solver, without the name of the sample.
    """

    def __init__(self, part: str, frame: int, error: IntegrationError) -> None:
        super().__init__("solve", part, [frame])
        self.why = f"the solve stands at time {error.time:g}{error.unit and ' '}{error.unit} and {error.why}"

    def __str__(self) -> str:
        return self.why


class FiniteGuard:
    """Finds the first batch whose loss or gradient is not finite.

    On the CPU every value is checked at once, so a bad step never reaches the weights. On other devices flags stay
    there and are read every `CHECK_EVERY` steps and before anything is saved; they remember the batch.
    """

    def __init__(self) -> None:
        self._recent: list[tuple[str, list[int]]] = []
        self._flags: list[tuple[str, int, Tensor]] = []

    def new_batch(self, part: str, frames: list[int]) -> None:
        """Announce the part and the frames of the values that follow."""
        if len(self._recent) >= CHECK_EVERY:
            self.check()
        self._recent.append((part, frames))

    def look(self, what: str, value: Tensor) -> None:
        """Check a scalar.

        Args:
            what: `loss`, `gradient` or `validation loss`.
            value: Scalar tensor.

        Raises:
            NotFiniteError: The value is not finite (raised later on devices other than the CPU).
        """
        finite = torch.isfinite(value.detach())
        if value.device.type != "cpu":
            self._flags.append((what, len(self._recent) - 1, finite))
        elif not bool(finite):
            raise NotFiniteError(what, *self._recent[-1])

    def check(self) -> None:
        """Read the flags that are on the device.

        Raises:
            NotFiniteError: A value was not finite; the error is for the first one.
        """
        if self._flags:
            finite = torch.stack([flag for _, _, flag in self._flags]).tolist()
            for (what, index, _), good in zip(self._flags, finite, strict=True):
                if not good:
                    raise NotFiniteError(what, *self._recent[index])
        self._flags.clear()
        self._recent.clear()


def first_not_finite(outputs: dict[str, Tensor], n_atoms: Tensor) -> tuple[int, str] | None:
    """Find the first system of a batch with an output that is not finite.

    Args:
        outputs: Outputs, any of `energy` [n_systems], `forces` [n_atoms, 3], `stress` [n_systems, 3, 3], and their
            standard deviations.
        n_atoms: Numbers of atoms [n_systems].

    Returns:
        Number of the system and name of the output; None where all are finite.
    """
    system = torch.repeat_interleave(torch.arange(len(n_atoms)), n_atoms.cpu())
    for name, value in outputs.items():
        bad = (~torch.isfinite(value)).flatten(1).any(dim=1) if value.ndim > 1 else ~torch.isfinite(value)
        rows = bad.cpu().nonzero().flatten()
        if len(rows):
            return int(system[rows[0]] if name in ("forces", "forces_std") else rows[0]), name
    return None
