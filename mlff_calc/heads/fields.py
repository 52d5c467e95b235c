"""A variational fixed point: fields of atoms that respond to sources and to each other, and their energy.

Every atom has some copies of fields y of degrees 0 to L, one scalar, one vector and so on each. With sources u from the
features of a backbone and symmetric couplings A of neighbours (nn/couplings.py), the energy

    Phi(y) = sum psi(y) - u . y - y . A y / 2,      psi' the inverse of phi,      phi(z) = z / sqrt(1 + |z|^2),

per copy and degree, is stationary at y = phi(u + A y). So the Jacobian of the fixed point has real eigenvalues, the error of
the energy is the square of that of y, and forces need no adjoint. Linearized at any n near y it is

    U(n) = -sum( sqrt(1 + |u + A n|^2) - 1 ) + n . A n / 2,

which one product A n gives. From the structure alone, n are `products` - 1 iterations from phi(u), and the energy is
differentiated through them: it is exact for what it is, and near the solution to second order. In a trajectory
(`start_fields`), n is a degree of freedom of its own that follows y (Niklasson's shadow energy): forces are those of U at
fixed n, and U plus the kinetic energy is conserved.

Energies of atoms get scale * sum_c w_c U_c, with a learned weight w_c for each copy, since copies are independent.

| symbol | name in code | shape |
|---|---|---|
| u | `source` | [n_atoms, (L+1)^2, copies] |
| y, n | `fields` | the same |
| A n | `pulled` | the same |

Sources: Niklasson, "Next generation extended Lagrangian first principles molecular dynamics" (2017), for the shadow energy;
for charges Goff et al. (arXiv 2502.09602).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from mlff_calc.errors import OptionError, RecipeError
from mlff_calc.graph.keys import DOUBLE, declare
from mlff_calc.heads.base import Features, Head, register_head
from mlff_calc.heads.energy import ENERGIES
from mlff_calc.nn.couplings import CoupledEdges, Couplings
from mlff_calc.nn.degree import DegreeLinear
from mlff_calc.nn.exchange import all_sum
from mlff_calc.nn.scatter import scatter_sum

START_FIELDS: Final = declare("start_fields", "atom", (None, None), None, "", "n, at which the energy of fields is taken")
FIELDS: Final = declare("fields", "atom", (None, None), None, "", "response y = phi(u + A n) of fields to n, e3nn order")
FIELDS_RESIDUAL: Final = declare("fields_residual", "system", (), DOUBLE, "", "length of y - n over that of y")
HIGHEST_DEGREE, MOST_PRODUCTS, LARGEST_BOUND = 3, 100, 16.0
"""Largest values of the options; raising the bound allows couplings whose iterations do not converge."""


@register_head("fields")
class FieldsHead(Head):
    """Adds the energy of fields to `energies` [n_atoms] (eV, float64).

    Args:
        features: Features of the network.
        copies: Number of copies of each degree.
        l_max: Highest degree of the fields, 0 to 3, and not above that of the features.
        bound: Norm that couplings stay below. Raising it lets fields carry information farther, and iterations
            converge more slowly: the error falls by up to this factor (and in practice by half of it) in each.
        products: Number of products with A where the fields begin from nothing.
        hidden: Width of the perceptron that gives couplings.
        n_basis: Number of radial functions of couplings.
        scale: Scale of the energy, eV.

    Attributes:
        shape: Shape of the fields of an atom.
        following: Number of products with A where the graph has `start_fields`.

    Raises:
        RecipeError: An option is out of range.
    """

    provides = (ENERGIES, FIELDS, FIELDS_RESIDUAL)

    def __init__(
        self,
        features: Features,
        copies: int = 4,
        l_max: int = 1,
        bound: float = 2.0,
        products: int = 3,
        hidden: int = 32,
        n_basis: int = 8,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        _check("l_max", l_max, 0, HIGHEST_DEGREE)
        _check("products", products, 1, MOST_PRODUCTS)
        _check("bound", bound, 0.01, LARGEST_BOUND)
        for name, value in (("copies", copies), ("hidden", hidden), ("n_basis", n_basis)):
            _check(name, value, 1, 4096)
        self.degree = self.l_max = l_max
        self.following = 1
        self.products, self.bound, self.shape = products, float(bound), ((l_max + 1) ** 2, copies)
        self.source = DegreeLinear(l_max, features.channels, copies)
        self.couplings = Couplings(l_max, copies, features.channels, features.cutoff, bound, n_basis, hidden)
        self.weight = nn.Parameter(torch.full((copies,), 1.0 / copies))
        self.register_buffer("scale", torch.tensor(float(scale), dtype=torch.float64))

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the graph with the energy of fields added; with `start_fields` also `fields` and `fields_residual`."""
        source, edges = self.prepare(graph)
        start = graph.get(START_FIELDS)
        if start is None:
            fields = self.iterate(self.response(source), source, edges, self.products - 1)
        else:
            start = start.to(source.dtype)
            if "cold" in graph:
                start = torch.where(graph["cold"], self.response(source).detach(), start)
            fields = self.iterate(start, source, edges, self.following - 1)
        pulled = self.couplings(fields, edges)
        turned = source + pulled
        roots = self.roots(turned)
        own = (0.5 * fields * pulled).sum(dim=1) - (roots - 1.0).sum(dim=1)
        out = dict(graph)
        out[ENERGIES] = out[ENERGIES] + self.scale * (own @ self.weight).double()
        if start is not None:
            out[FIELDS] = found = (turned / self.spread(roots)).detach()
            out[FIELDS_RESIDUAL] = residual(found, start, graph)
        return out

    def prepare(self, graph: dict[str, Tensor]) -> tuple[Tensor, CoupledEdges]:
        """Compute u and what A reads of a structure, from a graph with `node_features`.

        Raises:
            OptionError: the features lack degrees that the fields have (see `Backbone.limit_outputs`).
        """
        if graph["node_features"].shape[1] < self.shape[0]:
            raise OptionError(
                f"fields of degree {self.l_max} need such features: the backbone was told to leave them out; call "
                f"limit_outputs({self.l_max})"
            )
        features = graph["node_features"][:, : self.shape[0]].to(self.source.weight.dtype)
        edges = self.couplings.prepare(features[:, 0], graph["edge_index"], graph["edge_vec"], graph.get("node_species"))
        return self.source(features), edges

    @property
    def exchange_width(self) -> int:
        """Largest number of entries of an atom that an engine exchanges."""
        return max(self.couplings.atoms.out_features + 1, self.shape[0] * self.shape[1])

    def iterate(self, fields: Tensor, source: Tensor, edges: CoupledEdges, products: int) -> Tensor:
        """Return the fields after a number of products with A."""
        for _ in range(products):
            fields = self.response(source + self.couplings(fields, edges))
        return fields

    def response(self, turned: Tensor) -> Tensor:
        """Return phi of [n_atoms, (L+1)^2, copies], per copy and degree."""
        return turned / self.spread(self.roots(turned))

    def roots(self, turned: Tensor) -> Tensor:
        """sqrt(1 + |z|^2) for each degree and copy [n_atoms, L+1, copies]."""
        squares = turned * turned
        parts = [squares[:, d * d : (d + 1) * (d + 1)].sum(dim=1) for d in range(self.l_max + 1)]
        return torch.sqrt(1.0 + torch.stack(parts, dim=1))

    def spread(self, values: Tensor) -> Tensor:
        """Values of degrees [n_atoms, L+1, copies] for each of their components [n_atoms, (L+1)^2, copies]."""
        return torch.cat([values[:, d : d + 1].expand(-1, 2 * d + 1, -1) for d in range(self.l_max + 1)], dim=1)


def residual(found: Tensor, start: Tensor, graph: dict[str, Tensor]) -> Tensor:
    """Length of `found` - `start` over that of `found`, both [n_atoms, ...], for each system [n_systems].

    A graph with `node_numbers` is the part of a system that one process holds; sums are then over all processes.
    """
    rows = torch.stack([(found - start).square().flatten(1).sum(dim=1), found.square().flatten(1).sum(dim=1)], dim=1)
    rows = rows.double()
    if "owned" in graph:
        rows = rows * graph["owned"].unsqueeze(1)
    sums = scatter_sum(rows, graph["system_index"], graph["cell"].shape[0])
    if "node_numbers" in graph:
        sums = all_sum(sums)
    return torch.sqrt(sums[:, 0] / (sums[:, 1] + 1e-300))


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise RecipeError(f"{name} = {value!r} of head 'fields'; it must be between {least:g} and {most:g}")
