"""Fine-tuning of potentials: continuing from a trained potential, or from the backbone of any trained network.

A potential is continued with its architecture, scale and weights. Reference energies are fitted again, because the new data
may come from another method, whose total energies differ by thousands of eV. They are fitted to the residual E -
E_start, so that the energies of the start are shifted per element and its learned part is kept. `auto` does this even
if the data hold isolated atoms: the learned part of the start belongs to its own reference energies, which may have
been fitted. Heads of errors are added to a start without them where the recipe has `potential.uncertainty`.

With the backbone alone, heads, scale and reference energies are those of a new potential. Its cutoff and `avg_num_neighbors`
stay, since its weights were trained with them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mlff_calc.errors import PotentialFileError, RecipeError
from mlff_calc.graph.domain import Domain
from mlff_calc.heads import resolve_heads
from mlff_calc.networks.trained_backbone import TrainedBackbone
from mlff_calc.potential import Potential, build_potential, load_potential
from mlff_calc.potential.build import ERROR_HEADS, error_heads
from mlff_calc.training.fine_tuning import backbone_of, new_elements, refuse_other, start_notes
from mlff_calc.training.frames.read import Frames, symbol_number
from mlff_calc.training.layers import ADDED
from mlff_calc.training.potential.build import new_potential
from mlff_calc.training.potential.data import GraphSource, graph_frames
from mlff_calc.training.potential.recipe import PotentialRecipe
from mlff_calc.training.potential.references import given_energies, isolated_references, origin_of, refuse_neighbours
from mlff_calc.training.potential.section import PotentialSection, UncertaintySection
from mlff_calc.training.recipe_backbone import BackboneSection
from mlff_calc.training.recipe_limits import naming

_BATCH = 16  # frames evaluated at once; a larger number takes more memory
_REFERENCES = "reference_energies"
_BACKBONE = "backbone."
_CENTRES = ".distance.centres"  # of heads of errors, a row for each species
_NEW_HEADS = "fine_tuning.heads: new, which takes the backbone alone"


def start_from(recipe: PotentialRecipe, frames: Frames) -> tuple[Potential, GraphSource, list[str]]:
    """Build the potential to train from its start, and the graphs of the training frames.

    Returns:
        Potential, graphs, and notes about the start.

    Raises:
        PotentialFileError: There is no such network, it is damaged, or it has no backbone.
        DatasetError: The data hold elements that the start does not know, and they are not to be added.
        RecipeError: The recipe asks for another architecture, lacks reference energies for some elements, or asks for a
            stress from direct forces.
    """
    backbone = backbone_of(recipe, None if recipe.potential is None else recipe.potential.backbone, "potential")
    needed = frames.elements() | {symbol_number(symbol, recipe) for symbol in recipe.listed_elements()}
    fresh = new_elements(recipe, backbone.elements, needed, frames.where)
    if recipe.continues():
        potential, graphs = _continued(recipe, frames, backbone, fresh)
        taken = "the whole potential, with new reference energies"
    else:
        potential, graphs = _with_new_heads(recipe, frames, backbone)
        taken = "its backbone, with new heads"
    return potential, graphs, start_notes(recipe, potential, taken, fresh)


def _with_new_heads(recipe: PotentialRecipe, frames: Frames, backbone: TrainedBackbone) -> tuple[Potential, GraphSource]:
    """Build a new potential around a trained backbone."""
    known: dict[str, Any] = {"backbone": BackboneSection(**backbone.options)}
    if "avg_num_neighbors" in backbone.options:
        known["avg_num_neighbors"] = backbone.options["avg_num_neighbors"]
        if recipe.potential is not None and recipe.potential.avg_num_neighbors != "auto":
            asked = float(recipe.potential.avg_num_neighbors)
            refuse_other(recipe, "potential.avg_num_neighbors", asked, known["avg_num_neighbors"], "a start with it")
    section = (recipe.potential or PotentialSection()).model_copy(update=known)
    potential, graphs = new_potential(recipe.model_copy(update={"potential": section}), frames)
    backbone.carry_to(potential.backbone, potential.elements)
    return potential, graphs


def _continued(
    recipe: PotentialRecipe, frames: Frames, backbone: TrainedBackbone, fresh: list[int]
) -> tuple[Potential, GraphSource]:
    """Build a potential with all weights of its start, perhaps for more elements, and with new reference energies."""
    name = str(recipe.fine_tune_from)
    start = load_potential(recipe.start())
    _check_section(recipe, start)
    added = _added_heads(recipe, start)
    if start.direct_forces and recipe.loss.stress > 0.0:
        raise RecipeError(
            f"{recipe.origin}: loss.stress is {recipe.loss.stress:g}, but the potential {name!r} has direct forces, which "
            "give no stress; set loss.stress to 0, or start from a potential whose forces are gradients"
        )
    graphs = graph_frames(frames.samples, start.cutoff, frames.weights)
    elements = sorted([*start.elements, *fresh])
    before = {str(z): float(start.config[_REFERENCES].get(str(z), 0.0)) for z in elements}
    config = start.config | {"elements": elements, _REFERENCES: before, "heads": [*start.config["heads"], *added]}
    with naming(recipe, "potential"):
        potential = build_potential(config, seed=recipe.trainer.seed)
    backbone.carry_to(potential.backbone, elements)
    missing, unexpected = potential.load_state_dict(_weights_of_heads(start, elements), strict=False)
    setattr(potential, ADDED, tuple(f"heads.{head['name']}." for head in added))
    new = (_BACKBONE, *getattr(potential, ADDED))
    if unexpected or any(not key.endswith(_REFERENCES) and not key.startswith(new) for key in missing):
        raise RecipeError(f"{recipe.origin}: fine_tune_from: the weights of {name!r} do not fit its configuration")
    energies = _references(recipe, potential, frames, graphs)
    potential.config[_REFERENCES] = {str(z): energies[z] for z in elements}
    head: Any = potential.heads["energy"]
    head.reference_energies.copy_(torch.tensor([energies[z] for z in elements], dtype=torch.float64))
    potential.domain = _domain_to_go_on_from(start, name)
    return potential.to_precision(recipe.trainer.precision), graphs


def _weights_of_heads(start: Potential, elements: list[int]) -> dict[str, torch.Tensor]:
    """Return the weights of a start beside its backbone and reference energies, with rows of species for `elements`."""
    own = {key: value for key, value in start.state_dict().items() if not key.startswith(_BACKBONE)}
    own = {key: value for key, value in own.items() if not key.endswith(_REFERENCES)}
    rows = torch.tensor([elements.index(z) for z in start.elements])
    for key, value in own.items():
        if key.endswith(_CENTRES):
            own[key] = value.new_zeros(len(elements), value.shape[1]).index_copy_(0, rows, value)
    return own


def _added_heads(recipe: PotentialRecipe, start: Potential) -> list[dict[str, Any]]:
    """Return the heads of errors that the recipe asks for and the start lacks.

    Raises:
        RecipeError: The start has such heads with other options, or the recipe asks for none.
    """
    section = recipe.potential
    if section is None or "uncertainty" not in section.model_fields_set:
        return []
    asked = section.config()["uncertainty"]
    for head in start.config["heads"]:
        if head["name"] in ERROR_HEADS:
            found = {key: head[key] for key in UncertaintySection.model_fields}
            refuse_other(recipe, "potential.uncertainty", asked, found, _NEW_HEADS)
    if asked is None or start.error_heads:
        return []
    scale = next(head["scale"] for head in start.config["heads"] if head["name"] == "energy")
    return error_heads(asked, scale)


def _check_section(recipe: PotentialRecipe, start: Potential) -> None:
    """Refuse heads in the recipe that a potential to continue does not have."""
    section = recipe.potential
    if section is None:
        return
    heads = {head["name"]: head for head in start.config["heads"]}
    given = section.model_fields_set
    if "forces" in given:
        found = "direct" if start.direct_forces else "gradient"
        refuse_other(recipe, "potential.forces", section.forces, found, _NEW_HEADS)
    if "repulsion" in given:
        repulsion = section.config()["repulsion"]
        asked = None if repulsion is None else resolve_heads([repulsion])[0]
        refuse_other(recipe, "potential.repulsion", asked, heads.get("zbl"), _NEW_HEADS)
    if "fields" in given:
        fields = section.config()["fields"]
        asked = None if fields is None else resolve_heads([{"name": "fields", **fields}])[0]
        known = heads.get("fields")
        if asked is not None and known is not None:
            asked["scale"] = known["scale"]
        refuse_other(recipe, "potential.fields", asked, known, _NEW_HEADS)
    if not isinstance(section.scale, str):
        refuse_other(recipe, "potential.scale", float(section.scale), heads["energy"]["scale"], _NEW_HEADS)
    if not isinstance(section.avg_num_neighbors, str):
        mean = start.config["backbone"].get("avg_num_neighbors")
        refuse_other(recipe, "potential.avg_num_neighbors", float(section.avg_num_neighbors), mean, "another start")


def _domain_to_go_on_from(start: Potential, name: str) -> dict[str, Any] | None:
    """Return the domain of the start, which the run unites with that of the new frames; checked before training."""
    if start.domain is not None and Domain(start.domain).cutoff != start.cutoff:
        raise PotentialFileError(
            f"the domain of {name!r} is of cutoff {start.domain['cutoff']} Angstrom, and its cutoff is {start.cutoff:g} "
            "Angstrom; copy its folder again"
        )
    return start.domain


def _references(recipe: PotentialRecipe, start: Potential, frames: Frames, graphs: GraphSource) -> dict[int, float]:
    """Reference energies as the recipe says; elements without isolated atoms among the new frames keep theirs."""
    before = {z: float(start.config[_REFERENCES][str(z)]) for z in start.elements}
    if recipe.fine_tuning.freeze == "start":
        return before
    origin = origin_of(recipe, frames)
    if origin == "given in the recipe":
        return given_energies(recipe, start.elements)
    if origin == "from isolated atoms":
        refuse_neighbours(frames.isolated, start.cutoff)
        return before | isolated_references(recipe, frames, sorted(frames.elements()))
    return _shifted_references(before, start, graphs)


def _shifted_references(before: dict[int, float], start: Potential, graphs: GraphSource) -> dict[int, float]:
    """Fit reference energies to the residual of the training energies."""
    rows, left_over = [], []
    start.eval()
    for first in range(0, len(graphs), _BATCH):
        batch = graphs.batch(list(range(first, min(first + _BATCH, len(graphs)))))
        predicted = start(batch.graph)["energy"].detach()
        left_over.append((batch.labels["energy"] - predicted).numpy())
        counts = torch.zeros(len(batch.frames), len(start.elements), dtype=torch.float64)
        for column, z in enumerate(start.elements):
            is_z = (batch.graph["atomic_numbers"] == z).double()
            counts[:, column] = torch.zeros(len(batch.frames)).double().index_add(0, batch.graph["system_index"], is_z)
        rows.append(counts.numpy())
    target, matrix = np.concatenate(left_over), np.concatenate(rows)
    present = np.isfinite(target)
    if not present.any():
        return before
    shift = np.linalg.lstsq(matrix[present], target[present], rcond=None)[0]
    return {z: before[z] + float(shift[column]) for column, z in enumerate(start.elements)}
