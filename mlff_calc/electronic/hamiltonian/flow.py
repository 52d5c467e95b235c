"""Flow matching of Fock matrices: from noise to the matrix, by a network that predicts the end of the path.

A state is a matrix by blocks, divided by the scales of the network (`scales.py`), so that its entries are of order one.
On the path X_t = (1 - t) X_0 + t X_1 the network gets X_t and t and predicts X_1. Euler steps

    X <- X + dt (X_1(X, t) - X) / (1 - t)

end at its last prediction, so that one step is a regression from noise. Priors are exactly invariant under rotations,
reflections and permutations: in `goe` a matrix A of independent normal numbers is made symmetric, (A + A^T) / 2, in
`expansion` irreducible features of degrees 0 to 2 of atoms and pairs are expanded to blocks, which are made symmetric
in the same way.

Source: Kim et al., "QHFlow" (2025); the state in units of measured scales, and the variances that make the prior
invariant, are our own.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from mlff_calc.electronic.hamiltonian.blocks import irreducible_parts
from mlff_calc.electronic.hamiltonian.keys import FLOW_TIME, FOCK_ATOMS, FOCK_PAIRS, atoms_of, pairs_of
from mlff_calc.electronic.hamiltonian.model import HamiltonianNetwork, reverse_of
from mlff_calc.graph.keys import Graph

FIRST_TIME = 0.01
"""Time at which samples begin; nearer to 0 the state tells less than noise already does."""


def draw_noise(network: HamiltonianNetwork, graph: Graph, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw symmetric noise by blocks of atoms and of pairs, in units of the scales of the network.

    Args:
        network: Network with a flow.
        graph: Graph of molecules.
        generator: Source of the noise, on the device of the graph.
    """
    atoms, pairs = (_blocks(network, n, generator) for n in (len(graph["atomic_numbers"]), graph["edge_index"].shape[1]))
    return _symmetric(network, graph, atoms, pairs)


def noise_by_place(network: HamiltonianNetwork, graph: Graph, seed: int) -> tuple[Tensor, Tensor]:
    """Draw noise that depends on the places of atoms in their molecule only, so that it is the same in any batch.

    Blocks are drawn for all pairs of places, ordered by the larger one, so that larger molecules have those of smaller ones.
    Frames of a molecule share their noise, and predictions along a trajectory are smooth.

    Args:
        network: Network with a flow.
        graph: Graph of molecules.
        seed: Seed of the noise.

    Returns:
        What `draw_noise` returns.
    """
    systems, device = graph["system_index"], graph["edge_index"].device
    counts = torch.bincount(systems)
    place = torch.arange(len(systems), device=device) - (counts.cumsum(0) - counts).index_select(0, systems)
    generator = torch.Generator(device).manual_seed(seed)
    first, second = place.index_select(0, graph["edge_index"].flatten()).view(2, -1)
    last = torch.maximum(first, second)
    of_pairs = last * last + torch.where(first < second, first, last + second)
    of_atoms = place * (place + 2)
    wanted, parts = torch.unique(torch.cat([of_atoms, of_pairs])), []
    for k in range(int(counts.max())):
        drawn = _blocks(network, 2 * k + 1, generator)
        parts.append(drawn[wanted[(wanted >= k * k) & (wanted < (k + 1) ** 2)] - k * k])  # distant pairs have no block
    kept = torch.cat(parts)
    atoms, pairs = (kept[torch.searchsorted(wanted, those)] for those in (of_atoms, of_pairs))
    return _symmetric(network, graph, atoms, pairs)


def _blocks(network: HamiltonianNetwork, n: int, generator: torch.Generator) -> Tensor:
    """Blocks [n, width, width] of the prior, not symmetric yet, on the device of the generator."""
    flow = network.config["flow"]
    if flow["prior"] == "goe":
        square = (n, network.width, network.width)
        block = torch.randn(square, generator=generator, device=generator.device, dtype=torch.float64)
    else:
        block = _expanded(network.shells, n, generator, generator.device)
    return float(flow["size"]) * block


def _symmetric(network: HamiltonianNetwork, graph: Graph, atoms: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Make blocks of atoms and pairs symmetric, and zero where an element has no orbital."""
    masks = network.masks(*network.species_of(graph))
    atoms = 0.5 * (atoms + atoms.transpose(1, 2))
    pairs = 0.5 * (pairs + pairs.transpose(1, 2).index_select(0, reverse_of(graph["edge_index"])))
    return atoms * masks[0], pairs * masks[1]


def _expanded(shells: list[int], n: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Blocks [n, width, width] from one feature of each degree 0 to 2, with unit weights for all pairs of shells."""
    block = torch.zeros(n, sum(2 * degree + 1 for degree in shells), dtype=torch.float64, device=device)
    whole = block.unsqueeze(2) * block.unsqueeze(1)
    for (degree, odd), parts in irreducible_parts(shells, 2).items():
        if parts and not odd:
            feature = torch.randn(n, 2 * degree + 1, generator=generator, device=device, dtype=torch.float64)
            whole = whole + (feature @ torch.stack(parts).sum(dim=0).to(device)).view_as(whole)
    return whole


def with_state(graph: Graph, state: tuple[Tensor, Tensor], times: Tensor) -> Graph:
    """Return the graph with a state and times of a flow [n_systems]."""
    return graph | {atoms_of("state"): state[0], pairs_of("state"): state[1], FLOW_TIME: times}


def between(
    noise: tuple[Tensor, Tensor], data: tuple[Tensor, Tensor], times: Tensor, graph: Graph
) -> tuple[Tensor, Tensor]:
    """State on the path from noise to data at times [n_systems], all by blocks of atoms and of pairs."""
    of_atoms = times.index_select(0, graph["system_index"])[:, None, None]
    of_pairs = times.index_select(0, graph["system_index"].index_select(0, graph["edge_index"][0]))[:, None, None]
    atoms, pairs = (
        (1.0 - t) * start + t * end for t, start, end in zip((of_atoms, of_pairs), noise, data, strict=True)
    )
    return atoms, pairs


def sample(
    network: HamiltonianNetwork, graph: Graph, seed: int = 0, steps: int | None = None
) -> dict[str, Tensor]:
    """Integrate a flow from noise.

    Args:
        network: Network with a flow.
        graph: Graph of molecules with the other matrices that the network reads.
        seed: Seed of the noise, see `noise_by_place`.
        steps: Number of Euler steps; None for that of the configuration.

    Returns:
        Outputs of the network in the last step.
    """
    n_systems = int(graph["system_index"].max()) + 1
    species, ends = network.species_of(graph)
    masks = network.masks(species, ends)
    state = noise_by_place(network, graph, seed)
    n_steps = steps or int(network.config["flow"]["steps"])
    times = torch.linspace(FIRST_TIME, 1.0, n_steps + 1, dtype=torch.float64).tolist()
    out: dict[str, Tensor] = {}
    for now, later in pairwise(times):
        at = torch.full((n_systems,), now, dtype=torch.float64, device=species.device)
        out = network(with_state(graph, state, at))
        end = network.scales.divide(out[FOCK_ATOMS].double(), out[FOCK_PAIRS].double(), species, ends)
        share = (later - now) / (1.0 - now)
        atoms, pairs = (x + share * (y * mask - x) for x, y, mask in zip(state, end, masks, strict=True))
        state = atoms, pairs
    return out
