"""Blocks are taken from matrices and put back exactly, for molecules of different sizes in one batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlff_calc.electronic.orbitals.layout import MatrixLayout
from mlff_calc.electronic.orbitals.pairs import BlockPairs
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.errors import OptionError, OrbitalError, StructureError, UnknownElementError

NUMBERS = [8, 1, 1, 1, 6, 1, 6, 8, 8]
SYSTEMS = [0, 0, 0, 1, 1, 2, 2, 2, 2]
POSITIONS = np.random.default_rng(4).normal(size=(9, 3)) * 1.5


def loop_over_pairs(layout: MatrixLayout, matrices: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Blocks by a plain loop."""
    basis, width = layout.basis, layout.basis.width
    counts = basis.orbitals_by_atom(layout.numbers)
    systems = layout.system_index.tolist()
    starts = [int(sum(counts[k] for k in range(atom) if systems[k] == systems[atom])) for atom in range(layout.n_atoms)]

    def block(i: int, j: int) -> torch.Tensor:
        rows, columns = basis.slots(layout.numbers[i]), basis.slots(layout.numbers[j])
        found = torch.zeros(width, width, dtype=torch.float64)
        part = matrices[systems[i]][starts[i] : starts[i] + counts[i], starts[j] : starts[j] + counts[j]]
        found[np.ix_(rows, columns)] = part
        return found

    diagonal = [block(i, i) for i in range(layout.n_atoms)]
    return torch.stack(diagonal), torch.stack([block(i, j) for i, j in layout.pairs.edge_index.T.tolist()])


@pytest.mark.parametrize("cutoff", [None, 2.5])
def test_blocks_are_those_of_a_plain_loop(svp: OrbitalBasis, generator: torch.Generator, cutoff: float | None) -> None:
    pairs = None if cutoff is None else BlockPairs.within(POSITIONS, SYSTEMS, cutoff)
    layout = MatrixLayout(svp, NUMBERS, SYSTEMS, pairs)
    assert layout.n_orbitals == [24, 19, 47]
    matrices = [torch.randn(n, n, generator=generator, dtype=torch.float64) for n in layout.n_orbitals]
    flat = layout.flatten(matrices)
    diagonal, blocks = layout.gather(flat)
    wanted = loop_over_pairs(layout, matrices)
    assert torch.equal(diagonal, wanted[0])
    assert torch.equal(blocks, wanted[1])
    assert torch.equal(diagonal != 0, layout.diagonal_mask)
    assert torch.equal(blocks != 0, layout.pair_mask)
    again = layout.scatter(diagonal, blocks)
    assert torch.equal(again, flat * layout.listed)
    assert bool(layout.listed.all()) == (cutoff is None)
    assert torch.equal(layout.scatter(diagonal, torch.zeros_like(blocks)), flat * layout.on_diagonal)
    assert all(torch.equal(a, b * c) for a, b, c in zip(
        layout.dense(again), matrices, layout.dense(layout.listed), strict=True
    ))  # fmt: skip
    assert [int((layout.flat_systems == system).sum()) for system in range(3)] == [24**2, 19**2, 47**2]


def test_several_matrices_at_once(svp: OrbitalBasis, generator: torch.Generator) -> None:
    layout = MatrixLayout(svp, NUMBERS, SYSTEMS)
    flat = torch.randn(2, 3, layout.n_flat, generator=generator)
    diagonal, blocks = layout.gather(flat)
    one = layout.gather(flat[1, 2])
    assert torch.equal(diagonal[1, 2], one[0])
    assert torch.equal(blocks[1, 2], one[1])
    assert torch.equal(layout.scatter(diagonal, blocks), flat)


