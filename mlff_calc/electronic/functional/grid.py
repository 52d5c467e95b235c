"""The electron density of one or several molecules on the points of an integration grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mlff_calc.errors import OptionError


@dataclass(frozen=True)
class DensityGrid:
    """The density of closed shells at points, in Hartree atomic units and float64.

    Attributes:
        positions: Points [n_points, 3], Bohr.
        weights: Weights of the integration [n_points], Bohr^3.
        density: n, its gradient (x, y, z) and, for meta-GGAs, tau = 1/2 sum |grad psi|^2 [4 or 5, n_points].
        system: Number of the molecule of each point [n_points], rising; None for one molecule.
    """

    positions: Tensor
    weights: Tensor
    density: Tensor
    system: Tensor | None = None

    def __post_init__(self) -> None:
        n, shape = self.weights.shape[0], tuple(self.density.shape)
        if tuple(self.positions.shape) != (n, 3) or shape not in ((4, n), (5, n)):
            raise OptionError(
                f"a density of shape {list(shape)} at positions {list(self.positions.shape)} with {n} weights does not fit "
                "together; give positions [n, 3], weights [n] and n, its gradient and tau [4 or 5, n]"
            )

    def __len__(self) -> int:
        return int(self.weights.shape[0])

    @property
    def n_systems(self) -> int:
        """Number of molecules."""
        return _last(self.system)

    @classmethod
    def join(cls, grids: Sequence[DensityGrid]) -> DensityGrid:
        """Put the grids of several molecules behind each other."""
        counts = torch.tensor([one.n_systems for one in grids])
        first = (counts.cumsum(0) - counts).tolist()
        systems = [
            torch.full((len(one),), start) if one.system is None else one.system + start
            for one, start in zip(grids, first, strict=True)
        ]
        return cls(
            torch.cat([one.positions for one in grids]),
            torch.cat([one.weights for one in grids]),
            torch.cat([one.density for one in grids], dim=1),
            torch.cat(systems),
        )


class Points(NamedTuple):
    """What a functional reads of a density, which depends on no weight; at frozen densities it is computed once.

    Attributes:
        electrons: Electrons of points, w n [n_points].
        energies: Energies of points with the base functional, w n eps [n_points], Hartree.
        known: Bounded local quantities [n_points, 2 or 3].
        system: Number of the molecule of each point [n_points], rising; None for one molecule.
    """

    electrons: Tensor
    energies: Tensor
    known: Tensor
    system: Tensor | None = None

    @property
    def n_systems(self) -> int:
        """Number of molecules."""
        return _last(self.system)


def _last(system: Tensor | None) -> int:
    return 1 if system is None or not len(system) else int(system[-1]) + 1
