"""Predictions of trained networks for the frames of a file, written to a file of structures.

Frames are read, predicted and written batch by batch, so that a file may be larger than memory. All frames are read and
checked once before the first batch. Files appear when they are complete.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from mlff_calc.datasets import Sample, existing_file
from mlff_calc.datasets.ase_files import iterate_frames
from mlff_calc.errors import MLFFError, OptionError
from mlff_calc.training.output_files import check_output
from mlff_calc.whole_files import replacing

SUFFIXES = (".extxyz", ".xyz")


@dataclass(frozen=True)
class FramePrediction:
    """What is written with a frame.

    Attributes:
        results: Properties that ASE knows (`energy`, `forces`, `stress`, `dipole`), in its units.
        info: Other values of the structure by name.
        arrays: Other values of the atoms by name [n_atoms, ...].
    """

    results: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class Predictor(ABC):
    """A trained network that predicts something for each frame.

    Attributes:
        batch_size: Number of frames that are predicted at once.
    """

    batch_size: ClassVar[int] = 32

    def begin(self) -> None:  # noqa: B027
        """Forget the frames of an earlier file, before those of another one are checked."""

    @abstractmethod
    def check(self, atoms: Atoms) -> None:
        """Refuse a frame that the network does not know, with an error of this package."""

    @abstractmethod
    def predict(self, samples: Sequence[Sample]) -> list[FramePrediction]:
        """Predict for a batch of frames, which were checked."""

    def check_files(self, n_frames: int, output: Path, *, overwrite: bool) -> None:
        """Check that further files can be written; see `check_output`.

        Args:
            n_frames: Number of frames that will be predicted.
            output: File of structures that will be written.
            overwrite: Whether older files may be replaced.
        """
        del n_frames, output, overwrite

    def writing(self, output: Path) -> AbstractContextManager[None]:
        """Context in which all batches are predicted; further files appear when it ends without an error."""
        del output
        return nullcontext()


def predict_file(
    predictor: Predictor,
    structures: Path,
    output: Path,
    *,
    index: str = ":",
    batch_size: int | None = None,
    overwrite: bool = False,
    on_done: Callable[[int, int], None] | None = None,
) -> int:
    """Write the structures of a file with what a network predicts for them.

    Args:
        predictor: The network.
        structures: File that ASE reads.
        output: File to write, extended xyz.
        index: Frames, as in ASE.
        batch_size: Number of frames predicted at once; None for that of the predictor.
        overwrite: Whether to replace an older file.
        on_done: Function that is told the numbers of frames that are done and of all.

    Returns:
        Number of frames.

    Raises:
        OptionError: A file cannot be written, or exists already.
        DatasetError: The structures cannot be read.
        MLFFError: The network does not know a frame; the message names it. Nothing is written.
    """
    check_output("--output", output, SUFFIXES, "predictions.extxyz", overwrite=overwrite)
    path = existing_file(structures)
    if output.exists() and output.samefile(path):
        raise OptionError(f"--output {output}: is the file of the structures; give another name")
    total = 0
    predictor.begin()
    for sample in _samples(path, index):
        try:
            predictor.check(sample.atoms)
        except MLFFError as error:
            raise type(error)(f"{sample.place}: {error}") from error
        total += 1
    predictor.check_files(total, output, overwrite=overwrite)
    done, size, left = 0, batch_size or predictor.batch_size, _samples(path, index)
    with replacing(output) as temporary, temporary.open("w", encoding="utf-8") as stream, predictor.writing(output):
        while batch := list(islice(left, size)):
            for sample, predicted in zip(batch, predictor.predict(batch), strict=True):
                ase.io.write(stream, with_prediction(sample.atoms, predicted), format="extxyz")
            done += len(batch)
            if on_done is not None:
                on_done(done, total)
    return done


def with_prediction(atoms: Atoms, predicted: FramePrediction) -> Atoms:
    """Return a copy of a structure with a prediction in place of what it held under the same names."""
    found = atoms.copy()  # type: ignore[no-untyped-call]
    for name in (*predicted.results, *predicted.info, *predicted.arrays):
        found.info.pop(name, None)
        if name in found.arrays and name not in ("numbers", "positions"):
            del found.arrays[name]
    found.info |= predicted.info
    for name, values in predicted.arrays.items():
        found.set_array(name, np.asarray(values))
    found.calc = SinglePointCalculator(found, **predicted.results) if predicted.results else None
    return found


def _samples(path: Path, index: str) -> Iterator[Sample]:
    return (Sample(atoms, path=path, frame=number) for number, atoms in iterate_frames(path, index, None))
