"""Samples that stay in their files until they are asked for, beside lists of samples in memory."""

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
        """The frame of this number, from 0."""
        ...


class LazySamples(Sequence[Sample]):
    """Samples of which each is read when it is asked for; nothing is kept.

    Args:
        sources: Files, and lists of samples in memory.
        places: [n, 2], number of the source and place in it, for each sample.
    """

    def __init__(self, sources: Sequence[FrameFile | Sequence[Sample]], places: NDArray[np.int64]) -> None:
        self._sources, self._places = sources, places

    @classmethod
    def of_file(cls, file: FrameFile, numbers: Sequence[int]) -> LazySamples:
        """Some frames of a file, in the order given."""
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
        """The samples of these places, in that order."""
        return LazySamples(self._sources, self._places[np.fromiter(indices, dtype=np.int64)])

    def marks(self) -> Iterator[Mark]:
        """File, part and number of each frame; files are not read for it."""
        for source, place in self._places.tolist():
            held: Any = self._sources[source]
            if isinstance(held, Sequence):
                yield held[place].path, held[place].archive_part, held[place].frame
            else:
                yield held.path, "", place


def joined_samples(parts: Sequence[Sequence[Sample]]) -> Sequence[Sample]:
    """Samples of several sources as one: a list where all of them are in memory."""
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
    """The samples of these places, in that order: a list where they are in memory."""
    return samples.subset(indices) if isinstance(samples, LazySamples) else [samples[int(index)] for index in indices]


def marks_of(samples: Sequence[Sample]) -> Iterator[Mark]:
    """File, part and number of each frame, without reading frames that are not in memory."""
    if isinstance(samples, LazySamples):
        return samples.marks()
    return ((sample.path, sample.archive_part, sample.frame) for sample in samples)
