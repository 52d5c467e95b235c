"""Names the samples of a batch whose loss is not finite."""

from __future__ import annotations

from dataclasses import dataclass

from mlff_calc.errors import TrainingError
from mlff_calc.training.files import write_atomic
from mlff_calc.training.finite import NotFiniteError
from mlff_calc.training.run_folder import RunFolder

_SHOWN = 5


@dataclass(frozen=True)
class NamedSamples:
    """Names the samples of a bad batch, and writes the whole list to a file.

    Attributes:
        folder: Where the list goes.
        places: Of the samples, by part.
    """

    folder: RunFolder
    places: dict[str, list[str]]

    def __call__(self, error: NotFiniteError, step: int) -> TrainingError:
        """Write the list; the error names the first few."""
        named = [self.places[error.part][frame] for frame in error.frames]
        write_atomic(self.folder.bad_samples, "\n".join(named) + "\n")
        shown = "; ".join(named[:_SHOWN])
        rest = f"; and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        return TrainingError(
            f"{error} at step {step}, in the batch of samples {shown}{rest}, all listed in {self.folder.bad_samples}. "
            "Look for particles that are very near or very fast there, or lower optimizer.learning_rate"
        )
