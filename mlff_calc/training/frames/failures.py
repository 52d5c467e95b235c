"""Saving the frames of a batch whose loss was not finite, for inspection."""

from __future__ import annotations

import io
from dataclasses import dataclass

import ase.io

from mlff_calc.errors import TrainingError
from mlff_calc.training.finite import NotFiniteError
from mlff_calc.training.folder import RunFolder
from mlff_calc.training.frames.read import Frames
from mlff_calc.whole_files import write_whole


@dataclass(frozen=True)
class SavedFrames:
    """Saves the structures and labels of a bad batch.

    Attributes:
        folder: Folder of the run.
        parts: Frames by part, `train` and `valid`.
    """

    folder: RunFolder
    parts: dict[str, Frames]

    def __call__(self, error: NotFiniteError, step: int) -> TrainingError:
        """Write the frames, and name them in the error."""
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
        write_whole(self.folder.bad_batch, stream.getvalue())
        return TrainingError(
            f"{error} at step {step}, in the batch of frames {named}; they are "
            f"saved in {self.folder.bad_batch}. Look for overlapping atoms or wrong labels there, or lower "
            "optimizer.learning_rate"
        )
