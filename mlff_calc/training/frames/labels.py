"""Counts of the labels in each part of the data, and the check that the loss has the labels it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mlff_calc.datasets import KINDS
from mlff_calc.datasets.several import short_names
from mlff_calc.errors import RecipeError
from mlff_calc.training.frames.recipe import FramesRecipe


@dataclass(frozen=True)
class PartCount:
    """Labels read for one part of the data.

    Attributes:
        part: `train`, `valid` or `test`.
        path: File, or words for several files.
        frames: Number of structures.
        labels: Number of structures with each label (energy, forces, stress).
        absent: Reasons, by label, why it is not taken from frames, or what they hold in its place.
    """

    part: str
    path: Path | str
    frames: int
    labels: dict[str, int]
    absent: dict[str, list[str]] = field(default_factory=dict)


def label_table(counts: list[PartCount]) -> str:
    """Format the counts as a plain-text table with one line per part and file, followed by the labels that are not taken."""
    short = short_names(Path(count.path) for count in counts)
    names = [short[Path(count.path)] for count in counts]
    parts = [count.part for count in counts]
    width = max(map(len, names))
    lines = [f"{'part':<6}  {'file':<{width}}  {'frames':>7}" + "".join(f"  {kind:>7}" for kind in KINDS)]
    for count, name in zip(counts, names, strict=True):
        numbers = "".join(f"  {count.labels.get(kind, 0):>7}" for kind in KINDS)
        lines.append(f"{count.part:<6}  {name:<{width}}  {count.frames:>7}{numbers}")
    for count, name in zip(counts, names, strict=True):
        place = f"{count.part} ({name})" if parts.count(count.part) > 1 else count.part
        lines += [f"{place}: {kind}: {reason}" for kind, reasons in count.absent.items() for reason in reasons]
    return "\n".join(lines)


def check_labels(recipe: FramesRecipe, counts: list[PartCount]) -> None:
    """Refuse a recipe whose loss needs labels that are missing.

    Raises:
        RecipeError: A label with a weight is missing in the training or validation part; the message names file, key
            and cure.
    """
    for count in counts:
        if count.part == "test":
            continue
        for kind, weight in recipe.loss.weights().items():
            if count.labels.get(kind, 0) > 0:
                continue
            sources = recipe.data.sources(count.part) or recipe.data.sources("train")
            looked = " or ".join(dict.fromkeys(repr(getattr(source.keys, kind, None) or kind) for source in sources))
            if count.absent.get(kind):
                raise RecipeError(
                    f"{recipe.origin}: loss.{kind} is {weight:g}, but no {kind} is taken from {count.path} ({count.part}): "
                    f"{'; '.join(count.absent[kind])}. Change data.keys, or set loss.{kind} to 0"
                )
            raise RecipeError(
                f"{recipe.origin}: loss.{kind} is {weight:g}, but {count.path} ({count.part}) has no {kind} under the key "
                f"{looked}; name the key in data.keys.{kind}, or set loss.{kind} to 0"
            )
