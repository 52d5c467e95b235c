"""Errors that name the batch whose loss was not finite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import lightning.pytorch as pl

from mlff_calc.errors import MLFFError, TrainingError
from mlff_calc.training.finite import NotFiniteError
from mlff_calc.training.folder import RunFolder
from mlff_calc.whole_files import write_whole

_SHOWN = 5  # largest number of frames named in an error; a larger one gives longer messages

BadBatch = Callable[[NotFiniteError, int], TrainingError]
"""Function from the error and the step to an error that names the batch; it may save the batch."""


class FailureReport(pl.Callback):
    """Turns the exception of a bad batch into one that names the batch.

    Args:
        folder: Folder of the run.
        bad_batch: Function that names the batch.
    """

    def __init__(self, folder: RunFolder, bad_batch: BadBatch) -> None:
        self.folder, self.bad_batch = folder, bad_batch

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Replace the exception, in the process where it was raised."""
        del pl_module
        error = exception
        if isinstance(exception, NotFiniteError):
            error = self.bad_batch(exception, trainer.global_step)
        if trainer.world_size > 1 and isinstance(error, MLFFError):
            write_whole(self.folder.failure, str(error))  # exceptions of other processes arrive only as text
        if error is not exception:
            raise error from exception


@dataclass(frozen=True)
class NamedSamples:
    """Names the samples of a bad batch, and writes the whole list to a file.

    Attributes:
        folder: Folder of the run, which gets the list.
        places: Places of the samples, by part.
        advice: Beginning of a sentence that says what to look for in them.
    """

    folder: RunFolder
    places: dict[str, list[str]]
    advice: str = "Look for wrong values there"

    def __call__(self, error: NotFiniteError, step: int) -> TrainingError:
        """Write the list; the error names the first few."""
        named = [self.places[error.part][frame] for frame in error.frames]
        write_whole(self.folder.bad_samples, "\n".join(named) + "\n")
        shown = "; ".join(named[:_SHOWN])
        rest = f"; and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        return TrainingError(
            f"{error} at step {step}, in the batch of samples {shown}{rest}, all listed in {self.folder.bad_samples}. "
            f"{self.advice}, or lower optimizer.learning_rate"
        )
