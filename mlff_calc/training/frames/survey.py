"""Survey of all frames of a part before the training, which reads each frame once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from mlff_calc.datasets import Sample

_NO_ATOMS, _NO_FORCES, _NO_STRESS = Atoms(), np.zeros((0, 3)), np.zeros((3, 3))


@dataclass(frozen=True)
class Survey:
    """Elements and labels in the frames of a part.

    Attributes:
        elements: Atomic numbers that occur.
        outlines: Samples without structures, one for each frame, with zeros in place of its labels. Since there may be
            millions of frames, those with equal outlines share one object, which names the first of them.
    """

    elements: set[int]
    outlines: list[Sample]


def survey_of(samples: Sequence[Sample]) -> tuple[Survey, dict[bytes, int]]:
    """The survey of some samples, and the number of a sample with each structure, by `structure_hash`."""
    elements: set[int] = set()
    structures: dict[bytes, int] = {}
    known: dict[str, Sample] = {}
    outlines: list[Sample] = []
    for index, sample in enumerate(samples):
        elements.update(np.unique(sample.atoms.numbers).tolist())
        structures[structure_hash(sample)] = index
        marks = repr((sample.path, sample.config_type, [*sample.labels()], sample.absent, sample.stated_weights))
        if marks not in known:
            known[marks] = _outline(sample)
        outlines.append(known[marks])
    return Survey(elements, outlines), structures


def _outline(sample: Sample) -> Sample:
    return replace(
        sample,
        atoms=_NO_ATOMS,
        energy=None if sample.energy is None else 0.0,
        forces=None if sample.forces is None else _NO_FORCES,
        stress=None if sample.stress is None else _NO_STRESS,
    )


def structure_hash(sample: Sample) -> bytes:
    """Equal for structures with the same elements, positions and cell, to a millionth of an Angstrom."""
    atoms = sample.atoms
    lengths = np.concatenate([atoms.positions, atoms.cell.array])
    digest = hashlib.sha256(atoms.numbers.astype(np.int64).tobytes())
    with np.errstate(invalid="ignore"):  # positions that are not finite are refused where their graph is made
        digest.update(np.rint(lengths * 1e6).astype(np.int64).tobytes() + atoms.pbc.tobytes())
    return digest.digest()
