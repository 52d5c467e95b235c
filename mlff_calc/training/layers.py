"""Layers of a network from the heads downward: which of its weights are frozen, and the learning rate of each.

With the backbone's layers numbered from 1 (lowest) to L, embeddings have depth 0, and a weight of depth d is stepped with
the rate r * layer_decay^(L + 1 - d); heads have depth L + 1. Source: Howard and Ruder, "Universal language model
fine-tuning for text classification" (2018), Sec. 3.2.
"""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from mlff_calc.backbones.base import Backbone
from mlff_calc.errors import RecipeError
from mlff_calc.training.recipe_base import TrainingRecipe

FACTOR = "factor"
"""Entry of a group of parameters: its learning rate as a share of that of the schedule."""
ADDED = "added"
"""Attribute of a network that is continued: how names of parameters begin that its start did not have."""
_PREFIX = "backbone."


def depth_of(name: str, network: nn.Module) -> int:
    """Depth of a parameter: 0 for embeddings, 1 to L for layers of the backbone, L + 1 for heads.

    Args:
        name: Name of the parameter in the network.
        network: Network with a `backbone`, or one without, all of whose parameters have the same depth.
    """
    backbone = getattr(network, "backbone", None)
    if not isinstance(backbone, Backbone):
        return 0
    return backbone.layer_of(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else backbone.n_levels + 1


def is_frozen(name: str, network: nn.Module, freeze: str | int) -> bool:
    """Whether a parameter stays as it is.

    Args:
        name: Name of the parameter in the network.
        network: Network with a `backbone`.
        freeze: `none`, `backbone`, a number of lowest layers, or `start`: all but the heads that were added to the start,
            whose names begin as `network.added` says; without it, all heads are new.
    """
    if freeze == "start" and hasattr(network, ADDED):
        return not any(name.startswith(one) for one in getattr(network, ADDED))
    if freeze == "none" or not name.startswith(_PREFIX):
        return False
    return freeze in ("backbone", "start") or depth_of(name, network) <= int(freeze)


def freeze_weights(network: nn.Module, recipe: TrainingRecipe) -> None:
    """Freeze the weights that a recipe's `fine_tuning` asks for, in place.

    Raises:
        RecipeError: There are fewer layers than are to be frozen, or nothing is left to train.
    """
    section = getattr(recipe, "fine_tuning", None)
    if section is None or section.freeze == "none":
        return
    levels = cast(Backbone, network.backbone).n_levels
    if isinstance(section.freeze, int) and section.freeze > levels:
        raise RecipeError(
            f"{recipe.origin}: fine_tuning.freeze is {section.freeze}, but the backbone has {levels} layers; give at most "
            f"{levels}, or backbone"
        )
    for name, parameter in network.named_parameters():
        if is_frozen(name, network, section.freeze):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise RecipeError(
            f"{recipe.origin}: fine_tuning.freeze is {section.freeze}, and nothing is left to train; add heads that the "
            "start lacks, such as potential.uncertainty, or freeze less"
        )


def groups_by_layer(
    named: list[tuple[str, nn.Parameter]], decayed: set[str], network: nn.Module, recipe: TrainingRecipe
) -> list[dict[str, Any]]:
    """Groups of parameters for an optimizer: with and without weight decay and, with `layer_decay`, for each layer.

    Args:
        named: Parameters that are stepped.
        decayed: Names of those that decay.
        network: Network that holds them.
        recipe: Recipe with `optimizer` and perhaps `fine_tuning`.
    """
    section = getattr(recipe, "fine_tuning", None)
    decay, rate = 1.0 if section is None else float(section.layer_decay), recipe.optimizer.learning_rate
    depths = {name: 0 if decay == 1.0 else depth_of(name, network) for name, _ in named}
    top = max((depths[name] for name in depths), default=0)
    groups = []
    for depth in range(top, -1, -1):
        factor = decay ** (top - depth)
        for weight_decay, decays in ((recipe.optimizer.weight_decay, True), (0.0, False)):
            own = [p for name, p in named if depths[name] == depth and (name in decayed) == decays]
            groups.append({"params": own, "weight_decay": weight_decay, "lr": rate * factor, FACTOR: factor})
    return [group for group in groups if group["params"]]
