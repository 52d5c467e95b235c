"""Checkpoint files, which are written atomically, carry a checksum of every byte, and are read without unpickling code.

A checkpoint is a file of `torch.save`. Its SHA-256 is stored in the comment at the end of the archive, so that it
appears together with the file, and any program that reads the format can still read the file.
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

MOST_BYTES = 64 << 30  # largest size of a checkpoint; a larger one accepts files that take more memory
_SIGN = b"mlff_calc checkpoint, sha256 "
_COMMENT = len(_SIGN) + 64  # length of the comment of the archive: the sign and a SHA-256 in hexadecimal digits
_END = b"PK\x05\x06"
CURE = "put back a copy of it, or start anew with --overwrite"


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values atomically; `load_tensors` reads them."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    written = buffer.getvalue()
    comment = _SIGN + hashlib.sha256(written).hexdigest().encode()
    write_whole(path, written[:-2] + struct.pack("<H", _COMMENT) + comment)


def load_tensors(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read the tensors and plain values of a checkpoint.

    Args:
        path: Checkpoint file. Files of versions that wrote no checksum are accepted.
        map_location: Device of the tensors.

    Raises:
        TrainingError: The file is missing, not a checkpoint, truncated or changed.
    """
    file = require_regular(path, TrainingError, MOST_BYTES)
    try:
        content = file.read_bytes()
        _check(content)
        found = torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)
        if not isinstance(found, dict):
            raise ValueError(f"it holds {type(found).__name__}")
        return found
    except Exception as error:  # a damaged file may raise any error
        reason = shorten(f"{type(error).__name__}: {str(error).split('. ')[0]}", 300)
        raise TrainingError(f"{path}: cannot be read as a checkpoint ({reason}); {CURE}") from error


def _check(content: bytes) -> None:
    """Verify a file's checksum and its list of members before anything is read from it.

    Raises:
        ValueError: The file was truncated or changed, or its members are compressed, which torch never does.
    """
    body, comment = content[:-_COMMENT], content[-_COMMENT:]
    if comment.startswith(_SIGN):
        whole = body[:-2] + b"\0\0"
        if body[-22:-18] != _END or body[-2:] != struct.pack("<H", _COMMENT):
            raise ValueError("it was changed after it was written")
        if hashlib.sha256(whole).hexdigest().encode() != comment[len(_SIGN) :]:
            raise ValueError("it does not match its checksum: it was changed after it was written")
    elif content[-22:-18] != _END or content[-2:] != b"\0\0":
        raise ValueError("it is truncated, or not a checkpoint")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
    if any(one.compress_type != zipfile.ZIP_STORED for one in members) or sum(m.file_size for m in members) > len(content):
        raise ValueError("its members are compressed or overlap")


def check_last(path: Path, last: dict[str, Any], module: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
    """Check that `last.ckpt` has the entries that a run writes.

    Args:
        path: File, for messages.
        last: Content of the file.
        module: Tensors, by name, of the module that is to continue.
        parameters: Parameters of the module's network, by name.

    Raises:
            TrainingError: An entry is missing or invalid; the message names it.
    """
    place = _Place(path)
    for key in ("epoch", "global_step"):
        place.count(last, key)
    place.weights(last, "state_dict", module)
    place.mapping(place.mapping(last, "loops"), "fit_loop")  # Lightning ignores missing entries
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
        if name == "seconds" or name in used:  # older checkpoints lack cpu_seconds
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
    """Check that constants derived from the training data are those of the run, since a resumed network keeps them.

    Args:
        path: File, for messages.
        state: Its entry `state_dict`, already checked by `check_last`.
        module: Module that is to continue, as built from the data.

    Raises:
        TrainingError: A scale differs by more than 1e-5 of its value, or a reference energy, which is fitted, by more
            than 1e-3 eV: the data are now read differently.
    """
    for name, constant in module.named_buffers():
        slack = 1e-3 if name.endswith("reference_energies") else 0.0
        if name in state and not torch.allclose(constant.cpu(), state[name].cpu(), rtol=1e-5, atol=slack):
            before, now = (shorten([round(v, 6) for v in one.flatten().tolist()]) for one in (state[name], constant))
            raise TrainingError(
                f"{path}: {name} of the run is {before}, but the data as read now would give {now}; correct data.units "
                "(the unit of forces), reference_energies or the choice of frames so that the run continues as begun, "
                "or start anew with --overwrite"
            )


def check_best(path: Path, best: Any, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights in `best.ckpt` after checking them against the network.

    Args:
        path: File, for messages.
        best: Content of the file.
        parameters: Parameters of the network, by name.

    Raises:
        TrainingError: The weights are missing, of another network, or not finite.
    """
    place = _Place(path)
    if not isinstance(best, dict):
        raise place.error("best", best)
    place.count(best, "epoch")
    place.number(best, "loss", any_=True)
    return place.weights(best, "weights", parameters)


def check_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    """Check the restored state of an optimizer against its parameters and defaults.

    Raises:
        TrainingError: A tensor has another shape, or a setting differs.
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
    """Checks of a checkpoint's entries, with the errors that name them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def error(self, key: str, value: object) -> TrainingError:
        """Create the error for an invalid entry."""
        found = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else shorten(value)
        return TrainingError(f"{self.path}: its {key} is {found}, which no checkpoint of this run has; {CURE}")

    def mapping(self, owner: Mapping[str, Any], key: str) -> dict[str, Any]:
        """Return an entry after checking that it is a mapping."""
        value = owner.get(key)
        if not isinstance(value, dict):
            raise self.error(key, value)
        return value

    def count(self, owner: Mapping[str, Any], key: str, least: int = 0) -> None:
        """Check that an entry is a whole number."""
        value = owner.get(key)
        if type(value) is not int or not least <= value < 1 << 48:
            raise self.error(key, value)

    def number(self, owner: Mapping[str, Any], key: str, *, any_: bool = False) -> None:
        """Check that an entry is a number: finite and not negative, or any number."""
        value = owner.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not (any_ or 0.0 <= value < float("inf")):
            raise self.error(key, value)

    def weights(self, owner: Mapping[str, Any], key: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return an entry after checking that it holds the finite tensors of a network."""
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
    """Whether a path exists, be it a file, a folder or a dangling link."""
    return os.path.lexists(path)
