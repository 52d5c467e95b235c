"""Copies of structures with noise in their positions, as one batch.

    x' = y + sigma n,      y: the structure itself, or after moves about its bonds (hinges.py)

The noise n is normal with unit variance, less its mean over each structure, which no network could find. It alone is what
networks have to find. Edges of a copy are those of its own noisy positions: graphs hold all pairs that noise can bring
within the cutoff, and each copy keeps the pairs that are.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from mlff_calc.graph import collate
from mlff_calc.graph.keys import Graph
from mlff_calc.nn.scatter import from_mean
from mlff_calc.pretraining.hinges import moved_about_hinges
from mlff_calc.pretraining.keys import (
    CLEAN,
    CODE_OF,
    COPY_ROLE,
    DENOISED,
    HINGE_ATOMS,
    HINGE_SCALES,
    HINGES,
    NOISE_TARGET,
)

REACH = 8.5
"""Distance beyond the cutoff up to which pairs are kept for noise, in units of sigma. The difference of two atoms' noise
along a line exceeds 6 sqrt(2) sigma once in 10^9 pairs. Raising it keeps more pairs."""


def within(graph: Graph, cutoff: float) -> Graph:
    """Return the graph without hinges, and with only the edges that are shorter than the cutoff (Angstrom)."""
    vectors = graph["edge_vec"]
    near = ((vectors * vectors).sum(dim=1) < cutoff * cutoff).nonzero().squeeze(1)
    others = {name: value for name, value in graph.items() if name not in (HINGES, HINGE_SCALES, HINGE_ATOMS)}
    index = graph["edge_index"].index_select(1, near)
    return others | {"edge_index": index, "edge_vec": vectors.index_select(0, near)}


def displaced(graph: Graph, shifts: Tensor) -> Graph:
    """Return the graph with positions changed by shifts [n_atoms, 3] (Angstrom), and the vectors of the same edges."""
    ends = shifts.index_select(0, graph["edge_index"][1]) - shifts.index_select(0, graph["edge_index"][0])
    return graph | {"positions": graph["positions"] + shifts, "edge_vec": graph["edge_vec"] + ends}


def noisy(graph: Graph, sigma: float, cutoff: float, generator: torch.Generator, *, hinges: bool = False) -> Graph:
    """Add noise to positions; `noise_target` is the noise in units of sigma.

    Args:
        graph: Graph of any number of structures, with all pairs that noise can bring within the cutoff.
        sigma: Standard deviation of the noise, Angstrom.
        cutoff: Cutoff of the result, Angstrom.
        generator: Source of the noise, on the device of the graph.
        hinges: Whether parts are moved about the bonds in the graph first.
    """
    positions = graph["positions"]
    start = moved_about_hinges(graph, generator) if hinges and HINGES in graph else positions
    drawn = torch.randn(positions.shape, generator=generator, device=positions.device, dtype=torch.float64)
    noise = from_mean(drawn, graph["system_index"], graph["cell"].shape[0])
    return within(displaced(graph, start - positions + sigma * noise), cutoff) | {NOISE_TARGET: noise}


def copies(
    graph: Graph, roles: Collection[int], sigmas: dict[int, float], cutoff: float, generator: torch.Generator
) -> Graph:
    """Join copies of all structures of a graph, role after role.

    Args:
        graph: Graph of n structures; see `noisy`.
        roles: Roles of the copies; see `keys.py`. All are drawn in the order of their numbers.
        sigmas: Standard deviation of the noise of each role, Angstrom. Only copies to denoise are moved about bonds first.
        cutoff: Cutoff of the copies, Angstrom.
        generator: Source of the noise, on the device of the graph.

    Returns:
        A graph of n systems for each role, with `copy_role`, `code_of` and `noise_target`.
    """
    n_systems, made = graph["cell"].shape[0], []
    for role in sorted(roles):
        if role == CLEAN:
            made.append(within(graph, cutoff) | {NOISE_TARGET: torch.zeros_like(graph["positions"])})
        else:
            made.append(noisy(graph, sigmas[role], cutoff, generator, hinges=role == DENOISED))
    joined = made[0] if len(made) == 1 else collate(made)
    own = torch.arange(n_systems, device=graph["positions"].device)
    role_of = torch.tensor(sorted(roles), device=own.device).repeat_interleave(n_systems)
    return joined | {COPY_ROLE: role_of, CODE_OF: own.repeat(len(made))}

