"""Heads that predict how large the errors of a potential are: of its energy per atom, and of the force on each atom.

A potential gives one energy, and its forces are the gradient of that number. These heads leave both alone: from the same
scalars they predict a distribution over bins of

    t = log10(|error| / scale),

where the error is the training label minus the present prediction, in eV per atom or in eV/Angstrom. Errors shrink a
hundredfold in a training; in the logarithm one set of bins, laid before the first step, suits all of them, and the width of
a bin is a ratio. (A histogram of the label itself can tell no error smaller than its bins.) The standard deviation is

    std = factor * scale * GAUSS * 10^(mean of t) * sqrt(1 + d^2)

GAUSS makes this the deviation of a normal distribution of errors; a mean of logarithms, unlike one of squares, does not
hang on the last bins. `factor` is fitted on validation frames, since errors on training frames are smaller. A histogram of
training errors cannot predict a larger error than these had. d is the distance of an atom's scalars from those of training
atoms (nn/distance.py), about 1 there; in linear regression, too, the variance of a prediction grows with its square.

Energies: the std of a structure is that of an atom times the number of atoms, so that n copies of a structure have n times
its std. Errors of independent parts would grow with the root of their number; those of copies are equal.

Source: Imani and White, "Improving regression performance with distributional losses" (2018), for the soft targets.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from mlff_calc.graph.keys import DOUBLE, declare
from mlff_calc.heads.base import Features, register_head
from mlff_calc.heads.histograms import AtomScalars, HistogramHead, PooledScalars
from mlff_calc.nn.distance import FeatureDistance
from mlff_calc.nn.histogram import centres_of
from mlff_calc.nn.mixture import Mixture
from mlff_calc.nn.scatter import scatter_sum
from mlff_calc.nn.stop import stop_gradient

ENERGY_ERROR_LOGITS: Final = declare(
    "energy_error_logits", "system", (None, None), None, "", "logits of bins of the size of the error of an energy [K, B]"
)
FORCE_ERROR_LOGITS: Final = declare(
    "force_error_logits", "atom", (None, None), None, "", "logits of bins of the size of the error of a force [K, B]"
)
ENERGY_ERROR_FAR: Final = declare(
    "energy_error_far", "system", (), DOUBLE, "", "factor of the error of an energy by the distance from training atoms"
)
FORCE_ERROR_FAR: Final = declare(
    "force_error_far", "atom", (), DOUBLE, "", "factor of the error of a force by the distance from training atoms"
)
FEATURE_DISTANCE: Final = declare(
    "feature_distance", "atom", (), DOUBLE, "", "squared distance of the scalars of an atom from those of training atoms"
)
ENERGY_STD: Final = declare("energy_std", "system", (), DOUBLE, "eV", "standard deviation of the energy")
FORCES_STD: Final = declare(
    "forces_std", "atom", (3,), DOUBLE, "eV/Angstrom", "standard deviation of each component of the force"
)
DECADES = (-5.0, 1.5)  # sizes of errors that bins hold, as powers of ten of the scale of a potential; others count as these
START = (-1.0, 0.7)  # mean and deviation of t that an untrained head predicts
ONE, THREE = 1.8874, 1.2027  # root mean square over geometric mean of the length of normal vectors of 1 and 3 components


class ErrorHead(HistogramHead, ABC):
    """Base of the heads of errors.

    Args:
        pooled: See `HistogramHead`.
        features: Features of the network.
        scale: Scale of the errors, in eV or eV/Angstrom.
        bins: Number of bins, the guards among them.
        width: Width of soft targets, in bins.
        detach: Whether the loss of this head leaves the backbone alone.

    Attributes:
        logits: Key of the logits that it adds.
        std: Key of the standard deviation that it adds.
        label: Key of the label whose errors it predicts.
        far: Key of the factor sqrt(1 + d^2) of the distance.
        tells: Whether logits and this factor are returned outside of training too.
        seen: List that collects scalars and species of atoms in evaluations; None where they are not collected.
    """

    logits: ClassVar[str]
    std: ClassVar[str]
    far: ClassVar[str]
    label: ClassVar[str]
    gauss: ClassVar[float]
    seen: list[tuple[Tensor, Tensor]] | None
    scale: Tensor
    factor: Tensor
    centres: Tensor
    calibrated: Tensor

    def __init__(
        self, pooled: nn.Module, features: Features, scale: float, bins: int, width: float, *, detach: bool
    ) -> None:
        super().__init__(pooled, features.channels, bins, ["uniform"], width)
        self.detach, self.tells, self.seen = detach, False, None
        self.distance = FeatureDistance(len(features.species), features.channels)
        self.register_buffer("scale", torch.tensor(float(scale), dtype=torch.float64))
        self.register_buffer("factor", torch.ones((), dtype=torch.float64))
        self.register_buffer("calibrated", torch.zeros((), dtype=torch.int64))
        shares = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
        begin = START[0] + START[1] * math.sqrt(2.0) * torch.erfinv(2.0 * shares - 1.0)
        self.measure(torch.cat([begin, torch.tensor(DECADES, dtype=torch.float64)]))
        self.register_buffer("centres", centres_of(self.edges)[0], persistent=False)

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the graph with logits in training, and with the standard deviation otherwise."""
        features = graph["node_features"]
        if not self.training:
            features = features.detach()
        elif self.detach:
            features = stop_gradient(features)
        features = features[:, :1]
        logits = self.logits_of({**graph, "node_features": features})[0]
        if self.training:
            return {**graph, self.logits: logits}
        logits, scalars = logits.detach(), features[:, 0]
        if self.seen is not None:
            self.seen.append((scalars, graph["species"]))
        squares = graph.get(FEATURE_DISTANCE)  # all heads of a potential have measured the same training atoms
        squares = self.distance(scalars, graph["species"]) if squares is None else squares
        std, far = self.spread(self.size(logits), squares, graph)
        told = {self.logits: logits, self.far: far} if self.tells else {}
        return {**graph, **told, FEATURE_DISTANCE: squares, self.std: std}

    @abstractmethod
    def spread(self, sizes: Tensor, squares: Tensor, graph: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Standard deviation in the shape of the key `std`, and factor sqrt(1 + d^2) [n] of the distance.

        Args:
            sizes: Sizes of errors [n] at a distance of 0.
            squares: Squared distances of atoms [n_atoms].
            graph: Graph.
        """

    def size(self, logits: Tensor) -> Tensor:
        """Root mean square of the errors [n] in eV or eV/Angstrom, from logits [n, 1, B]."""
        mean = torch.mv(torch.softmax(logits[:, 0].double(), dim=1), self.centres)
        return (self.factor * self.scale * self.gauss) * torch.pow(10.0, mean)

    def standard(self, errors: Tensor, stretch: Tensor | float = 1.0) -> Tensor:
        """Labels t [n] of errors [n] in eV or eV/Angstrom; errors outside of the bins count as their ends.

        Args:
            errors: Errors.
            stretch: Factor by which the distribution is wider than the histogram says.
        """
        t = (errors.double() / (self.scale * stretch)).abs().clamp(min=1e-30).log10()
        return t.clamp(self.edges[0, 0], self.edges[0, -1])

    def distribution(self, logits: Tensor) -> Mixture:
        """Distributions of t, for labels that are divided by factor and stretch."""
        return self.mixture_of(logits, torch.ones_like(logits[:, :, 0]))

    def log_density(self, logits: Tensor, errors: Tensor, stretch: Tensor) -> Tensor:
        """Logarithms of the density of |error| [n], per eV or eV/Angstrom; arguments are those of `standard`."""
        t = self.standard(errors, stretch)
        size = (self.scale * stretch).log() + math.log(10.0) * t
        return self.distribution(logits).log_density(t) - math.log(math.log(10.0)) - size


@register_head("energy_error")
class EnergyErrorHead(ErrorHead):
    """Adds `energy_error_logits` [n_systems, 1, B] of errors per atom, and `energy_std` [n_systems] (eV).

    Args:
        features: Features of the network.
        scale: Scale of the errors, in eV.
        bins: Number of bins, of 6.5 decades and guards on either side.
        width: Width of soft targets, in bins.
        detach: Whether the loss of this head leaves the backbone alone.

    Raises:
        RecipeError: An option is out of range.
    """

    title, label, gauss = "energy_error", "energy", ONE
    logits, far, std = provides = (ENERGY_ERROR_LOGITS, ENERGY_ERROR_FAR, ENERGY_STD)

    def __init__(
        self, features: Features, scale: float = 1.0, bins: int = 48, width: float = 0.75, detach: bool = True
    ) -> None:
        super().__init__(PooledScalars(features.channels), features, scale, bins, width, detach=detach)

    def spread(self, sizes: Tensor, squares: Tensor, graph: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Number of atoms times the deviation per atom [n_systems], with the mean of d^2 over the atoms that are `owned`."""
        owned = graph["owned"].double() if "owned" in graph else torch.ones_like(squares)
        rows = torch.stack([squares * owned, owned], dim=1)
        sums, counts = scatter_sum(rows, graph["system_index"], graph["cell"].shape[0]).unbind(1)
        far = (1.0 + sums / counts.clamp(min=1.0)).sqrt()
        return counts * sizes * far, far


@register_head("force_error")
class ForceErrorHead(ErrorHead):
    """Adds `force_error_logits` [n_atoms, 1, B] of the length of the error of a force, and `forces_std` [n_atoms, 3].

    The three components are equal, so that the length of a row is the root mean square length of the error of the force, as
    that of a committee is the distance of the members' forces from their mean. Nothing turns with the structure but nothing
    has to: lengths are invariant.

    Args:
        features: Features of the network.
        scale: Scale of the errors, in eV/Angstrom.
        bins: Number of bins, of 6.5 decades and guards on either side.
        width: Width of soft targets, in bins.
        detach: Whether the loss of this head leaves the backbone alone.

    Raises:
        RecipeError: An option is out of range.
    """

    title, label, gauss = "force_error", "forces", THREE
    logits, far, std = provides = (FORCE_ERROR_LOGITS, FORCE_ERROR_FAR, FORCES_STD)

    def __init__(
        self, features: Features, scale: float = 1.0, bins: int = 48, width: float = 0.75, detach: bool = True
    ) -> None:
        super().__init__(AtomScalars(features.channels), features, scale, bins, width, detach=detach)

    def spread(self, sizes: Tensor, squares: Tensor, graph: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Root mean square length of the error of each force, divided over its components [n_atoms, 3]."""
        del graph
        far = (1.0 + squares).sqrt()
        return (sizes * far / math.sqrt(3.0)).unsqueeze(1).expand(-1, 3).contiguous(), far
