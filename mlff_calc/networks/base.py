"""The base class of all networks that are trained and kept in folders."""

import copy
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn

from mlff_calc.errors import OptionError
from mlff_calc.networks.files import checksum, save_network


class Network(nn.Module):
    """A network of some kind, built from a plain dict.

    Attributes:
        kind: Name of the kind, also the `kind` in the header of its files.
        units: Units of the network's numbers, by quantity.
        use: Hint for a reader who expected another kind: what loads this kind, and what it predicts.
        precisions: Names of the precisions that the network can be computed in.
        config: Plain dict that the network was built from, with every default written out.
        precision: Name of its present precision.
        domain: Plain dict of the range of the training data; None where it was not measured.
    """

    kind: ClassVar[str]
    units: ClassVar[dict[str, str]]
    use: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]] = ("float32", "float64")

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = copy.deepcopy(config)
        self.precision = "float32"
        self.domain: dict[str, Any] | None = None

    @classmethod
    def seeded(cls, config: dict[str, Any], seed: int | None) -> Self:
        """Make a network with new weights; with a seed, torch's generator stays as it is.

        Args:
            config: Whole configuration.
            seed: Seed of the weights; None takes them from the present state of torch's generator, and moves it on.
        """
        if seed is None:
            return cls(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)

    def to_precision(self, precision: str) -> Self:
        """Return a copy in one of `precisions`; weights are float64 in `float64` and float32 in all others.

        Raises:
            OptionError: The precision is unknown.
        """
        if precision not in self.precisions:
            raise OptionError(
                f"unknown precision {precision!r} of a {self.kind}; choose one of {', '.join(self.precisions)}"
            )
        other = copy.deepcopy(self)
        other.precision = precision
        dtype = torch.float64 if precision == "float64" else torch.float32
        for parameter in other.parameters():
            parameter.data = parameter.data.to(dtype)
        return other

    @property
    def sha256(self) -> str:
        """SHA-256 of the present weights and of the entries that give them meaning, as written by `save`."""
        meaning = {"config": self.config, "units": self.units} | ({} if self.domain is None else {"domain": self.domain})
        return checksum(self.state_dict(), meaning)

    def save(self, folder: str | Path, **options: Any) -> Path:  # noqa: ANN401
        """Write the network to `folder`; see `networks.files.save_network` for the options and errors."""
        return save_network(self, folder, **options)
