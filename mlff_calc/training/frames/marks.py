"""Fingerprints of the frames of a recipe, which a resumed run must find unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlff_calc.datasets.units import Units
from mlff_calc.training.fingerprints import fingerprint_all
from mlff_calc.training.frames.read import Frames
from mlff_calc.training.frames.recipe import FramesRecipe


def data_marks(recipe: FramesRecipe, parts: Mapping[str, Frames]) -> dict[str, dict[str, Any]]:
    """Return the record's entry on each part of the data: files, counts and factors of units."""
    return {part: _mark(recipe, frames) for part, frames in parts.items()}


def _mark(recipe: FramesRecipe, frames: Frames) -> dict[str, Any]:
    mark = fingerprint_all(frames.paths, f"{len(frames.paths)} files") | {"frames": len(frames)}
    if frames.isolated:
        mark["isolated_atoms"] = len(frames.isolated)
    sources = recipe.data.sources(frames.part) or recipe.data.sources("train")  # a part split off from train
    given: list[Units | None] = [None if one.units is None else one.units.for_reader() for one in sources]
    if any(given):
        mark["units"] = [None if units is None else units.factors() for units in given]
    return mark
