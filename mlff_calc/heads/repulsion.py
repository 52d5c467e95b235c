"""Short-range repulsion of Ziegler, Biersack and Littmark (ZBL), added smoothly.

    V_ij = k Z_i Z_j / r  phi(r / a) u(r / r_out),   phi(x) = sum_k c_k exp(-d_k x),   a = a_0 / (Z_i^0.23 + Z_j^0.23)

u is the polynomial envelope with r_out = reach * (R_i + R_j) from covalent radii, at most the cutoff of the graph, so the
repulsion and its derivatives vanish at bonded distances and beyond. It keeps atoms apart where there is no data, as in
hot or compressed starts.

Source: Ziegler, Biersack, Littmark, "The stopping and range of ions in matter" (1985).
"""

from __future__ import annotations

import torch
from ase.data import covalent_radii
from torch import Tensor

from mlff_calc.errors import RecipeError
from mlff_calc.heads.base import Features, Head, register_head
from mlff_calc.heads.energy import ENERGIES

COULOMB = 14.399645  # e^2 / (4 pi epsilon_0), eV Angstrom
SCREENING_LENGTH = 0.46850  # 0.8854 Bohr, Angstrom
COEFFICIENTS = (0.18175, 0.50986, 0.28022, 0.02817)  # weights of the exponentials in the universal screening function
EXPONENTS = (3.19980, 0.94229, 0.40290, 0.20162)  # decay rates of the exponentials, per screening length


@register_head("zbl")
class ZBLRepulsion(Head):
    """Adds half of every pair's repulsion to the `energies` of its centre; the reverse edge adds the other half.

    Args:
        features: Features of the network, whose species are atomic numbers.
        reach: Outer radius in units of the sum of covalent radii. Raising it lets the repulsion act at longer
            distances.

    Raises:
        RecipeError: `reach` is not positive.
    """

    provides = (ENERGIES,)

    def __init__(self, features: Features, reach: float = 0.8) -> None:
        super().__init__()
        if reach <= 0.0:
            raise RecipeError(f"reach = {reach!r} of head 'zbl'; it must be a positive number")
        elements = list(features.species)
        self.cutoff = features.cutoff
        radii = torch.tensor([float(covalent_radii[z]) for z in elements], dtype=torch.float64)
        self.register_buffer("charges", torch.tensor(elements, dtype=torch.float64), persistent=False)
        self.register_buffer("radii", radii * reach, persistent=False)
        self.register_buffer("coefficients", torch.tensor(COEFFICIENTS, dtype=torch.float64), persistent=False)
        self.register_buffer("exponents", torch.tensor(EXPONENTS, dtype=torch.float64), persistent=False)

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the graph with the repulsion added to `energies` [n_atoms] (eV, float64)."""
        species, edge_index, edge_vec = graph["species"], graph["edge_index"], graph["edge_vec"].double()
        distances = torch.sqrt((edge_vec * edge_vec).sum(dim=1))
        nodes = graph.get("node_species", species)
        charges, radii = self.charges.index_select(0, nodes), self.radii.index_select(0, nodes)
        centre, neighbor = edge_index[0], edge_index[1]
        z_i, z_j = charges.index_select(0, centre), charges.index_select(0, neighbor)
        outer = (radii.index_select(0, centre) + radii.index_select(0, neighbor)).clamp(max=self.cutoff)
        x = (distances / outer).clamp(max=1.0)
        envelope = 1.0 - x**6 * (28.0 - 48.0 * x + 21.0 * x * x)
        scaled = distances * (z_i**0.23 + z_j**0.23) / SCREENING_LENGTH
        screening = (self.coefficients * torch.exp(-scaled.unsqueeze(1) * self.exponents)).sum(dim=1)
        pair = 0.5 * COULOMB * z_i * z_j / distances * screening * envelope
        out = dict(graph)
        out["energies"] = out["energies"].index_add(0, centre, pair)
        return out
