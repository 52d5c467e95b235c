"""What is left behind when a run must stop: the frames of the batch whose loss was not finite."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import ase.io
import lightning.pytorch as pl

from mlff_calc.errors import MLFFError, TrainingError
from mlff_calc.training.files import write_atomic
from mlff_calc.training.finite import NotFiniteError
from mlff_calc.training.potential.frames import Frames
from mlff_calc.training.run_folder import RunFolder

BadBatch = Callable[[NotFiniteError, int], TrainingError]
"""From what was not finite, and the step, to an error that names the batch; may save it."""


class FailureReport(pl.Callback):
    """Turns the exception of a bad batch into one that names it.

    Args:
        folder: The folder of the run.
        bad_batch: Names the batch.
    """

    def __init__(self, folder: RunFolder, bad_batch: BadBatch) -> None:
        self.folder, self.bad_batch = folder, bad_batch

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Called where the exception arose, in whichever process."""
        del pl_module
        error = exception
        if isinstance(exception, NotFiniteError):
            error = self.bad_batch(exception, trainer.global_step)
        if trainer.world_size > 1 and isinstance(error, MLFFError):
            write_atomic(self.folder.failure, str(error))  # exceptions of other processes come home as text
        if error is not exception:
            raise error from exception


@dataclass(frozen=True)
class SavedFrames:
    """Saves the structures and labels of a bad batch.

    Attributes:
        folder: Where they go.
        parts: The frames by part, `train` and `valid`.
    """

    folder: RunFolder
    parts: dict[str, Frames]

    def __call__(self, error: NotFiniteError, step: int) -> TrainingError:
        """Write the frames, and name them."""
        samples = [self.parts[error.part].samples[frame] for frame in error.frames]
        by_file: dict[str, list[str]] = {}
        for sample in samples:
            by_file.setdefault(str(sample.path), []).append(str(sample.frame))
        named = " and ".join(f"{', '.join(numbers)} of {path}" for path, numbers in by_file.items())
        structures = []
        for sample in samples:
            atoms = sample.atoms.copy()
            atoms.info = {"frame": sample.frame, "file": str(sample.path)}
            if sample.energy is not None:
                atoms.info["REF_energy"] = sample.energy
            if sample.forces is not None:
                atoms.arrays["REF_forces"] = sample.forces
            structures.append(atoms)
        stream = io.StringIO()
        ase.io.write(stream, structures, format="extxyz")
        write_atomic(self.folder.bad_batch, stream.getvalue())
        return TrainingError(
            f"{error} at step {step}, in the batch of frames {named}; they are "
            f"saved in {self.folder.bad_batch}. Look for overlapping atoms or wrong labels there, or lower "
            "optimizer.learning_rate"
        )
