"""Checkpoints of earlier versions, as this version writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlff_calc.bounded import shorten
from mlff_calc.errors import TrainingError
from mlff_calc.networks.upgrades import with_heads
from mlff_calc.training.checkpoint_files import CURE
from mlff_calc.training.module import TrainingModule

_OWNER = "potential."


def upgrade(path: Path, last: dict[str, Any], module: TrainingModule) -> bool:
    """Change, in place, what `last.ckpt` holds to what this version writes.

    Until networks named their heads, those of potentials were `head` and `forces_head`. The latter came last, and its
    weights were averaged and given to the optimizer even where forces are a gradient.

    Args:
        path: Path of the file, for messages.
        last: Content of the file, not checked yet.
        module: Module that resumes from the checkpoint.

    Returns:
        Whether anything was changed.

    Raises:
        TrainingError: The file is of an earlier version and lacks something, or is of an earlier fixed point.
    """
    state = last.get("state_dict")
    if not isinstance(state, dict):
        return False
    _refuse_earlier_fixed_point(path, state)
    if f"{_OWNER}head.scale" not in state:
        return False
    direct = f"{_OWNER}heads.direct_forces.scale" in module.state_dict()
    groups = module.configure_optimizers().param_groups
    try:
        weights = with_heads({name.removeprefix(_OWNER): tensor for name, tensor in state.items()}, direct=direct)
        last["state_dict"] = {_OWNER + name: tensor for name, tensor in weights.items()}
        average = last["callbacks"]["AveragedWeights"]
        average["average"] = average["average"][: len(list(module.network.parameters()))]
        optimizer = last["optimizer_states"][0]
        for before, now in zip(optimizer["param_groups"], groups, strict=True):
            before["params"] = before["params"][: len(now["params"])]
        kept = [index for group in optimizer["param_groups"] for index in group["params"]]
        numbers = dict(zip(kept, range(len(kept)), strict=True))
        for group in optimizer["param_groups"]:
            group["params"] = [numbers[index] for index in group["params"]]
        optimizer["state"] = {numbers[index]: kept for index, kept in optimizer["state"].items() if index in numbers}
        best = last["callbacks"]["Checkpoints"].get("best")
        if best is not None:
            best["weights"] = with_heads(best["weights"], direct=direct)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = shorten(f"{type(error).__name__}: {error}", 300)
        raise TrainingError(f"{path}: it is of an earlier version, and lacks something ({reason}); {CURE}") from error
    return True


def _refuse_earlier_fixed_point(path: Path, state: dict[str, Any]) -> None:
    """Refuse a run of a `deq` before it had the option `block`; the order of its weights was another.

    Raises:
        TrainingError: It is one.
    """
    parts = {tuple(str(name).split(".")[1:3]) for name in state}
    if ("backbone", "map") in parts and ("backbone", "stack") not in parts:
        raise TrainingError(
            f"{path}: it is of an earlier version, in which `deq` had no option `block`, and training cannot go on from it; "
            "finish the run with that version (its potential can be read), or start anew with --overwrite, with "
            "`block: equiformer` and `prelude: 0` in the recipe's backbone for the same architecture"
        )
