"""The frames a recipe names, read, split and checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.training.labels import KINDS, LabelCount
from mlff_calc.training.recipe import Recipe


@dataclass
class Frames:
    """Structures with labels.

    Attributes:
        part: `train`, `valid` or `test`.
        path: The file.
        atoms: Structures.
        labels: For each, `energy` (eV), `forces` [n_atoms, 3] (eV/Angstrom), `stress` [3, 3] (eV/Angstrom^3), as far as given.
        indices: Number of each frame in the file.
        config_types: Kind of configuration of each frame, or None.
    """

    part: str
    path: Path
    atoms: list[Atoms]
    labels: list[dict[str, Any]]
    indices: list[int]
    config_types: list[str | None]

    def __len__(self) -> int:
        return len(self.atoms)

    def place(self, index: int) -> str:
        """Where frame `index` of this part stands, for messages."""
        return f"{self.path}, frame {self.indices[index]}"

    def count(self) -> LabelCount:
        """How many labels of each kind there are."""
        return LabelCount(self.part, self.path, len(self), {k: sum(k in x for x in self.labels) for k in KINDS})

    def elements(self) -> set[int]:
        """Atomic numbers that occur."""
        return {int(z) for atoms in self.atoms for z in atoms.numbers}

    def take(self, part: str, chosen: list[int]) -> Frames:
        """Some of the frames as a part of their own."""
        pick = [[rows[i] for i in chosen] for rows in (self.atoms, self.labels, self.indices, self.config_types)]
        return Frames(part, self.path, *pick)


def read_frames(recipe: Recipe) -> dict[str, Frames]:
    """Read all parts of the data of a recipe.

    Returns:
        `train`, `valid`, and `test` where the recipe has one.

    Raises:
        RecipeError: A file is missing, a split asks for more frames than there are, an element of a later part is not in
            the training part.
        DatasetError: A file cannot be read or holds labels that are not finite.
    """
    from mlff_calc.training.reading import read_source

    parts: dict[str, Frames] = {}
    for part in ("train", "valid", "test"):
        source = recipe.data.source(part)
        if source is not None:
            path = recipe.resolve(source.file)
            if not path.is_file():
                raise RecipeError(f"{recipe.origin}: data.{part}.file: there is no file {path}; correct the path")
            parts[part] = read_source(part, path, source)
    if recipe.data.split is not None:
        parts |= _split(recipe, parts["train"])
    for part in ("train", "valid"):
        if len(parts[part]) == 0:
            raise DatasetError(f"{parts[part].path}: no frames for `{part}`; check the file and data.split")
    _check_elements(recipe, parts)
    return parts


def _split(recipe: Recipe, frames: Frames) -> dict[str, Frames]:
    split = recipe.data.split
    if split is None:
        return {}
    n = len(frames)
    counts = {name: _as_count(getattr(split, name), n) for name in ("valid", "test")}
    counts["train"] = n - counts["valid"] - counts["test"] if split.train is None else _as_count(split.train, n)
    if sum(counts.values()) > n or counts["train"] < 1:
        raise RecipeError(
            f"{recipe.origin}: data.split: asks for {counts['train']} + {counts['valid']} + {counts['test']} frames "
            f"(train, valid, test), {frames.path} has {n}; lower the counts"
        )
    order = np.random.default_rng(split.seed).permutation(n)
    parts: dict[str, Frames] = {}
    start = 0
    for name in ("train", "valid", "test"):
        if counts[name] > 0:
            parts[name] = frames.take(name, sorted(int(i) for i in order[start : start + counts[name]]))
        start += counts[name]
    return parts


def _as_count(value: float | None, n: int) -> int:
    if value is None:
        return 0
    return round(value * n) if isinstance(value, float) else value


def _check_elements(recipe: Recipe, parts: dict[str, Frames]) -> None:
    """Elements of later parts must be known from the training part or from the recipe."""
    section = recipe.potential
    listed = section.elements if section is not None else "auto"
    known = parts["train"].elements() | (set() if isinstance(listed, str) else {symbol_number(s, recipe) for s in listed})
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
