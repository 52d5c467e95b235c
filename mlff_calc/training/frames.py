"""The frames a recipe names, read, split and checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ase.data import chemical_symbols

from mlff_calc.datasets import Sample, count_labels, existing_file, read_structures, split_indices
from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.training.labels import PartCount
from mlff_calc.training.recipe import Recipe, Source


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
        return PartCount(self.part, self.path, len(self), count_labels(self.samples))

    def elements(self) -> set[int]:
        """Atomic numbers that occur."""
        return {int(z) for sample in self.samples for z in sample.atoms.numbers}


def read_frames(recipe: Recipe) -> dict[str, Frames]:
    """Read all parts of the data of a recipe.

    Returns:
        `train`, `valid`, and `test` where the recipe has one.

    Raises:
        RecipeError: A file is missing, a split asks for more frames than there are, an element of a later part is not in
            the training part.
        DatasetError: A file cannot be read or holds labels that are not finite.
    """
    parts: dict[str, Frames] = {}
    for part in ("train", "valid", "test"):
        source = recipe.data.source(part)
        if source is not None:
            parts[part] = _read(recipe, part, source)
    if recipe.data.split is not None:
        parts |= _split(recipe, parts["train"])
    for part in ("train", "valid"):
        if len(parts[part]) == 0:
            raise DatasetError(f"{parts[part].path}: no frames for `{part}`; check the file and data.split")
    _check_elements(recipe, parts)
    return parts


def _read(recipe: Recipe, part: str, source: Source) -> Frames:
    try:
        path = existing_file(recipe.resolve(source.file))
    except DatasetError as error:
        raise RecipeError(f"{recipe.origin}: data.{part}.file: {error}") from error
    return Frames(part, path, read_source(path, source))


def read_source(path: Path, source: Source) -> list[Sample]:
    """The samples of one file, read as a recipe says.

    Raises:
        DatasetError: see `read_structures`.
    """
    keys = None if source.keys is None else source.keys.for_reader()
    units = None if source.units is None else source.units.for_reader()
    return read_structures(path, source.index, keys, format=source.format, part=source.part, units=units)


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


def symbol_number(symbol: str, recipe: Recipe) -> int:
    """Atomic number of a symbol that a recipe names.

    Raises:
        RecipeError: There is no such element.
    """
    if symbol not in chemical_symbols[1:]:
        raise RecipeError(f"{recipe.origin}: unknown element {symbol!r}; write a chemical symbol such as Si")
    return chemical_symbols.index(symbol)
