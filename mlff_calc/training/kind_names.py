"""The table of trainable kinds: their names and the classes of their tasks.

Packages add kinds by entry points of the group `mlff_calc.kinds`: name of the kind = module:class of its `Task`.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from importlib.metadata import entry_points

logger = logging.getLogger(__name__)

GROUP = "mlff_calc.kinds"
DEFAULT = "potential"
"""Kind of a recipe without a section of its own, such as one that fine-tunes a potential."""
_OF_RECIPES = {"card", "checkpoints", "data", "fine_tune_from", "fine_tuning", "loss", "optimizer", "output", "trainer"}
_OF_THE_MODULE = {
    "allow_zero_length_dataloader_with_multiple_devices", "errors", "example", "finite", "kind", "loss_sum", "normalization",
    "objective", "optimizer_section", "prepare_data_per_node", "seed", "steps_in_epoch", "train_loss", "training",
    "valid_loss", "validated_epoch",
}  # fmt: skip
RESERVED = frozenset(_OF_RECIPES | _OF_THE_MODULE)
"""Sections of every recipe, folders of every run and attributes of the training module, which no kind can be called."""
KINDS = {
    "potential": "mlff_calc.training.potential:PotentialTask",
    "propagator": "mlff_calc.training.propagator.task:PropagatorTask",
    "rollout": "mlff_calc.training.rollout.task:RolloutTask",
    "score": "mlff_calc.training.score.task:ScoreTask",
    "hamiltonian": "mlff_calc.training.hamiltonian.task:HamiltonianTask",
    "functional": "mlff_calc.training.functional.task:FunctionalTask",
    "property": "mlff_calc.training.property.task:PropertyTask",
    "pretraining": "mlff_calc.training.pretraining.task:PretrainingTask",
}


@lru_cache(maxsize=1)
def table() -> dict[str, str]:
    """Module and class of each kind's task. Kinds of other packages cannot replace those of this one."""
    found = dict(KINDS)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if entry.name in found or entry.name in RESERVED or not re.fullmatch(r"[a-z][a-z0-9_]*", entry.name):
            logger.warning("the kind %r of %s is ignored, since its name is taken or not allowed", entry.name, entry.value)
        else:
            found[entry.name] = entry.value
    return found


def kinds() -> list[str]:
    """Names of all kinds."""
    return list(table())
