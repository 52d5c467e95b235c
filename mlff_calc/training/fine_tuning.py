"""Starting from a trained network: the keys of recipes, the agreement of architectures, and notes for logs and cards.

A network of the same kind is continued as a whole. Of another kind the backbone is taken, with its cutoff and its
`avg_num_neighbors`, and the heads are new. What belongs to the new data is measured on these: reference energies, scales and
bins of new heads. Elements of the start that the new data lack are kept in a whole network, which has learned them, and
dropped with new heads, which have not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from ase.data import chemical_symbols
from pydantic import Field, model_validator
from torch import nn

from mlff_calc.errors import DatasetError, RecipeError, TrainingError
from mlff_calc.networks import find_network, kind_of, read_header
from mlff_calc.networks.trained_backbone import TrainedBackbone
from mlff_calc.training.layers import is_frozen
from mlff_calc.training.recipe_backbone import BackboneSection
from mlff_calc.training.recipe_base import TrainingRecipe
from mlff_calc.training.recipe_copies import without_folder
from mlff_calc.training.recipe_section import Section

STARTED = "fine_tuned_from"
"""Entry of records and headers that says what a network was fine-tuned from."""


class FineTuning(Section):
    """What is taken from the network that `fine_tune_from` names, and how fast it changes."""

    heads: Literal["auto", "new"] = "auto"
    """Heads: auto continues a network of the same kind as a whole, new takes its backbone and makes new heads."""
    new_elements: Literal["refuse", "add"] = "refuse"
    """Elements that the start does not know: an error, or added with new rows of the embeddings."""
    freeze: Literal["none", "backbone", "start"] | Annotated[int, Field(ge=0, strict=True)] = "none"
    """Weights that stay: none, the backbone, all of the start (only heads that it lacks are trained, and its reference
    energies stay), or, by number, the backbone's embeddings and that many of its lowest layers."""
    layer_decay: float = Field(1.0, gt=0.0, le=1.0)
    """Factor of the learning rate from a layer to the one below; the heads have the rate of `optimizer`."""


class FineTunedRecipe(TrainingRecipe):
    """Base of recipes that may start from a trained network."""

    fine_tune_from: str | None = None
    """Name or path of a trained network to start from, of this kind or another one with a backbone."""
    fine_tuning: FineTuning = FineTuning()
    """What is taken from the start, and how fast it changes."""

    @model_validator(mode="after")
    def _there_is_a_start(self) -> FineTunedRecipe:
        given = sorted(self.fine_tuning.model_fields_set)
        if given and self.fine_tune_from is None:
            raise ValueError(
                f"fine_tuning.{given[0]} needs a trained network; name one in `fine_tune_from`, or leave it out"
            )
        return self

    def with_paths(self, change: Callable[[str], str]) -> dict[str, Any]:
        """Also change the path of the network to start from."""
        raw, name = super().with_paths(change), self.fine_tune_from
        if name is not None:
            raw["fine_tune_from"] = self.with_network(name, None, change)
        return raw

    def start(self) -> Path | str:
        """Return the network that `fine_tune_from` names; see `network_named`."""
        return self.network_named(str(self.fine_tune_from), None)

    def same_kind(self, kind: str) -> bool:
        """Whether the start, if there is one, is of a kind and its heads are asked for.

        Raises:
            PotentialFileError: There is no such network, or its header is damaged.
        """
        return (
            self.fine_tune_from is not None
            and self.fine_tuning.heads == "auto"
            and kind_of(find_network(self.start())) == kind
        )


def backbone_of(recipe: FineTunedRecipe, given: BackboneSection | None, section: str) -> TrainedBackbone:
    """Read the backbone to start from, and check that the recipe asks for no other.

    Args:
        recipe: Recipe with `fine_tune_from`.
        given: Backbone in the recipe, or None.
        section: Name of its section, for messages.

    Raises:
        PotentialFileError: There is no such network, it is damaged, or it has no backbone.
        RecipeError: An option of the recipe has another value; the message names it and both values.
    """
    start = TrainedBackbone.read(recipe.start())
    if given is not None:
        options = given.config()
        for key in sorted(options, key=lambda key: key not in ("name", "block")):  # other options depend on these
            found = start.options.get(key, "not an option")
            refuse_other(recipe, f"{section}.backbone.{key}", options[key], found, "a start with it")
    return start


