"""Fock matrices of molecules from a network, in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from mlff_calc.electronic.hamiltonian.flow import sample
from mlff_calc.electronic.hamiltonian.keys import FOCK_ATOMS, FOCK_PAIRS, atoms_of, pairs_of
from mlff_calc.electronic.hamiltonian.model import HamiltonianNetwork
from mlff_calc.electronic.orbitals.layout import MatrixLayout
from mlff_calc.electronic.orbitals.pairs import BlockPairs
from mlff_calc.errors import OptionError, StructureError, UnknownElementError
from mlff_calc.graph.keys import Graph
from mlff_calc.graph.many import NeighborLists
from mlff_calc.memory import keep_freed_memory

Matrix = NDArray[np.float64]
BATCH_ENTRIES = 500_000
"""Largest number of entries of matrices in a batch, about 100 ethanols in def2-SVP. Raising it takes more memory."""


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
        seed: Seed of the noise of a flow. Predictions do not depend on the other molecules.

    Returns:
        Matrices [n_orbitals, n_orbitals], Hartree, in our order of orbitals.

    Raises:
        OptionError: Matrices that the network needs are missing, or have the wrong number or shape.
        UnknownElementError: A molecule holds an element that the network was not trained for.
        StructureError: A structure is periodic, or atoms overlap.
    """
    given = {name: one for name, one in (("overlap", overlaps), ("initial", initials)) if one is not None}
    for name in ("overlap", "initial"):
        if (name in network.inputs or (name == "initial" and network.needs_initial)) and name not in given:
            raise OptionError(f"the network needs the {name} matrix of each molecule; give {name}s")
        if name in given and len(given[name]) != len(molecules):
            raise OptionError(f"there are {len(given[name])} {name}s of {len(molecules)} molecules; give one of each")
    keep_freed_memory()
    found: list[Matrix] = []
    for part in _parts([network.basis.n_orbitals(one.numbers) ** 2 for one in _checked(network, molecules)]):
        own = {name: [matrices[k] for k in part] for name, matrices in given.items()}
        graph, layout = matrix_graph(network, [molecules[k] for k in part], own, network.inputs)
        graph = {name: value.to(network.embed.device) for name, value in graph.items()}
        with torch.no_grad():
            out = sample(network, graph, seed, steps) if network.config["flow"] else network(graph)
        flat = layout.scatter(out[FOCK_ATOMS].double().cpu(), out[FOCK_PAIRS].double().cpu())
        if network.adds_initial:
            flat = flat + _flat(layout, own["initial"])
        found += [one.numpy() for one in layout.dense(flat)]
    return found


def matrix_graph(
    network: HamiltonianNetwork,
    molecules: Sequence[Atoms],
    matrices: Mapping[str, Sequence[Matrix]] | None = None,
    read: Sequence[str] = (),
) -> tuple[Graph, MatrixLayout]:
    """Build the graph of molecules with the blocks of given matrices, and the layout of their matrices.

    Args:
        network: Network that it is for.
        molecules: At least one molecule.
        matrices: Matrices of all molecules by name, in our order.
        read: Names of the matrices whose blocks go into the graph; see `keys.MATRICES`.

    Raises:
        OptionError: A matrix has the wrong shape.
        UnknownElementError: A molecule holds an element that the network was not trained for.
        StructureError: A structure is periodic, or atoms overlap.
    """
    _checked(network, molecules)
    sizes = np.array([len(one) for one in molecules])
    numbers = np.concatenate([one.numbers for one in molecules]).astype(np.int64)
    n = len(molecules)
    lists = NeighborLists(
        numbers, sizes, np.zeros((n, 3, 3)), np.zeros((n, 3), dtype=bool), network.pair_cutoff, skin=0.0
    )  # fmt: skip
    graph = lists.graph(np.concatenate([one.positions for one in molecules]))
    layout = MatrixLayout(
        network.basis, numbers, graph["system_index"], BlockPairs.of_edges(graph["edge_index"], len(numbers))
    )
    for name, given in (matrices or {}).items():
        for atoms, matrix in zip(molecules, given, strict=True):
            size = network.basis.n_orbitals(atoms.numbers)
            if matrix.shape != (size, size):
                raise OptionError(
                    f"the {name} matrix has shape {matrix.shape}, and {atoms.get_chemical_formula()} has {size} orbitals in "
                    f"the basis {network.basis.name!r}; give the matrix of this molecule in this basis"
                )
        if name in read:
            graph[atoms_of(name)], graph[pairs_of(name)] = layout.gather(_flat(layout, given))
    return graph, layout


def _flat(layout: MatrixLayout, matrices: Sequence[Matrix]) -> Tensor:
    return layout.flatten([np.asarray(one, dtype=np.float64) for one in matrices])


def _checked(network: HamiltonianNetwork, molecules: Sequence[Atoms]) -> Sequence[Atoms]:
    """Return molecules that the network knows.

    Raises:
        UnknownElementError: A molecule holds an element that the network was not trained for.
        StructureError: A structure is periodic.
    """
    for atoms in molecules:
        unknown = sorted(set(atoms.numbers.tolist()) - set(network.elements))
        if unknown:
            raise UnknownElementError(
                f"{atoms.get_chemical_formula()} holds the elements {unknown}; the network knows {list(network.elements)}: "
                "take or train one with these elements"
            )
        if atoms.pbc.any():
            raise StructureError(f"the structure is periodic along {atoms.pbc.tolist()}; Fock matrices are of molecules")
    return molecules


def _parts(sizes: list[int]) -> list[list[int]]:
    """Numbers of molecules by batch, in order; `sizes` are numbers of entries of their matrices."""
    parts: list[list[int]] = []
    total = 0
    for k, size in enumerate(sizes):
        if not parts or total + size > BATCH_ENTRIES:
            parts.append([])
            total = 0
        parts[-1].append(k)
        total += size
    return parts
