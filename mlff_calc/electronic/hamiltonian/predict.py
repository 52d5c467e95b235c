"""Fock matrices of molecules from a network, in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mlff_calc.electronic.hamiltonian.flow import sample
from mlff_calc.electronic.hamiltonian.keys import FOCK_ATOMS, FOCK_PAIRS, atoms_of, pairs_of
from mlff_calc.electronic.hamiltonian.matrices import blocks_of, matrix_of, orbital_places
from mlff_calc.electronic.hamiltonian.model import HamiltonianNetwork
from mlff_calc.errors import OptionError, StructureError, UnknownElementError
from mlff_calc.graph import graph_from_arrays
from mlff_calc.graph.batch import collate
from mlff_calc.graph.keys import Graph

Matrix = NDArray[np.float64]
BATCH_ORBITALS = 4000
"""Largest number of orbitals in a batch. Raising it takes more memory, and saves little beyond some hundreds of pairs."""


def predict_fock(
    network: HamiltonianNetwork,
    molecules: Sequence[Atoms],
    *,
    overlaps: Sequence[Matrix] | None = None,
    initials: Sequence[Matrix] | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> list[Matrix]:
    """Predict the Fock matrices of molecules of any sizes.

    Args:
        network: Network on any device and in any precision.
        molecules: Molecules without periodicity.
        overlaps: Overlap matrices in our order, where the network reads them.
        initials: Fock matrices of the initial density in our order, Hartree, where the network needs them.
        steps: Number of steps of a flow; None for that of its configuration.
        seed: Seed of the noise of a flow.

    Returns:
        Matrices [n_orbitals, n_orbitals], Hartree, in our order of orbitals.

    Raises:
        OptionError: Matrices that the network needs are missing, or have the wrong number or shape.
        UnknownElementError: A molecule holds an element that the network was not trained for.
        StructureError: A structure is periodic, or atoms overlap.
    """
    given = {"overlap": overlaps, "initial": initials}
    for name in given:
        if (name in network.inputs or (name == "initial" and network.adds_initial)) and given[name] is None:
            raise OptionError(f"the network needs the {name} matrix of each molecule; give {name}s")
    found: list[Matrix] = []
    parts = _parts([sum(_orbitals(network, one)) for one in molecules])
    for part in parts:
        graphs, places = [], []
        for k in part:
            own = {name: all_[k] for name, all_ in given.items() if all_ is not None}
            graph, place = matrix_graph(network, molecules[k], own)
            graphs.append(graph)
            places.append(place)
        batch = {name: value.to(network.embed.device) for name, value in collate(graphs).items()}
        with torch.no_grad():
            if network.config["flow"]:
                generator = torch.Generator(network.embed.device).manual_seed(seed)
                out = sample(network, batch, generator, steps)
            else:
                out = network(batch)
        sizes = [len(one["atomic_numbers"]) for one in graphs], [one["edge_index"].shape[1] for one in graphs]
        atoms, pairs = out[FOCK_ATOMS].split(sizes[0]), out[FOCK_PAIRS].split(sizes[1])
        for k, graph, place, own_atoms, own_pairs in zip(part, graphs, places, atoms, pairs, strict=True):
            fock = matrix_of(own_atoms, own_pairs, place, graph["edge_index"].numpy())
            found.append(fock + initials[k] if network.adds_initial and initials is not None else fock)
    return found


def matrix_graph(
    network: HamiltonianNetwork, atoms: Atoms, matrices: dict[str, Matrix] | None = None
) -> tuple[Graph, NDArray[np.int64]]:
    """Build the graph of a molecule with the blocks of given matrices, and the places of its orbitals in blocks.

    Args:
        network: Network that it is for.
        atoms: Molecule.
        matrices: Matrices by name (see `keys.MATRICES`), in our order.

    Raises:
        OptionError: A matrix has the wrong shape.
        UnknownElementError: The molecule holds an element that the network was not trained for.
        StructureError: The structure is periodic, or atoms overlap.
    """
    sizes = _orbitals(network, atoms)
    if atoms.pbc.any():
        raise StructureError(f"the structure is periodic along {atoms.pbc.tolist()}; Fock matrices are of molecules")
    numbers = atoms.numbers
    graph = graph_from_arrays(numbers, atoms.positions, None, False, network.pair_cutoff)
    places = orbital_places(numbers, network.shells_of_elements, network.shells)
    for name, matrix in (matrices or {}).items():
        if matrix.shape != (sum(sizes),) * 2:
            raise OptionError(
                f"the {name} matrix has shape {matrix.shape}, and {atoms.get_chemical_formula()} has {sum(sizes)} orbitals in "
                f"the basis {network.config['basis']['name']!r}; give the matrix of this molecule in this basis"
            )
        blocks = blocks_of(np.asarray(matrix, dtype=np.float64), places, graph["edge_index"].numpy())
        graph[atoms_of(name)], graph[pairs_of(name)] = blocks
    return graph, places


def _orbitals(network: HamiltonianNetwork, atoms: Atoms) -> list[int]:
    """Number of orbitals of each atom."""
    unknown = sorted(set(atoms.numbers.tolist()) - set(network.elements))
    if unknown:
        raise UnknownElementError(
            f"{atoms.get_chemical_formula()} holds the elements {unknown}; the network knows {network.elements}: train one "
            "with these elements"
        )
    return [sum(2 * degree + 1 for degree in network.shells_of_elements[int(z)]) for z in atoms.numbers]


def _parts(sizes: list[int]) -> list[list[int]]:
    """Numbers of molecules in batches of similar size, in order."""
    parts: list[list[int]] = []
    total = 0
    for k, size in enumerate(sizes):
        if not parts or total + size > BATCH_ORBITALS:
            parts.append([])
            total = 0
        parts[-1].append(k)
        total += size
    return parts