def refuse_other(recipe: FineTunedRecipe, key: str, asked: object, found: object, cure: str) -> None:
    """Refuse a value that the start does not have.

    Args:
        recipe: Recipe with `fine_tune_from`.
        key: Key of the recipe.
        asked: Its value.
        found: Value of the start.
        cure: What may be taken instead.

    Raises:
        RecipeError: They differ.
    """
    if asked != found:
        raise RecipeError(
            f"{recipe.origin}: {key} is {asked}, and {found} in {str(recipe.fine_tune_from)!r}, from which fine_tune_from "
            f"starts; leave {key} out, or take {cure}"
        )


def new_elements(recipe: FineTunedRecipe, known: Iterable[int], needed: Iterable[int], where: str) -> list[int]:
    """Return the elements that the start does not know, sorted.

    Args:
        recipe: Recipe with `fine_tune_from`.
        known: Atomic numbers that the start knows.
        needed: Atomic numbers of the new data.
        where: Name of the new data, for messages.

    Raises:
        DatasetError: There are some, and `fine_tuning.new_elements` is `refuse`.
    """
    known = set(known)
    found = sorted(set(needed) - known)
    if found and recipe.fine_tuning.new_elements == "refuse":
        kind = kind_of(find_network(recipe.start()))
        raise DatasetError(
            f"{where} holds {_symbols(found)}, but the {kind} {str(recipe.fine_tune_from)!r} knows only "
            f"{_symbols(sorted(known))}; set fine_tuning.new_elements: add to begin these elements anew, leave those frames "
            "out, or train a new network"
        )
    return found


def start_notes(recipe: FineTunedRecipe, network: nn.Module, taken: str, fresh: Iterable[int]) -> list[str]:
    """Describe the start of a training in sentences.

    Args:
        recipe: Recipe with `fine_tune_from`.
        network: Network that is trained.
        taken: What was taken, in words.
        fresh: Atomic numbers that were added.
    """
    section, added, kind = recipe.fine_tuning, list(fresh), kind_of(find_network(recipe.start()))
    notes = [f"fine-tuned from {without_folder(str(recipe.fine_tune_from))} ({kind}): {taken}"]
    if added:
        notes.append(f"elements added to the start, with new embeddings: {_symbols(added)}")
    if section.freeze != "none":
        named = list(network.named_parameters())
        frozen = sum(weight.numel() for name, weight in named if is_frozen(name, network, section.freeze))
        notes.append(f"fine_tuning.freeze is {section.freeze}: {frozen} of {sum(p.numel() for _, p in named)} weights stay")
    if section.layer_decay < 1.0:
        notes.append(f"the learning rate falls by {section.layer_decay:g} from a layer to the one below")
    return notes


def start_record(recipe: FineTunedRecipe) -> dict[str, Any]:
    """Return the entry of a record or header about the start; empty where there is none."""
    if recipe.fine_tune_from is None:
        return {}
    header = read_header(find_network(recipe.start()))
    return {
        STARTED: {
            "name": without_folder(recipe.fine_tune_from),
            "kind": header["kind"],
            "sha256": header["sha256"],
        }
    }


def check_start(folder: Path, record: Mapping[str, Any], decided: Mapping[str, Any]) -> None:
    """Refuse to resume a run whose start was replaced; records of earlier versions do not say it.

    Raises:
        TrainingError: It is another network now.
    """
    before, now = record.get(STARTED, {}).get("sha256"), decided.get(STARTED, {}).get("sha256")
    if before and now and before != now:
        raise TrainingError(
            f"{folder}: the network that fine_tune_from names was replaced since this run began ({before[:12]} then, "
            f"{now[:12]} now); put the former back, or start anew with --overwrite"
        )


def _symbols(numbers: Iterable[int]) -> str:
    return " ".join(chemical_symbols[z] for z in numbers)
