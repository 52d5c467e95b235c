"""Checkpoints as files: written whole, with a checksum of every byte, and read without unpickling code.

A checkpoint is what `torch.save` writes. The SHA-256 of that stands in the comment at the end of the archive, so that it is
in place at the same moment as the file itself, and that any program which reads the format reads the file.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlff_calc.bounded import require_regular, shorten
from mlff_calc.errors import TrainingError
from mlff_calc.whole_files import write_whole

MOST_BYTES = 64 << 30
_SIGN = b"mlff_calc checkpoint, sha256 "
_COMMENT = len(_SIGN) + 64
_END = b"PK\x05\x06"
CURE = "put back a copy of it, or start anew with --overwrite"


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values whole or not at all; read them with `load_tensors`."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    written = buffer.getvalue()
    comment = _SIGN + hashlib.sha256(written).hexdigest().encode()
    write_whole(path, written[:-2] + struct.pack("<H", _COMMENT) + comment)


def load_tensors(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Tensors and plain values of a checkpoint.

    Args:
        path: The file. Those of versions that wrote no checksum are read as well.
        map_location: Where tensors go.

    Raises:
        TrainingError: There is no such file, it is no checkpoint, or it was cut or changed.
    """
    file = require_regular(path, TrainingError, MOST_BYTES)
    try:
        content = file.read_bytes()
        _check(content)
        found = torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)
        if not isinstance(found, dict):
            raise ValueError(f"it holds {type(found).__name__}")
        return found
    except Exception as error:  # what unpickling a damaged file raises is of every kind
        reason = shorten(f"{type(error).__name__}: {str(error).split('. ')[0]}", 300)
        raise TrainingError(f"{path}: cannot be read as a checkpoint ({reason}); {CURE}") from error


def _check(content: bytes) -> None:
    """Hold a file against its checksum and against its own list of members, before anything is taken from it.

    Raises:
        ValueError: It was cut or changed, or its members are packed, as torch never does.
    """
    body, comment = content[:-_COMMENT], content[-_COMMENT:]
    if comment.startswith(_SIGN):
        whole = body[:-2] + b"\0\0"
        if body[-22:-18] != _END or body[-2:] != struct.pack("<H", _COMMENT):
            raise ValueError("it was changed after it was written")
        if hashlib.sha256(whole).hexdigest().encode() != comment[len(_SIGN) :]:
            raise ValueError("it does not match its checksum: it was changed after it was written")
    elif content[-22:-18] != _END or content[-2:] != b"\0\0":
        raise ValueError("it is cut short, or no checkpoint at all")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
    if any(one.compress_type != zipfile.ZIP_STORED for one in members) or sum(m.file_size for m in members) > len(content):
        raise ValueError("its members are packed or overlap")


