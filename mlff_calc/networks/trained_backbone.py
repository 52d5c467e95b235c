"""The backbone of a trained network of any kind, and its weights in a backbone for other elements.

A backbone has one row of some parameters for each element, such as an embedding. Rows go to the rows of the same element;
elements that the trained one does not know keep the new rows that they have. A network that tells several classes of atoms
of one element apart has a row for each class, and their mean is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from mlff_calc.backbones import build_backbone, resolve_backbone
from mlff_calc.backbones.base import Backbone
from mlff_calc.errors import PotentialFileError
from mlff_calc.networks.catalogue import find_network
from mlff_calc.networks.files import Header, read_header, read_weights
from mlff_calc.networks.topology import Topology

_PREFIX = "backbone."


@dataclass(frozen=True, eq=False)
class TrainedBackbone:
    """A trained backbone.

    Attributes:
        name: Name or path of the network, for messages.
        kind: Kind of the network.
        sha256: Checksum of the network.
        options: Name and all options of the backbone.
        rows: Atomic number of each species, several times where a network tells atoms of one element apart.
        tensors: Weights by their names in the backbone.
    """

    name: str
    kind: str
    sha256: str
    options: dict[str, Any]
    rows: tuple[int, ...]
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, name_or_path: str | Path) -> Self:
        """Read the backbone of a network by the name it ships under or by the path of its folder.

        Raises:
            PotentialFileError: There is no such network, it is damaged, or it has no backbone that knows elements.
        """
        folder = find_network(name_or_path)
        header, tensors = read_weights(folder, str(read_header(folder)["kind"]))
        own = {name.removeprefix(_PREFIX): value for name, value in tensors.items() if name.startswith(_PREFIX)}
        kind, rows = str(header["kind"]), _rows(header)
        if not (own and rows and header["config"].get("backbone")):
            raise PotentialFileError(
                f"{folder} holds a {kind}, which has no backbone that knows elements; start from a potential, a property, a "
                "score or a pretraining"
            )
        return cls(str(name_or_path), kind, header["sha256"], resolve_backbone(header["config"]["backbone"]), rows, own)

    @property
    def elements(self) -> list[int]:
        """Atomic numbers that it knows, sorted."""
        return sorted(set(self.rows))

    @torch.no_grad()
    def carry_to(self, backbone: Backbone, elements: Sequence[int]) -> None:
        """Copy the weights into a backbone with the same options, in place.

        Args:
            backbone: Backbone of any precision.
            elements: Atomic numbers of its species, in their order; rows of those that are not known stay as they are.

        Raises:
            PotentialFileError: Names or sizes of the weights differ.
        """
        own, axes = backbone.state_dict(), species_axes(self.options)
        if own.keys() != self.tensors.keys():
            odd = sorted(own.keys() ^ self.tensors.keys())[0]
            raise PotentialFileError(
                f"{self.name}: its backbone has other weights than its options say ({odd}); copy it again"
            )
        for name, mine in own.items():
            given = self.tensors[name].to(mine.device)
            if name not in axes:
                mine.copy_(self._fitting(name, given, mine))
                continue
            axis = axes[name]
            for place, element in enumerate(elements):
                which = [row for row, z in enumerate(self.rows) if z == element]
                if which:
                    mean = given.index_select(axis, torch.tensor(which, device=given.device)).mean(dim=axis)
                    mine.select(axis, place).copy_(self._fitting(name, mean, mine.select(axis, place)))

    def _fitting(self, name: str, given: Tensor, mine: Tensor) -> Tensor:
        if given.shape != mine.shape:
            raise PotentialFileError(
                f"{self.name}: {name} of its backbone is {list(given.shape)}, and its options say {list(mine.shape)}; copy "
                "it again"
            )
        return given


def _rows(header: Header) -> tuple[int, ...]:
    """Atomic numbers of the species of a network; empty where they are no elements."""
    config = header["config"]
    if "elements" in config:
        return tuple(int(z) for z in config["elements"])
    if "numbers" not in config or "bonds" not in config:
        return ()
    topology = Topology.of_config(config)
    element_of = dict(zip(topology.classes.tolist(), topology.numbers, strict=True))
    return tuple(element_of[one] for one in sorted(element_of))


def species_axes(options: dict[str, Any]) -> dict[str, int]:
    """Return the axis of each weight of a backbone that counts species, by name.

    Args:
        options: Name and options of the backbone.
    """
    with torch.random.fork_rng(devices=[]):
        few, more = (build_backbone(options, n_species=n).state_dict() for n in (2, 3))
    return {
        name: next(axis for axis in range(one.ndim) if one.shape[axis] != more[name].shape[axis])
        for name, one in few.items()
        if one.shape != more[name].shape
    }
