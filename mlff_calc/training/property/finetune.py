"""Fine-tuning of properties: continuing a property network, or beginning with the backbone of any trained network.

A property network with the same head, pooling and unit is continued as a whole, in its own standard units: scale and bins
stay, and the part that composition tells is fitted to the residual, as reference energies of potentials are. It begins with
the predictions of the start, shifted to the new labels. In all other cases the backbone is taken, and head, bins and
standard units are those of a new network.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlff_calc.heads.base import HEADS
from mlff_calc.heads.properties import DistributionHead
from mlff_calc.networks.trained_backbone import TrainedBackbone
from mlff_calc.properties import PropertyNetwork, build_property, load_property
from mlff_calc.properties.model import PROPERTY
from mlff_calc.properties.standard import base_of, counts_of
from mlff_calc.training.fine_tuning import backbone_of, new_elements, start_notes
from mlff_calc.training.property.build import new_property, standard_labels
from mlff_calc.training.property.calibrate import outputs_of
from mlff_calc.training.property.data import Labelled, PropertyFrames, charge_of_all
from mlff_calc.training.property.recipe import PropertyRecipe
from mlff_calc.training.recipe_backbone import MeasuredBackbone


def property_from(recipe: PropertyRecipe, train: Labelled) -> tuple[PropertyNetwork, PropertyFrames, list[str]]:
    """Build the network to train from its start, and the graphs of its training frames.

    Returns:
        Network, graphs, and notes about the start.

    Raises:
        PotentialFileError: There is no such network, it is damaged, or it has no backbone.
        DatasetError: The data hold elements that the start does not know, and they are not to be added; see also
            `new_property`.
        RecipeError: The recipe asks for another architecture.
    """
    backbone = backbone_of(recipe, recipe.property.backbone, "property")
    fresh = new_elements(recipe, backbone.elements, train.elements(), train.where)
    why = "heads are new"
    if recipe.same_kind(PropertyNetwork.kind):
        start = load_property(recipe.start())
        why = _difference(recipe, start)
        if not why:
            network = _continued(recipe, train, start, backbone, fresh)
            why = _beyond_bins(network, train)
            if not why:
                taken = "the whole network, with its scale and a new shift"
                frames = PropertyFrames(train.samples, network.cutoff)
                return network, frames, start_notes(recipe, network, taken, fresh)
    section = recipe.property.model_copy(update={"backbone": MeasuredBackbone(**backbone.options)})
    network, frames = new_property(recipe.model_copy(update={"property": section}), train)
    backbone.carry_to(network.backbone, network.elements)
    return network, frames, start_notes(recipe, network, f"its backbone alone, since {why}", fresh)


def _difference(recipe: PropertyRecipe, start: PropertyNetwork) -> str:
    """Describe why a property network cannot be continued as a whole; empty where it can."""
    head = HEADS.resolve(recipe.property.head.config())
    for key, value in {"head": head, "pooling": recipe.property.pooling, "unit": recipe.data.unit}.items():
        if start.config[key] != value:
            return f"its {key} is {start.config[key] or 'not named'}, and that of the recipe {value or 'not named'}"
    return ""


def _continued(
    recipe: PropertyRecipe, train: Labelled, start: PropertyNetwork, backbone: TrainedBackbone, fresh: list[int]
) -> PropertyNetwork:
    """Build a network with all weights of its start, perhaps for more elements, shifted to the new labels."""
    elements, pooling = sorted([*start.elements, *fresh]), str(start.config["pooling"])
    config: dict[str, Any] = start.config | {"elements": elements, "name": recipe.data.label, "charge": charge_of_all(train)}
    before = np.array([float(start.config["references"].get(str(z), 0.0)) for z in elements])

    def built(references: Any, mean: float) -> PropertyNetwork:  # noqa: ANN401
        own = {"references": dict(zip(map(str, elements), references.tolist(), strict=True)), "mean": mean}
        network = build_property(config | own, seed=recipe.trainer.seed)
        backbone.carry_to(network.backbone, elements)
        kept = {key: value for key, value in start.state_dict().items() if key.startswith("head.")}
        network.load_state_dict(kept, strict=False)
        return network

    network = built(before, float(start.config["mean"]))
    left = train.labels - outputs_of(network, train.samples)[PROPERTY].double().numpy()
    counts = counts_of([one.atoms.numbers for one in train.samples], elements)
    shift, mean = base_of(left, counts, pooling)
    return built(before + shift, network.mean + mean).to_precision(recipe.trainer.precision)


def _beyond_bins(network: PropertyNetwork, train: Labelled) -> str:
    """Describe training labels outside of the bins of a network to continue; empty where there are none."""
    if not isinstance(network.head, DistributionHead):
        return ""
    outside = int(network.head.outside(standard_labels(network, train)).sum())
    return f"{outside} of {len(train)} training labels lie outside of its bins" if outside else ""
