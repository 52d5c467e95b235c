"""Building the property network that is trained from a recipe and training frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mlff_calc.errors import RecipeError
from mlff_calc.heads.properties import DistributionHead
from mlff_calc.properties import PropertyNetwork, build_property, standard_of
from mlff_calc.properties.standard import counts_of, size_note
from mlff_calc.training.property.data import LEAST_VALID, Labelled, PropertyFrames, charge_of_all
from mlff_calc.training.property.recipe import AUTO, PropertyRecipe
from mlff_calc.training.recipe_limits import naming


def new_property(recipe: PropertyRecipe, train: Labelled) -> tuple[PropertyNetwork, PropertyFrames]:
    """Build the network that a recipe describes, and the graphs of its training frames.

    Raises:
        RecipeError: An option is out of range; the message names the recipe.
        DatasetError: Labels are constant, or too unevenly spread for the bins.
    """
    section, elements = recipe.property, train.elements()
    if section.backbone is None:
        raise RecipeError(f"{recipe.origin}: property.backbone is missing; give it")
    numbers = [one.atoms.numbers for one in train.samples]
    standard = standard_of(train.labels, numbers, elements, section.pooling, train.where)
    own = {"elements": elements, "name": recipe.data.label, "unit": recipe.data.unit, "charge": charge_of_all(train)}
    config: dict[str, Any] = section.config() | standard | own
    with naming(recipe, "property"):
        cutoff = build_property(config | {"backbone": section.backbone.measured(AUTO)}, seed=recipe.trainer.seed).cutoff
        frames = PropertyFrames(train.samples, cutoff)
        measured = AUTO | {"avg_num_neighbors": round(frames.average_neighbors(), 3)}
        network = build_property(config | {"backbone": section.backbone.measured(measured)}, seed=recipe.trainer.seed)
    if isinstance(network.head, DistributionHead):
        network.head.measure(standard_labels(network, train))
    return network.to_precision(recipe.trainer.precision), frames


def standard_labels(network: PropertyNetwork, part: Labelled) -> torch.Tensor:
    """Labels in the standard units of a network [n_frames]."""
    counts = counts_of([one.atoms.numbers for one in part.samples], network.elements)
    base = counts @ network.references.cpu().numpy() + network.mean
    spread = network.scale * (counts.sum(axis=1) if network.is_total else np.ones(len(part)))
    return torch.from_numpy((part.labels - base) / spread)


def notes_of(network: PropertyNetwork, parts: dict[str, Labelled], pooling: str) -> list[str]:
    """Sentences about the data: what was left out, the size of labels, labels outside of the bins, few validation labels."""
    notes = list(dict.fromkeys(note for one in parts.values() for note in one.notes))
    train = parts["train"]
    notes.append(size_note(train.labels, [one.atoms.numbers for one in train.samples], network.elements, pooling))
    for part, one in parts.items():
        if part != "train":
            notes.append(outside_note(network, one))
    n_valid = len(parts["valid"])
    if n_valid < LEAST_VALID:
        notes.append(
            f"intervals are calibrated on {n_valid} validation labels; 95 % intervals need {LEAST_VALID}, so theirs are "
            "those of the largest error"
        )
    return [note for note in notes if note]


def outside_note(network: PropertyNetwork, part: Labelled) -> str:
    """Describe labels outside of the bins of a distribution; empty where there are none."""
    if not isinstance(network.head, DistributionHead):
        return ""
    outside = network.head.outside(standard_labels(network, part).to(network.head.edges.device))
    if not bool(outside.any()):
        return ""
    first = part.samples[int(outside.nonzero()[0])]
    return (
        f"{int(outside.sum())} of {len(part)} labels of {part.where} ({part.part}) lie outside of the bins, which were laid "
        f"by the training labels, such as {first.value:.6g} of {first.place}; the network cannot predict these"
    )