def check_last(path: Path, last: dict[str, Any], module: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
    """Hold what `last.ckpt` holds against what a run writes.

    Args:
        path: The file, for messages.
        last: Its content.
        module: Tensors by name of the module that is to go on.
        parameters: Of the network in it, by name.

    Raises:
        TrainingError: Something is not there or of another kind; names it.
    """
    place = _Place(path)
    for key in ("epoch", "global_step"):
        place.count(last, key)
    place.weights(last, "state_dict", module)
    place.mapping(place.mapping(last, "loops"), "fit_loop")  # Lightning passes over what is not there
    optimizers = last.get("optimizer_states")
    if not isinstance(optimizers, list) or len(optimizers) != 1 or not isinstance(optimizers[0], dict):
        raise place.error("optimizer_states", optimizers)
    if not place.mapping(optimizers[0], "state") and last["global_step"] > 0:
        raise place.error("optimizer_states", optimizers[0])
    callbacks = place.mapping(last, "callbacks")
    average = place.mapping(callbacks, "AveragedWeights")
    place.count(average, "updates")
    averaged = average.get("average")
    if averaged != [] and not (
        isinstance(averaged, list)
        and len(averaged) == len(parameters)
        and all(getattr(one, "shape", None) == p.shape for one, p in zip(averaged, parameters.values(), strict=True))
    ):
        raise place.error("average", averaged)
    used = place.mapping(callbacks, "BudgetKeeper")
    for name in ("seconds", "cpu_seconds"):
        if name == "seconds" or name in used:  # older checkpoints count seconds alone
            place.number(used, name)
    kept = place.mapping(callbacks, "Checkpoints")
    place.count(kept, "stale")
    place.count(kept, "best_epoch", least=-1)
    place.number(kept, "best_loss", any_=True)
    if not isinstance(kept.get("ended", False), bool):
        raise place.error("ended", kept["ended"])
    random = place.mapping(last, "random").get("cpu")
    like = torch.get_rng_state()
    if not isinstance(random, Tensor) or random.dtype != like.dtype or random.shape != like.shape:
        raise place.error("random.cpu", random)


def check_constants(path: Path, state: Mapping[str, Any], module: nn.Module) -> None:
    """Hold constants that follow from the training data against those of the run, which a network that goes on keeps.

    Args:
        path: The file, for messages.
        state: What it holds under `state_dict`, held by `check_last`.
        module: The module that is to go on, as it was built from the data.

    Raises:
        TrainingError: A scale differs by more than 1e-5 of itself, or a reference energy, which is fitted, by 1e-3 eV: the
            data are read in another way than when the run began.
    """
    for name, constant in module.named_buffers():
        slack = 1e-3 if name.endswith("reference_energies") else 0.0
        if name in state and not torch.allclose(constant.cpu(), state[name].cpu(), rtol=1e-5, atol=slack):
            before, now = (shorten([round(v, 6) for v in one.flatten().tolist()]) for one in (state[name], constant))
            raise TrainingError(
                f"{path}: {name} of the run is {before}, and from the data as they are read now it would be {now}; "
                "correct data.units (the unit of forces), reference_energies or the choice of frames so that the run goes "
                "on as it began, or start anew with --overwrite"
            )


def check_best(path: Path, best: Any, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that `best.ckpt` holds, held against those of the network.

    Args:
        path: The file they come from, for messages.
        best: Its content.
        parameters: Of the network, by name.

    Raises:
        TrainingError: They are not there, are of another network, or are not finite.
    """
    place = _Place(path)
    if not isinstance(best, dict):
        raise place.error("best", best)
    place.count(best, "epoch")
    place.number(best, "loss", any_=True)
    return place.weights(best, "weights", parameters)


def check_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    """Hold the state that an optimizer was given against its parameters and its own defaults.

    Raises:
        TrainingError: A tensor of another shape, or another setting.
    """
    place = _Place(path)
    for group in optimizer.param_groups:
        for key, default in optimizer.defaults.items():
            if key not in ("lr", "weight_decay") and (type(group[key]) is not type(default) or group[key] != default):
                raise place.error(f"optimizer {key}", group[key])
        place.number(group, "weight_decay")
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            shape = torch.Size([]) if key == "step" else parameter.shape
            if not isinstance(value, Tensor) or value.shape != shape:
                raise place.error(f"optimizer {key}", value)


class _Place:
    """A checkpoint that is looked through, and the words for what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def error(self, key: str, value: object) -> TrainingError:
        """The error for an entry."""
        found = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else shorten(value)
        return TrainingError(f"{self.path}: its {key} is {found}, which no checkpoint of this run has; {CURE}")

    def mapping(self, owner: Mapping[str, Any], key: str) -> dict[str, Any]:
        """An entry that is to be a mapping."""
        value = owner.get(key)
        if not isinstance(value, dict):
            raise self.error(key, value)
        return value

    def count(self, owner: Mapping[str, Any], key: str, least: int = 0) -> None:
        """An entry that is to be a whole number."""
        value = owner.get(key)
        if type(value) is not int or not least <= value < 1 << 48:
            raise self.error(key, value)

    def number(self, owner: Mapping[str, Any], key: str, *, any_: bool = False) -> None:
        """An entry that is to be a number: finite and not negative, or any."""
        value = owner.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not (any_ or 0.0 <= value < float("inf")):
            raise self.error(key, value)

    def weights(self, owner: Mapping[str, Any], key: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """An entry that is to hold the tensors of a network, finite."""
        found = self.mapping(owner, key)
        odd = sorted(map(str, found.keys() ^ like.keys()))
        if odd:
            raise TrainingError(
                f"{self.path}: its {key} are of another network ({shorten(odd[0])} is on one side only); {CURE}"
            )
        for name, own in like.items():
            tensor = found[name]
            if not isinstance(tensor, Tensor) or tensor.shape != own.shape or tensor.dtype != own.dtype:
                raise self.error(f"{key}.{name}", tensor)
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise TrainingError(f"{self.path}: its {key}.{name} holds values that are not finite; {CURE}")
        return found


def exists(path: Path) -> bool:
    """Whether anything stands under a path, be it a file, a folder or a link to nowhere."""
    return os.path.lexists(path)
