"""One step of a trajectory whose fields are degrees of freedom of their own (Niklasson's shadow dynamics).

The energy of fields at any n (heads/fields.py) is conserved together with the kinetic energy if n itself moves by a
time-reversible rule that follows the response y; a step then costs one product with the couplings. With more products n
is first iterated, and the energy differentiated through the iterations at fixed n.

| key | shape | meaning |
|---|---|---|
| `start_fields` | `[n_atoms, *shape]` | n of this step |
| `fields` | the same | response y, which n follows |
| `fields_residual` | [n_systems] | length of y - n over that of y |
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlff_calc.errors import OptionError
from mlff_calc.heads.fields import FIELDS, FIELDS_RESIDUAL, START_FIELDS, FieldsHead, residual
from mlff_calc.potential.model import Potential

STALLED = 12
"""Number of products in which the change must fall by a hundredth, else steps are halved: fields that alternate between two
values, as with eigenvalues of the couplings below -1, then converge."""


class ShadowSizes(NamedTuple):
    """Sizes of a step.

    Attributes:
        products: number of products with the couplings.
    """

    products: int


class ShadowStep(nn.Module):
    """Step of a potential with fields.

    Args:
        potential: potential in evaluation mode, whose head is told the number of products.
        sizes: sizes of the step.
    """

    inputs = (START_FIELDS,)
    outputs = (FIELDS, FIELDS_RESIDUAL)

    def __init__(self, potential: Potential, sizes: ShadowSizes) -> None:
        super().__init__()
        self.potential, self.sizes = potential, sizes
        fields_of(potential).following = sizes.products

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the potential's outputs, `fields` and `fields_residual` for a graph with `start_fields`."""
        return self.potential(graph)


def fields_of(potential: Potential) -> FieldsHead:
    """Return the head of fields of a potential that has one.

    Raises:
        OptionError: it has none.
    """
    if potential.fields is None:
        raise OptionError("shadow dynamics needs a potential with fields (`potential.fields` in its recipe)")
    return potential.fields


def solve_fields(
    potential: Potential, graph: dict[str, Tensor], tolerance: float, most: int
) -> tuple[Tensor, float, int]:
    """Solve y = phi(u + A y) by iteration, with half steps once full ones no longer come nearer.

    Args:
        potential: potential with fields.
        graph: inputs of the potential.
        tolerance: relative change per iteration at which the solve ends.
        most: largest number of products.

    Returns:
        y [n_atoms, *shape], the last relative change (the largest of all systems), and the number of products.
    """
    head = fields_of(potential)
    with torch.no_grad():
        source, edges = head.prepare(potential.backbone(potential.inputs(graph, graph["edge_vec"])))
        fields, change = head.response(source), float("inf")
        changes: list[float] = []
        share = 1.0
        while len(changes) < most and change > tolerance:
            found = head.response(source + head.couplings(fields, edges))
            change = float(residual(found, fields, graph).max())
            changes.append(change)
            if len(changes) > 2 * STALLED and change > 0.99 * changes[-STALLED]:
                share = 0.5
            fields = torch.lerp(fields, found, share)
    return fields, change, len(changes)


def with_products(potential: Potential, products: int) -> Potential:
    """Return a copy whose energies from the structure alone take this number of products with the couplings."""
    other = potential.to_precision(potential.precision)
    fields_of(other).products = products
    heads = [head | {"products": products} if head["name"] == "fields" else head for head in other.config["heads"]]
    other.config = {**other.config, "heads": heads}
    return other
