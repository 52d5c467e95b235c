"""Data sets and networks of the front of error against time. A network is given by backbone and size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlff_calc.backbones import is_fixed_point
from mlff_calc.backbones.base import backbone_options
from mlff_calc.bench.train import shipped_recipe_file
from mlff_calc.errors import OptionError, RecipeError

LEARNING_RATES = {"hegnn": 0.005, "cg_egnn": 0.005}
"""Learning rates by backbone. Larger values learn faster at first, and become unstable at some point."""
OTHER_RATE = 0.002
"""Learning rate of all other backbones; larger values act as above."""


@dataclass(frozen=True)
class DataSet:
    """Frames to train on.

    Attributes:
        recipe: Name of the shipped potential whose data section, loss, batch and schedule are used.
        file: Path of the training frames within the folder of data sets.
        timed: Name of the system whose step is timed, as `build_system` takes it.
    """

    recipe: str
    file: str
    timed: str


DATA_SETS = {
    "ethanol": DataSet("ethanol", "rmd17/ethanol.npz", "ethanol"),
    "aspirin": DataSet("ethanol", "rmd17/aspirin.npz", "aspirin"),
    "silicon": DataSet("silicon", "condensed/mlearn_Si_train.extxyz.gz", "si512"),
}


@dataclass(frozen=True)
class Entrant:
    """A network by backbone and size.

    Attributes:
        backbone: Name of the backbone.
        size: Values of `l_max`, `channels` and of the number of layers (blocks of a fixed point); None for the defaults.
        radius: Spectral radius to which the loss holds a fixed point; 0 for no such term, None for the recipe's value.
    """

    backbone: str
    size: tuple[int, int, int] | None = None
    radius: float | None = None

    def __str__(self) -> str:
        """Return the name as it is written on the command line."""
        radius = "" if self.radius is None else f"{self.radius:g}"
        size = "" if self.size is None else ":" + "x".join(map(str, self.size))
        return f"{self.backbone}{radius}{size}"

    @property
    def tag(self) -> str:
        """The name as part of a file name."""
        return str(self).replace(":", "-")

    def options(self) -> dict[str, Any]:
        """Return the options of the backbone."""
        layers = "n_blocks" if is_fixed_point(self.backbone) else "n_layers"
        sizes = {} if self.size is None else dict(zip(("l_max", "channels", layers), self.size, strict=True))
        return {"name": self.backbone, "cutoff": 5.0} | sizes

    def recipe(self, data_set: str) -> dict[str, Any]:
        """Return the recipe of a shipped potential with this network and its learning rate.

        Raises:
            BenchmarkError: The recipe is not installed.
        """
        chosen = DATA_SETS[data_set]
        name = f"{chosen.recipe}_deq" if is_fixed_point(self.backbone) else chosen.recipe
        recipe: dict[str, Any] = yaml.safe_load(shipped_recipe_file(name).read_text(encoding="utf-8"))
        kept = {}  # a recipe of the same backbone keeps its other options, such as the solver of a fixed point
        if recipe["potential"]["backbone"]["name"] == self.backbone:
            kept = recipe["potential"]["backbone"]
        recipe["potential"]["backbone"] = kept | self.options()
        for part in ("train", "test"):
            if chosen.file.endswith(".npz"):  # the silicon sets have a file for each part
                recipe["data"][part]["file"] = f"${{MLFF_DATA}}/{chosen.file}"
        recipe["optimizer"]["learning_rate"] = LEARNING_RATES.get(self.backbone, OTHER_RATE)
        if self.radius is not None:
            held = recipe["fixed_point"] if "fixed_point" in recipe else recipe["loss"]
            held |= {"spectral_radius": self.radius} if self.radius > 0.0 else {"contraction": 0.0}
        return recipe


def parse_entrants(text: str) -> list[Entrant]:
    """Return the networks of a comma-separated list such as `hegnn,equiformer:2x32x3,deq0.8:2x32x1`, without duplicates.

    Raises:
        OptionError: A word is not a network, its backbone is unknown, or it gives a radius to a backbone without a fixed
            point.
    """
    found: dict[str, Entrant] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([a-z][a-z_]*)(\d*\.?\d+)?(?::(\d+)x(\d+)x(\d+))?", word)
        if match is None:
            raise OptionError(f"{word!r} is no network; write backbone:l_max x channels x layers, as in hegnn:3x64x2")
        name, radius, size = match[1], match[2], match.groups()[2:]
        try:
            backbone_options(name)
        except RecipeError as error:
            raise OptionError(f"{word!r}: {error}") from error
        if radius is not None and not is_fixed_point(name):
            raise OptionError(f"{word!r}: {name} solves for no fixed point; leave the radius {radius} out")
        sizes = None if size[0] is None else (int(size[0]), int(size[1]), int(size[2]))
        entrant = Entrant(name, sizes, None if radius is None else float(radius))
        found[str(entrant)] = entrant
    if not found:
        raise OptionError(f"{text!r} names no network; write some, as in hegnn:3x64x2,equiformer:2x32x2")
    return list(found.values())


def missing_data(data_sets: list[str], folder: Path) -> list[Path]:
    """Return the files of the data sets that are missing in the folder."""
    return [path for name in data_sets if not (path := folder / DATA_SETS[name].file).is_file()]
