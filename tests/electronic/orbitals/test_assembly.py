"""Assembled matrices are symmetric, equivariant under O(3), independent of the batch, and can be any matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mlff_calc.electronic.orbitals.assembly import BlockAssembly, ElementBlocks
from mlff_calc.electronic.orbitals.block_coupling import BlockCoupling
from mlff_calc.electronic.orbitals.contraction import BlockContraction
from mlff_calc.electronic.orbitals.groups import RowGroups
from mlff_calc.electronic.orbitals.layout import MatrixLayout
from mlff_calc.electronic.orbitals.pairs import BlockPairs
from mlff_calc.electronic.orbitals.rotation import rotate, shell_rotations
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.errors import OptionError

NUMBERS, SYSTEMS = [8, 1, 1, 1, 8, 1], [0, 0, 0, 1, 1, 1]
CHANNELS = 3


def random_features(layout: MatrixLayout, l_max: int, generator: torch.Generator) -> list[torch.Tensor]:
    """`node_true`, `pair_true`, `node_pseudo`, `pair_pseudo`."""
    rows = [layout.n_atoms, layout.n_pairs] * 2
    return [torch.randn(n, (l_max + 1) ** 2, CHANNELS, generator=generator, dtype=torch.float64) for n in rows]


def turn_features(features: list[torch.Tensor], rotation: np.ndarray, l_max: int) -> list[torch.Tensor]:
    """Rotate or reflect features of both parities."""
    true = torch.block_diag(*shell_rotations(rotation, l_max))
    pseudo = true * float(np.sign(np.linalg.det(rotation)))
    return [turn @ each for turn, each in zip([true, true, pseudo, pseudo], features, strict=True)]


def made(kind: type, *arguments: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return kind(*arguments).double().requires_grad_(False)


@pytest.mark.parametrize("l_max", [4, 6])
def test_matrices_turn_with_the_features(tzvp: OrbitalBasis, transformation: np.ndarray, generator: Any, l_max: int) -> None:
    layout = MatrixLayout(tzvp, NUMBERS, SYSTEMS)
    assembly = made(BlockAssembly, tzvp, l_max, CHANNELS)
    features = random_features(layout, l_max, generator)
    before = layout.dense(layout.scatter(*assembly(layout, *features)))
    after = layout.dense(layout.scatter(*assembly(layout, *turn_features(features, transformation, l_max))))
    for system, (first, second) in enumerate(zip(before, after, strict=True)):
        numbers = [n for n, s in zip(NUMBERS, SYSTEMS, strict=True) if s == system]
        turned = rotate(first, transformation, tzvp, numbers)
        assert float((turned - second).abs().max()) < 1e-12 * float(first.abs().max())
        assert float((first - second).abs().max()) > 0.1 * float(first.std())
        assert torch.equal(first, first.T)


def test_a_wrong_parity_is_seen(tzvp: OrbitalBasis, generator: torch.Generator) -> None:
    layout = MatrixLayout(tzvp, [8, 1])
    assembly = made(BlockAssembly, tzvp, 4, CHANNELS)
    features = random_features(layout, 4, generator)
    true, pair, *_ = turn_features(features, -np.eye(3), 4)
    first = layout.dense(layout.scatter(*assembly(layout, *features)))[0]
    second = layout.dense(layout.scatter(*assembly(layout, true, pair, features[2], features[3])))[0]
    assert float((rotate(first, -np.eye(3), tzvp, [8, 1]) - second).abs().max()) > 0.1


def test_atoms_may_be_renamed(svp: OrbitalBasis, generator: torch.Generator) -> None:
    numbers = [8, 1, 1, 8]
    order = torch.tensor([2, 0, 3, 1])
    layout = MatrixLayout(svp, numbers)
    other = MatrixLayout(svp, [numbers[k] for k in order])
    assembly = made(BlockAssembly, svp, 4, CHANNELS)
    node, pair, node_pseudo, pair_pseudo = random_features(layout, 4, generator)
    first, second = order[other.pairs.edge_index]
    place = first * 3 + second - (second > first).long()
    assert torch.equal(layout.pairs.edge_index[:, place], torch.stack([first, second]))
    diagonal, pairs = assembly(layout, node, pair, node_pseudo, pair_pseudo)
    renamed = assembly(other, node[order], pair[place], node_pseudo[order], pair_pseudo[place])
    assert torch.allclose(renamed[0], diagonal[order], rtol=1e-12, atol=1e-14)
    assert torch.allclose(renamed[1], pairs[place], rtol=1e-12, atol=1e-14)


def test_a_batch_equals_single_molecules(svp: OrbitalBasis, generator: torch.Generator) -> None:
    layout = MatrixLayout(svp, NUMBERS, SYSTEMS)
    assembly = made(BlockAssembly, svp, 4, CHANNELS)
    features = random_features(layout, 4, generator)
    matrices = layout.dense(layout.scatter(*assembly(layout, *features)))
    for system, matrix in enumerate(matrices):
        atoms, pairs = slice(3 * system, 3 * system + 3), slice(6 * system, 6 * system + 6)
        single = MatrixLayout(svp, NUMBERS[atoms])
        own = [features[0][atoms], features[1][pairs], features[2][atoms], features[3][pairs]]
        assert torch.allclose(single.dense(single.scatter(*assembly(single, *own)))[0], matrix, rtol=1e-12, atol=1e-14)


def test_blocks_have_no_orbitals_that_elements_lack(svp: OrbitalBasis, generator: torch.Generator) -> None:
    layout = MatrixLayout(svp, NUMBERS, SYSTEMS)
    diagonal, pairs = made(BlockAssembly, svp, 4, CHANNELS)(layout, *random_features(layout, 4, generator))
    assert torch.equal(diagonal != 0, layout.diagonal_mask)
    assert torch.equal(pairs != 0, layout.pair_mask)


def test_pairs_fade_out_whole(svp: OrbitalBasis, generator: torch.Generator) -> None:
    layout = MatrixLayout(svp, [8, 1])
    assembly = made(BlockAssembly, svp, 4, CHANNELS)
    features = random_features(layout, 4, generator)
    whole, faded = (assembly(layout, *features, fade=fade) for fade in (None, torch.tensor([0.25, 0.25]).double()))
    assert torch.equal(faded[0], whole[0])
    assert torch.allclose(faded[1], 0.25 * whole[1], rtol=1e-14)


def test_weights_depend_on_both_elements(svp: OrbitalBasis, generator: torch.Generator) -> None:
    blocks = made(ElementBlocks, svp, 4, CHANNELS, 2)
    features = torch.randn(1, 25, CHANNELS, generator=generator, dtype=torch.float64)
    found = [blocks(RowGroups(torch.tensor([kind])), features, features)[0, 0, 0] for kind in range(9)]
    assert len({round(float(each), 8) for each in found}) == 9


@pytest.mark.parametrize(("l1", "l2"), [(0, 1), (1, 1), (1, 2), (2, 2), (2, 3), (3, 3)])
@pytest.mark.parametrize("pseudo", [True, False])
def test_any_block_can_be_represented(l1: int, l2: int, pseudo: bool) -> None:
    basis = OrbitalBasis.of_shells("two", {1: (l1,), 2: (l2,)})
    blocks = made(ElementBlocks, basis, l1 + l2, 1, 2, pseudo, False)
    n = (l1 + l2 + 1) ** 2
    basis_vectors = torch.eye(2 * n if pseudo else n, dtype=torch.float64)
    groups = RowGroups(torch.ones(len(basis_vectors), dtype=torch.int64))
    true = basis_vectors[:, :n].unsqueeze(2)
    made_blocks = blocks(groups, true, basis_vectors[:, n:].unsqueeze(2) if pseudo else None)
    rows, columns = basis.slots(1), basis.slots(2)
    block = made_blocks[:, rows][:, :, columns].flatten(1)
    full = (2 * l1 + 1) * (2 * l2 + 1)
    even = sum(2 * degree + 1 for degree in range(abs(l1 - l2), l1 + l2 + 1) if (l1 + l2 + degree) % 2 == 0)
    assert int(torch.linalg.matrix_rank(block)) == (full if pseudo else even)


@pytest.mark.parametrize(("l_max", "complete"), [(6, True), (4, False)])
def test_coefficients_and_blocks_are_the_same_thing(
    tzvp: OrbitalBasis, generator: torch.Generator, l_max: int, complete: bool
) -> None:
    coupling = BlockCoupling(tzvp, l_max).double()
    blocks = torch.randn(4, tzvp.width, tzvp.width, generator=generator, dtype=torch.float64)
    coefficients = coupling.reduce(blocks)
    again = coupling.expand(coefficients)
    assert torch.allclose(again, blocks, atol=1e-13) == complete
    for first, second in zip(coupling.reduce(again), coefficients, strict=True):
        assert torch.allclose(first, second, atol=1e-13)
    assert (coupling.n_coefficients == tzvp.width**2) == complete


@pytest.mark.parametrize("l_max", [2, 5])
def test_contracted_features_turn_with_the_matrix(
    svp: OrbitalBasis, transformation: np.ndarray, generator: torch.Generator, l_max: int
) -> None:
    numbers = [8, 8, 1]
    layout = MatrixLayout(svp, numbers)
    contraction = made(BlockContraction, svp, l_max, CHANNELS)
    matrix = torch.randn(33, 33, generator=generator, dtype=torch.float64)
    turned = rotate(matrix, transformation, svp, numbers)
    before = list(contraction(layout, *layout.gather(matrix.flatten())))
    after = contraction(layout, *layout.gather(turned.flatten()))
    for first, second in zip(turn_features(before, transformation, l_max), after, strict=True):
        assert float((first - second).abs().max()) < 1e-12 * float(first.abs().max())
    used = [(each.abs().amax(dim=(0, 2)) > 1e-3).tolist() for each in before]
    degrees = np.repeat(np.arange(l_max + 1), 2 * np.arange(l_max + 1) + 1)
    assert used[1] == (degrees <= 4).tolist()
    assert used[3] == ((degrees > 0) & (degrees <= 3)).tolist()


def test_contraction_without_pseudo_features(svp: OrbitalBasis) -> None:
    layout = MatrixLayout(svp, [8, 1])
    found = made(BlockContraction, svp, 2, CHANNELS, False)(layout, *layout.gather(torch.ones(19**2, dtype=torch.float64)))
    assert [each is None for each in found] == [False, False, True, True]


@pytest.mark.parametrize("pairs", ["none", "all"])
def test_derivatives_are_exact(pairs: str, generator: torch.Generator) -> None:
    basis = OrbitalBasis.of_shells("sp", {1: (0,), 8: (1,)})
    listed = BlockPairs.all([0, 0]) if pairs == "all" else BlockPairs.of_edges(np.zeros((2, 0), dtype=np.int64), 2)
    layout = MatrixLayout(basis, [8, 1], pairs=listed)
    assembly, contraction = made(BlockAssembly, basis, 2, 2), made(BlockContraction, basis, 2, 2)
    rows = [layout.n_atoms, layout.n_pairs] * 2
    features = [torch.randn(n, 9, 2, generator=generator, dtype=torch.float64, requires_grad=True) for n in rows]

    def through(*given: torch.Tensor) -> torch.Tensor:
        found = contraction(layout, *assembly(layout, *given))
        return torch.cat([each.flatten() ** 2 for each in found])

    assert torch.autograd.gradcheck(through, features, fast_mode=True)
    assembly.requires_grad_()
    through(*features).sum().backward()
    missing = [name for name, each in assembly.named_parameters() if each.grad is None]
    assert all(name.startswith("pairs.") for name in missing) if pairs == "none" else not missing


def test_features_that_do_not_fit_are_refused(svp: OrbitalBasis, tzvp: OrbitalBasis, generator: torch.Generator) -> None:
    layout = MatrixLayout(svp, [8, 1])
    assembly = made(BlockAssembly, svp, 4, CHANNELS)
    features = random_features(layout, 4, generator)
    with pytest.raises(OptionError, match="pseudo features are missing"):
        assembly(layout, *features[:2])
    with pytest.raises(OptionError, match="pseudo=False"):
        made(BlockAssembly, svp, 4, CHANNELS, False)(layout, *features)
    with pytest.raises(OptionError, match=r"\(2, 24, 3\)"):
        assembly(layout, features[0][:, 1:], *features[1:])
    other = MatrixLayout(tzvp, [8, 1])
    with pytest.raises(OptionError, match="def2-tzvp"):
        assembly(other, *features)
    with pytest.raises(OptionError, match="def2-tzvp"):
        made(BlockContraction, svp, 2, CHANNELS)(other, torch.zeros(2, 31, 31), torch.zeros(2, 31, 31))
