"""Loading a network of any kind from its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from mlff_calc.errors import PotentialFileError, RecipeError
from mlff_calc.networks.base import Network
from mlff_calc.networks.catalogue import find_network
from mlff_calc.networks.files import WEIGHTS, read_weights
from mlff_calc.networks.room import Room

N = TypeVar("N", bound=Network)

_NO_NETWORK = (
    RecipeError, RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, MemoryError,
    AssertionError,
)  # fmt: skip
"""Errors that building a network may raise where its configuration is invalid or does not fit the tensors."""


def load_network(name_or_path: str | Path, kind: str, build: Callable[..., N]) -> N:
    """Load a network by the name it ships under or by the path of its folder, in float32 and evaluation mode.

    Args:
        name_or_path: Name of a shipped network, or path of a folder.
        kind: Kind that the folder must hold.
        build: Function that builds a network with new weights, called as `build(config, seed=0)` with the header's `config`.

    Raises:
        PotentialFileError: It is not a folder of this kind, is truncated or newer than this package, or was changed
            after it was written.
    """
    folder = find_network(name_or_path, kind)
    header, tensors = read_weights(folder, kind)
    try:
        with Room(tensors):
            network = build(header["config"], seed=0)
        load_tensors(network, tensors)
    except _NO_NETWORK as error:
        raise PotentialFileError(f"{folder / WEIGHTS} does not fit the network its header describes: {error}") from error
    network.domain = header.get("domain")
    return network.eval()


def load_tensors(network: torch.nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load the tensors of a file into a network.

    Args:
        network: Network as built from the file's configuration.
        tensors: Tensors by name.

    Raises:
        ValueError: A tensor has another dtype than in the network, which torch would convert silently. Only float64, as
            written by training in that precision, is accepted and rounded to float32.
        RuntimeError: Names or shapes differ from those of the network.
    """
    floats = {torch.float32, torch.float64}
    for name, own in network.state_dict().items():
        if name in tensors and tensors[name].dtype != own.dtype and not {tensors[name].dtype, own.dtype} <= floats:
            raise ValueError(f"{name} is {tensors[name].dtype} in the file and {own.dtype} in the network")
    network.load_state_dict(tensors)
