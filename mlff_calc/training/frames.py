"""The frames a recipe names, read, split and checked before anything runs."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from mlff_calc.datasets import KINDS, PARTS, Kind, Sample, count_labels, existing_file, read_structures, split_indices
from mlff_calc.datasets.absent import absent_labels
from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.training.labels import PartCount
from mlff_calc.training.recipe import Recipe, Source

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frames:
    """A part of the data.

    Attributes:
        part: `train`, `valid` or `test`.
        path: The file.
        samples: Structures with their labels.
    """

    part: str
    path: Path
    samples: list[Sample]

    def __len__(self) -> int:
        return len(self.samples)

    def count(self) -> PartCount:
        """How many labels of each kind there are."""
        return PartCount(self.part, self.path, len(self), count_labels(self.samples), absent_labels(self.samples))

    def elements(self) -> set[int]:
        """Atomic numbers that occur."""
        return {int(z) for sample in self.samples for z in sample.atoms.numbers}


def read_frames(recipe: Recipe) -> dict[str, Frames]:
    """Read all parts of the data of a recipe.

    Returns:
        `train`, `valid`, and `test` where the recipe has one.

    Raises:
        RecipeError: A file is missing, a split asks for more frames than there are, a frame is in two parts.
        DatasetError: A file cannot be read or holds labels that are not finite, an element of a later part is not in the
            training part.
    """
    parts: dict[str, Frames] = {}
    for part in PARTS:
        source = recipe.data.source(part)
        if source is not None:
            parts[part] = _read(recipe, part, source)
    if recipe.data.split is not None:
        parts |= _split(recipe, parts["train"])
    for part in ("train", "valid"):
        if len(parts[part]) == 0:
            raise DatasetError(f"{parts[part].path}: no frames for `{part}`; check the file and data.split")
    _check_elements(recipe, parts)
    _check_disjoint(recipe, parts)
    return parts


def _read(recipe: Recipe, part: str, source: Source) -> Frames:
    try:
        path = existing_file(recipe.resolve(source.file))
    except DatasetError as error:
        raise RecipeError(f"{recipe.origin}: data.{part}.file: {error}") from error
    return Frames(part, path, read_source(path, source, weighted(recipe)))


def weighted(recipe: Recipe) -> list[Kind]:
    """The labels that have a weight in the loss; faults of others do no harm, as these are left out."""
    return [kind for kind in KINDS if kind in recipe.loss.weights()]


def read_source(path: Path, source: Source, checked: Collection[Kind] = KINDS) -> list[Sample]:
    """The samples of one file, read as a recipe says; faults of labels outside `checked` only leave these out.

    Raises:
        DatasetError: see `read_structures`.
    """
    keys = None if source.keys is None else source.keys.for_reader()
    units = None if source.units is None else source.units.for_reader()
    return read_structures(
        path, source.index, keys, format=source.format, part=source.part, units=units, checked=checked
    )


def _split(recipe: Recipe, frames: Frames) -> dict[str, Frames]:
    split = recipe.data.split
    if split is None:
        return {}
    try:
        chosen = split_indices(len(frames), split.train, split.valid, split.test, split.seed)
    except DatasetError as error:
        raise RecipeError(f"{recipe.origin}: data.split of {frames.path}: {error}") from error
    return {
        part: Frames(part, frames.path, [frames.samples[i] for i in indices])
        for part, indices in chosen.items()
        if len(indices)
    }


def _check_elements(recipe: Recipe, parts: dict[str, Frames]) -> None:
    """Elements of later parts must be known from the training part or from the recipe."""
    section = recipe.potential
    listed = section.elements if section is not None else "auto"
    known = parts["train"].elements() | (
        set() if isinstance(listed, str) else {symbol_number(s, recipe) for s in listed}
    )
    for part, frames in parts.items():
        unknown = sorted(frames.elements() - known)
        if unknown:
            names = " ".join(chemical_symbols[z] for z in unknown)
            have = " ".join(chemical_symbols[z] for z in sorted(known))
            raise DatasetError(
                f"{frames.path} ({part}) holds {names}, but the training data {parts['train'].path} hold only {have}; "
                f"add frames with {names} to the training data, or leave these out of `{part}`"
            )


def _check_disjoint(recipe: Recipe, parts: dict[str, Frames]) -> None:
    """Refuse a frame that is in two parts; warn of structures that are (files may hold copies)."""
    frames: dict[str, set[tuple[str | None, Path, int]]] = {}
    structures: dict[str, dict[bytes, Sample]] = {}
    for part in parts:
        source = recipe.data.source(part) or recipe.data.train
        samples = parts[part].samples
        frames[part] = {(source.part, sample.path, sample.frame) for sample in samples}
        structures[part] = {_structure_hash(sample): sample for sample in samples}
    for one, other in combinations([part for part in PARTS if part in parts], 2):
        shared = frames[one] & frames[other]
        if shared:
            first = min(frame for _, _, frame in shared)
            raise RecipeError(
                f"{recipe.origin}: {len(shared)} frames of {parts[other].path} are in `{one}` and in `{other}` (the first "
                f"is frame {first}); name other frames with data.{other}.index, or let data.split divide the file"
            )
        copies = structures[one].keys() & structures[other].keys()
        if copies:
            again = min((structures[other][key] for key in copies), key=lambda sample: sample.frame)
            before = structures[one][_structure_hash(again)]
            logger.warning(
                "%d structures of `%s` are in `%s` as well, the first is %s (%s): errors on `%s` will look better than they "
                "are; remove the copies",
                len(copies), other, one, again.place, before.place, other,
            )  # fmt: skip


def _structure_hash(sample: Sample) -> bytes:
    """Equal for structures with the same elements, positions and cell, to a millionth of an Angstrom."""
    atoms = sample.atoms
    lengths = np.concatenate([atoms.positions, atoms.cell.array])
    digest = hashlib.sha256(atoms.numbers.astype(np.int64).tobytes())
    digest.update(np.rint(lengths * 1e6).astype(np.int64).tobytes() + atoms.pbc.tobytes())
    return digest.digest()


def symbol_number(symbol: str, recipe: Recipe) -> int:
    """Atomic number of a symbol that a recipe names.

    Raises:
        RecipeError: There is no such element.
    """
    if symbol not in chemical_symbols[1:]:
        raise RecipeError(f"{recipe.origin}: unknown element {symbol!r}; write a chemical symbol such as Si")
    return chemical_symbols.index(symbol)
