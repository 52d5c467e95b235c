"""Structures with labels as parts of a recipe's data, and as batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mlff_calc.charges import charge_of
from mlff_calc.datasets import PARTS, matching_files
from mlff_calc.datasets.properties import PropertySample, read_properties, refuse_in_two_parts
from mlff_calc.errors import DatasetError, RecipeError, StructureError
from mlff_calc.graph import graph_from_atoms
from mlff_calc.properties.model import PROPERTY, refuse_isotopes
from mlff_calc.training.packed import PackedFrames
from mlff_calc.training.property.recipe import PropertyRecipe

LEAST_VALID = 20
"""Number of validation labels from which 95 % intervals can be guaranteed; with fewer, the largest error counts."""


@dataclass(frozen=True)
class Labelled:
    """A part of the data.

    Attributes:
        part: `train`, `valid` or `test`.
        paths: Data files.
        samples: Structures with labels.
        notes: Sentences about what was left out of the files.
    """

    part: str
    paths: tuple[Path, ...]
    samples: list[PropertySample]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labels(self) -> NDArray[np.float64]:
        """Labels [n_frames]."""
        return np.array([one.value for one in self.samples])

    @property
    def where(self) -> str:
        """Names of the files, for messages."""
        return ", ".join(str(path) for path in self.paths[:3]) + (" and others" if len(self.paths) > 3 else "")

    def elements(self) -> list[int]:
        """Return the atomic numbers that occur, sorted."""
        return sorted({int(z) for one in self.samples for z in np.unique(one.atoms.numbers)})


def read_parts(recipe: PropertyRecipe) -> dict[str, Labelled]:
    """Read all parts of the data of a recipe.

    Returns:
        `train`, `valid`, and `test` where the recipe has one.

    Raises:
        RecipeError: A file is missing, or a split asks for more frames than there are.
        DatasetError: See `read_properties`; also raised where a frame is in two parts, structures hold isotopes or several
            charges, or a part has an element that the training part lacks.
    """
    parts = {part: _read(recipe, part, names) for part in PARTS if (names := getattr(recipe.data, part))}
    if recipe.data.split is not None:
        parts |= _split(recipe, parts["train"])
    refuse_in_two_parts({part: one.samples for part, one in parts.items()}, str(recipe.origin))
    known = set(parts["train"].elements())
    charge = charge_of_all(parts["train"])
    for part, one in parts.items():
        new = sorted(set(one.elements()) - known)
        if new:
            raise DatasetError(
                f"{one.where} ({part}) holds atomic numbers {' '.join(map(str, new))}, which the training frames lack; "
                "leave these frames out, or add frames with them to the training"
            )
        if charge_of_all(one) != charge:
            raise DatasetError(f"{one.where} ({part}) holds other total charges than the training frames; {_CHARGES}")
    return parts


_CHARGES = "a property network is not told the charge: train one network for each, or leave the others out"


def charge_of_all(part: Labelled) -> int:
    """Return the total charge of all structures, and refuse isotopes.

    Raises:
        DatasetError: Charges differ, or an atom is an isotope; the message names the first structure.
    """
    first = None
    try:
        for one in part.samples:
            refuse_isotopes(one.atoms, one.place)
            charge = charge_of(one.atoms)
            if first is not None and charge != first:
                raise DatasetError(f"{one.place} has a total charge of {charge} e, and others of {first} e; {_CHARGES}")
            first = charge
    except StructureError as error:
        raise DatasetError(str(error)) from error
    return first or 0


def _read(recipe: PropertyRecipe, part: str, names: Sequence[str]) -> Labelled:
    """Read the files of one part."""
    paths: list[Path] = []
    for name in names:
        try:
            paths += [file.resolve() for file in matching_files(recipe.expanded(name), recipe.origin.parent)]
        except DatasetError as error:
            raise RecipeError(f"{recipe.origin}: data.{part}: {error}") from error
    return read_files(list(dict.fromkeys(paths)), recipe.data.label, part, **recipe.data.reading())


def read_files(paths: Sequence[Path], label: str, part: str, **reading: str) -> Labelled:
    """Read files that are judged together; options are those of `read_properties`."""
    found = [read_properties(path, label, **reading) for path in paths]  # type: ignore[arg-type]
    samples, notes = [one for read in found for one in read.samples], [note for read in found for note in read.notes]
    return Labelled(part, tuple(paths), samples, tuple(notes))


def _split(recipe: PropertyRecipe, whole: Labelled) -> dict[str, Labelled]:
    """Divide the structures of `train`."""
    split = recipe.data.split
    if split is None:
        return {}
    return {
        part: Labelled(part, whole.paths, [whole.samples[k] for k in indices], whole.notes)
        for part, indices in split.drawn(whole.samples, f"{recipe.origin}: data.split of {whole.where}").items()
    }


class PropertyFrames(PackedFrames):
    """Graphs and labels of a part of the data, made once. Labels are `property` [n_systems].

    Args:
        samples: Structures with labels, at least one.
        cutoff: Cutoff radius, Angstrom.

    Raises:
        StructureError: A structure cannot be a graph; the message names it.
    """

    def __init__(self, samples: Sequence[PropertySample], cutoff: float) -> None:
        graphs = []
        for one in samples:
            try:
                graphs.append(graph_from_atoms(one.atoms, cutoff))
            except StructureError as error:
                raise StructureError(f"{one.place}: {error}") from error
        super().__init__(graphs, [{PROPERTY: torch.tensor([one.value], dtype=torch.float64)} for one in samples])

    def average_neighbors(self) -> float:
        """Return the number of edges per atom over all frames, at least 1."""
        return max(1.0, self.graphs.total("edge") / max(1, self.graphs.total("atom")))
