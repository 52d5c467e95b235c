"""Samples that stay in their files until needed, with the same interface as lists of samples in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from mlff_calc.datasets.sample import Sample

Mark = tuple[Path, str, int]
"""File, part of an archive and number of a frame."""


class FrameFile(Protocol):
    """A file whose frames are read one by one."""

    path: Path

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def __getitem__(self, number: int) -> Sample:
        """Read the frame of this number, from 0."""
        ...


class LazySamples(Sequence[Sample]):
    """Sequence of samples that are read on access and not kept.

    Args:
        sources: Files, and lists of samples in memory.
        places: Number of the source and place in it for each sample [n, 2].
    """

    def __init__(self, sources: Sequence[FrameFile | Sequence[Sample]], places: NDArray[np.int64]) -> None:
        self._sources, self._places = sources, places

    @classmethod
    def of_file(cls, file: FrameFile, numbers: Sequence[int]) -> LazySamples:
        """Select frames of a file, in the given order."""
        return cls([file], np.array([(0, number) for number in numbers], dtype=np.int64).reshape(-1, 2))

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> LazySamples: ...

    def __getitem__(self, index: int | slice) -> Sample | LazySamples:
        if isinstance(index, slice):
            return LazySamples(self._sources, self._places[index])
        source, place = self._places[index].tolist()
        return self._sources[source][place]

    def subset(self, indices: Iterable[int]) -> LazySamples:
        """Return the samples at these places, in that order."""
        return LazySamples(self._sources, self._places[np.fromiter(indices, dtype=np.int64)])

    def marks(self) -> Iterator[Mark]:
        """Iterate over file, part and number of each frame, without reading frames from files."""
        for source, place in self._places.tolist():
            held: Any = self._sources[source]
            if isinstance(held, Sequence):
                yield held[place].path, held[place].archive_part, held[place].frame
            else:
                yield held.path, "", place


def joined_samples(parts: Sequence[Sequence[Sample]]) -> Sequence[Sample]:
    """Join the samples of several sources; the result is a list if all of them are in memory."""
    if not any(isinstance(part, LazySamples) for part in parts):
        return [sample for part in parts for sample in part]
    sources: list[Any] = []
    places: list[NDArray[np.int64]] = []
    for part in parts:
        if isinstance(part, LazySamples):
            places.append(part._places + np.array([len(sources), 0]))
            sources += part._sources
        else:
            places.append(np.array([(len(sources), i) for i in range(len(part))], dtype=np.int64).reshape(-1, 2))
            sources.append(part)
    return LazySamples(sources, np.concatenate(places))


def chosen(samples: Sequence[Sample], indices: Iterable[int]) -> Sequence[Sample]:
    """Return the samples at these places, in that order; as a list if they are in memory."""
    return samples.subset(indices) if isinstance(samples, LazySamples) else [samples[int(index)] for index in indices]


def marks_of(samples: Sequence[Sample]) -> Iterator[Mark]:
    """Iterate over file, part and number of each frame, without reading frames from files."""
    if isinstance(samples, LazySamples):
        return samples.marks()
    return ((sample.path, sample.archive_part, sample.frame) for sample in samples)