def test_padding_is_ignored_and_derivatives_are_exact(svp: OrbitalBasis, generator: torch.Generator) -> None:
    layout = MatrixLayout(svp, [8, 1], pairs=BlockPairs.all([0, 0]))
    flat = torch.randn(layout.n_flat, generator=generator, dtype=torch.float64, requires_grad=True)
    diagonal, blocks = layout.gather(flat)
    shifted = layout.scatter(diagonal + (~layout.diagonal_mask).double(), blocks + (~layout.pair_mask).double())
    assert torch.equal(shifted, flat)
    (gradient,) = torch.autograd.grad((layout.scatter(diagonal, blocks) ** 3).sum(), flat, create_graph=True)
    assert torch.allclose(gradient, 3 * flat**2, rtol=1e-14)
    (second,) = torch.autograd.grad(gradient.sum(), flat)
    assert torch.allclose(second, 6 * flat, rtol=1e-14)
    alone = MatrixLayout(svp, [8, 1], pairs=BlockPairs.within(9.0 * np.eye(2, 3), [0, 0], 1.0))
    (gradient,) = torch.autograd.grad((alone.scatter(*alone.gather(flat)) ** 3).sum(), flat)
    assert torch.allclose(gradient, 3 * flat**2 * alone.listed, rtol=1e-14)


@pytest.mark.parametrize("cutoff", [0.1, 2.5, 100.0])
def test_pairs_are_complete_and_know_their_reverse(cutoff: float) -> None:
    pairs = BlockPairs.within(torch.from_numpy(POSITIONS), torch.tensor(SYSTEMS), cutoff)
    found = [
        (i, j)
        for i in range(9)
        for j in range(9)
        if i != j and SYSTEMS[i] == SYSTEMS[j] and np.linalg.norm(POSITIONS[i] - POSITIONS[j]) < cutoff
    ]
    assert list(map(tuple, pairs.edge_index.T.tolist())) == found
    assert torch.equal(pairs.edge_index[:, pairs.reverse], pairs.edge_index.flip(0))
    again = BlockPairs.of_edges(pairs.edge_index, 9)
    assert torch.equal(again.reverse, pairs.reverse)
    if cutoff > 50.0:
        assert torch.equal(BlockPairs.all(SYSTEMS).edge_index, pairs.edge_index)


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ([[0, 0], [0, 1]], "paired with itself"),
        ([[0, 0, 1], [1, 1, 0]], "repeat or are not sorted"),
        ([[1, 0], [0, 1]], "repeat or are not sorted"),
        ([[0, 1, 1], [1, 0, 2]], "atoms 1 and 2 has no pair 2 and 1"),
    ],
)
def test_pairs_that_are_not_symmetric_are_refused(edges: list[list[int]], words: str) -> None:
    with pytest.raises(StructureError, match=words):
        BlockPairs.of_edges(edges, 3)
    with pytest.raises(OptionError, match="cutoff is 0"):
        BlockPairs.within(POSITIONS, SYSTEMS, 0.0)


def test_layouts_that_do_not_fit_are_refused(svp: OrbitalBasis) -> None:
    with pytest.raises(StructureError, match="not sorted"):
        MatrixLayout(svp, [1, 1, 1], [0, 1, 0])
    with pytest.raises(StructureError, match="2 atoms"):
        MatrixLayout(svp, [1, 1, 1], [0, 1])
    with pytest.raises(StructureError, match="two systems"):
        MatrixLayout(svp, [1, 1], [0, 1], BlockPairs.all([0, 0]))
    with pytest.raises(StructureError, match="do not fit the 2 atoms"):
        MatrixLayout(svp, [1, 1], [0, 0], BlockPairs.all([0, 0, 0]))
    with pytest.raises(UnknownElementError, match="7"):
        MatrixLayout(svp, [1, 7])
    layout = MatrixLayout(svp, [8, 1, 1])
    with pytest.raises(OrbitalError, match="576"):
        layout.gather(torch.zeros(575))
    with pytest.raises(OrbitalError, match="pairs have shape"):
        layout.scatter(torch.zeros(3, 14, 14), torch.zeros(5, 14, 14))
    with pytest.raises(OrbitalError, match="sizes"):
        layout.flatten([np.zeros((23, 23))])


def test_a_single_atom_and_an_empty_batch(svp: OrbitalBasis) -> None:
    layout = MatrixLayout(svp, [1])
    flat = torch.arange(25.0)
    assert torch.equal(layout.scatter(*layout.gather(flat)), flat)
    empty = MatrixLayout(svp, [])
    assert empty.scatter(*empty.gather(torch.zeros(0))).shape == (0,)
    assert empty.dense(torch.zeros(0)) == []
