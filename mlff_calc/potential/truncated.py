"""A fixed-point potential cut off after K evaluations, which is cheap and exactly conservative.

Starting from the embedding u the map is applied K times, and the energy is computed from the result:

    z_K = f(f(... f(u; x); x); x),      E_K = sum_i e_i(z_K).

Nothing is solved, so E_K is an explicit function of the positions, and its forces take one backward pass through K
evaluations. With the same weights E_K is close to the converged energy as far as f contracts. Integrators with multiple
time steps apply the difference rarely (dynamics/multiple_time_steps.py).

Source: Tuckerman, Berne, Martyna, "Reversible multiple time scale molecular dynamics" (1992), where the reference force may
be any cheap approximation of the full one.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlff_calc.backbones.base import Backbone, node_species
from mlff_calc.backbones.deq import Deq
from mlff_calc.errors import OptionError
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.potential.model import Potential


class TruncatedBackbone(Backbone):
    """Backbone whose node features are a fixed number of evaluations of a fixed-point backbone's f, from the embedding.

    Args:
        deq: fixed-point backbone whose weights are used.
        n_evaluations: number K of evaluations, at least 1.
    """

    def __init__(self, deq: Deq, n_evaluations: int) -> None:
        super().__init__()
        self.deq = deq
        self.n_evaluations = n_evaluations
        self.cutoff, self.l_max, self.channels = deq.cutoff, deq.l_max, deq.channels
        self.n_layers = deq.n_explicit + (deq.n_layers - deq.n_explicit) * n_evaluations
        self.first_hops, self.exchange_width = deq.first_hops, deq.exchange_width

    def set_double_geometry(self, double: bool) -> None:
        """See `Backbone.set_double_geometry`."""
        self.deq.set_double_geometry(double)

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add `node_features` [n_atoms, (l_max+1)^2, channels] to the graph."""
        prepared = self.deq.prepare(graph)
        state, nodes = prepared[0], node_species(graph)
        for _ in range(self.n_evaluations):
            state = self.deq.evaluate(state, graph["edge_index"], prepared, nodes)
        out = dict(graph)
        out["node_features"] = self.deq.read(state)
        return out


class TruncatedPotential(Potential):
    """Result of `truncate`: an explicit potential, evaluated and compiled like any other.

    Its `config` is that of the fixed-point potential plus `n_evaluations`, which tells compiled files apart.
    """

    def __init__(self, potential: FixedPointPotential, n_evaluations: int) -> None:
        with torch.random.fork_rng(devices=[]):  # the new weights are dropped at once
            super().__init__(potential.config)
        self.backbone = TruncatedBackbone(potential.backbone, n_evaluations)
        self.heads = potential.heads
        self.species_of = potential.species_of
        self.config = {**copy.deepcopy(potential.config), "n_evaluations": n_evaluations}
        self.precision = potential.precision

    def save(self, folder: str | Path, **options: Any) -> Path:
        """Raise an error, because the weights are those of the fixed-point potential.

        Raises:
            OptionError: always.
        """
        raise OptionError(
            f"a potential truncated to {self.backbone.n_evaluations} evaluations is not written to {folder}: "
            "save the fixed-point potential, and truncate it again after loading"
        )


def truncate(potential: Potential, n_evaluations: int) -> TruncatedPotential:
    """Create the potential whose energy is that after `n_evaluations` evaluations of a fixed-point potential's f.

    Args:
        potential: potential with a fixed point and gradient forces. The result shares its weights, device and mode
            until one of the two is moved or cast.
        n_evaluations: number K of evaluations, at least 1.

    Returns:
        An explicit potential with the outputs of `Potential`; its forces are the exact gradient of the energy.

    Raises:
        OptionError: there is no fixed point, forces are direct, or `n_evaluations` is less than 1.
    """
    if not isinstance(potential, FixedPointPotential):
        name = potential.config["backbone"]["name"]
        raise OptionError(
            f"{type(potential).__name__} with backbone {name} has no fixed point to truncate; give a potential as built or "
            "loaded, with the backbone deq"
        )
    if potential.direct_forces:
        raise OptionError(
            "forces: direct are not the gradient of an energy, so a truncated potential would not conserve energy; "
            "give a potential with forces: gradient"
        )
    if isinstance(n_evaluations, bool) or not isinstance(n_evaluations, int) or n_evaluations < 1:
        raise OptionError(
            f"n_evaluations = {n_evaluations!r} of a truncated potential; give a whole number of at least 1"
        )
    truncated = TruncatedPotential(potential, n_evaluations)
    truncated.train(potential.training)
    return truncated
