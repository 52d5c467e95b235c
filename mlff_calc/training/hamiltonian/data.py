"""Molecules with matrices by part, checked, and as batches of padded blocks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from mlff_calc.datasets.matrix_frames import MatrixFrame
from mlff_calc.datasets.splits import split_indices
from mlff_calc.electronic.hamiltonian import HamiltonianNetwork
from mlff_calc.electronic.hamiltonian.keys import FOCK_ATOMS, FOCK_PAIRS, atoms_of, pairs_of
from mlff_calc.electronic.hamiltonian.predict import matrix_graph
from mlff_calc.electronic.orbitals.layout import MatrixLayout
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.graph.keys import Graph, declare
from mlff_calc.training.data import BatchSource
from mlff_calc.training.hamiltonian.files import MatrixFrames, n_occupied, read_matrices
from mlff_calc.training.hamiltonian.recipe import HamiltonianRecipe
from mlff_calc.training.packed import PackedFrames
from mlff_calc.training.streamed import StreamedFrames

ORBITALS = declare(
    "orbitals", "atom", (None, None), None, "", "coefficients of occupied orbitals and the lowest empty one, then zeros"
)
MOST_BYTES = 512 * 1024**2
"""Largest size of graphs and labels that are all kept in memory. Raising it saves making graphs again in every epoch."""


def read_parts(recipe: HamiltonianRecipe) -> dict[str, MatrixFrames]:
    """Read the file of a recipe, and draw the parts.

    Raises:
        RecipeError: The file is missing, is of another level or order than the recipe says, or lacks matrices that the
            recipe needs.
        DatasetError: The file cannot be read or holds too few molecules.
        OptionError: The level of the file is missing, or its format is unknown.
    """
    data = recipe.data
    given = {name: value for name, value in (("xc", data.xc), ("basis", data.basis)) if value is not None}
    frames = read_matrices(recipe.data_file(), data.format, given, data.order)
    _check_told(recipe, frames, given)
    section = recipe.hamiltonian
    reads = section.fine_tune_from is None and (section.target == "initial" or "initial" in section.inputs)
    if reads and frames[0].initial is None:  # for a network to fine-tune, see `start_from`
        raise RecipeError(
            f"{recipe.origin}: hamiltonian.target or inputs need Fock matrices of the initial density, which "
            f"{frames.path} lacks; set target: means, and leave `initial` out of inputs"
        )
    return parts_of(frames, data.split.model_dump())


def _check_told(recipe: HamiltonianRecipe, frames: MatrixFrames, level: dict[str, str]) -> None:
    """Refuse a level or order that the file contradicts."""
    held = SCFSettings.from_dict(frames.settings) if level else None
    different = held.differences(SCFSettings.from_dict(frames.settings | level)) if held else []
    if different:
        raise RecipeError(
            f"{recipe.origin}: {frames.path} knows its level, which is another than data.xc and data.basis say: "
            f"{', '.join(different)}; leave them out, or name another file"
        )
    order = frames.source[0].order
    if "order" in recipe.data.model_fields_set and recipe.data.order != order:
        raise RecipeError(
            f"{recipe.origin}: data.order is {recipe.data.order}, and {frames.path} knows its order, {order}; leave it out"
        )


def parts_of(frames: MatrixFrames, split: Mapping[str, int | float | None]) -> dict[str, MatrixFrames]:
    """Cut molecules into parts, as `MatrixSplit` says; a part without molecules is left out.

    Raises:
        DatasetError: There are too few molecules.
    """
    seed = int(split["seed"] or 0)
    drawn = split_indices(len(frames), split["train"], split["valid"], split["test"], seed=seed)
    if not len(drawn["valid"]):
        raise DatasetError(f"{frames.path} holds {len(frames)} molecules, which leaves none for the validation; give more")
    return {part: frames.chosen([int(k) for k in numbers]) for part, numbers in drawn.items() if len(numbers)}


class MatrixBatches:
    """Maker of graphs and labels of molecules.

    Args:
        frames: Molecules.
        network: Network that they are for.
        orbitals: Whether labels have the orbitals of the reference.
    """

    def __init__(self, frames: MatrixFrames, network: HamiltonianNetwork, *, orbitals: bool = False) -> None:
        self.frames, self.network, self.orbitals = frames, network, orbitals
        self.n_columns = 1 + max(map(n_occupied, frames)) if orbitals else 0

    def make(self, number: int) -> tuple[Graph, dict[str, Tensor]]:
        """Make graph and labels of a molecule by its number, in the precision of the network."""
        frame, network = self.frames[number], self.network
        given = {"overlap": frame.overlap, "initial": frame.initial}
        own = {name: [matrix] for name, matrix in given.items() if matrix is not None}
        graph, layout = matrix_graph(network, [frame.atoms], own, network.inputs)
        target = frame.fock - frame.initial if network.adds_initial and frame.initial is not None else frame.fock
        dtype = network.embed.dtype
        blocks = layout.gather(torch.from_numpy(target).flatten())
        labels = {name: one.to(dtype) for name, one in zip((FOCK_ATOMS, FOCK_PAIRS), blocks, strict=True)}
        if self.orbitals:
            labels[ORBITALS] = self._columns(frame, layout).to(dtype)
        read = [key for name in network.inputs if name in own for key in (atoms_of(name), pairs_of(name))]
        graph |= {key: graph[key].to(dtype) for key in read}
        return graph, labels

    def _columns(self, frame: MatrixFrame, layout: MatrixLayout) -> Tensor:
        """Orbitals of the reference by padded orbitals of each atom [n_atoms, width, n_columns]."""
        _, columns = scipy.linalg.eigh(frame.fock, frame.overlap)
        columns = columns[:, : n_occupied(frame) + 1]
        ranks = layout.basis.ranks[layout.kinds.numpy()]
        counts = (ranks >= 0).sum(axis=1)
        rows = np.where(ranks >= 0, ranks + (np.cumsum(counts) - counts)[:, None], -1)
        padded = np.pad(columns, [(0, 1), (0, self.n_columns - columns.shape[1])])  # the last row, of -1, is zero
        return torch.from_numpy(padded[rows])

    def source(self) -> BatchSource:
        """Source of batches: all in memory where they are small, or made on demand."""
        first = self.make(0)
        size = sum(tensor.nbytes for each in first for tensor in each.values())
        if size * len(self.frames) > MOST_BYTES:
            return StreamedFrames(partial(_make, self), len(self.frames), cache_bytes=MOST_BYTES)
        made = [first, *(self.make(k) for k in range(1, len(self.frames)))]
        return PackedFrames([graph for graph, _ in made], [labels for _, labels in made])


def _make(batches: MatrixBatches, number: int) -> tuple[Graph, dict[str, Tensor]]:
    return batches.make(number)


def measure_scales(network: HamiltonianNetwork, frames: MatrixFrames) -> None:
    """Set means and scales of a network from molecules, which are all read at once."""
    batches = MatrixBatches(frames, network)
    batch = PackedFrames(*zip(*[batches.make(k) for k in range(len(frames))], strict=True)).batch(range(len(frames)))
    species, ends = network.species_of(batch.graph)
    network.scales.measure(batch.labels[FOCK_ATOMS], batch.labels[FOCK_PAIRS], species, ends)
    for name in network.config["inputs"]:
        network.scales_of(name).measure(batch.graph[atoms_of(name)], batch.graph[pairs_of(name)], species, ends)
