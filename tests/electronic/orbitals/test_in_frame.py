"""Blocks filled in the frame of a pair turn with space, have the parity of their shells, and can be any block."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlff_calc.electronic.orbitals.assembly import symmetric_blocks
from mlff_calc.electronic.orbitals.in_frame import FrameBlocks
from mlff_calc.electronic.orbitals.layout import MatrixLayout
from mlff_calc.electronic.orbitals.rotation import OUR_AXES, rotate, shell_rotations
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.errors import OptionError
from mlff_calc.nn.frames import EdgeFrames, reduced_orders

NUMBERS = [8, 1, 1]
POSITIONS = np.array([[0.1, 0.2, 0.3], [0.9, 0.4, -0.1], [-0.3, 1.0, 0.5]])
CHANNELS = 3


def frames(layout: MatrixLayout, positions: np.ndarray, l_max: int, m_max: int) -> torch.Tensor:
    first, second = layout.pairs.edge_index
    vectors = torch.from_numpy(positions)[second] - torch.from_numpy(positions)[first]
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    return EdgeFrames(l_max, m_max).double()(vectors[:, list(OUR_AXES)])


def made(*arguments: object) -> FrameBlocks:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return FrameBlocks(*arguments).double().requires_grad_(False)  # type: ignore[arg-type]


@pytest.mark.parametrize(("l_max", "m_max"), [(4, 4), (6, 6), (4, 3)])
@pytest.mark.parametrize("pseudo", [True, False])
def test_blocks_turn_with_space(
    tzvp: OrbitalBasis, transformation: np.ndarray, generator: torch.Generator, l_max: int, m_max: int, pseudo: bool
) -> None:
    layout = MatrixLayout(tzvp, NUMBERS)
    module = made(tzvp, l_max, m_max, CHANNELS, pseudo)
    turn = torch.block_diag(*shell_rotations(transformation, l_max))
    sign = float(np.sign(np.linalg.det(transformation)))
    features = torch.randn(2, layout.n_pairs, (l_max + 1) ** 2, CHANNELS, generator=generator, dtype=torch.float64)

    def matrix(positions: np.ndarray, given: torch.Tensor) -> torch.Tensor:
        wigner = frames(layout, positions, l_max, m_max)
        inside = [wigner @ each for each in given]
        blocks = module(layout.pair_groups, wigner, inside[0], inside[1] if pseudo else None)
        assert torch.equal(blocks != 0, layout.pair_mask)
        diagonal = torch.zeros(3, tzvp.width, tzvp.width, dtype=torch.float64)
        return layout.dense(layout.scatter(*symmetric_blocks(layout, diagonal, blocks)))[0]

    before = matrix(POSITIONS, features)
    after = matrix(POSITIONS @ transformation.T, torch.stack([turn @ features[0], sign * turn @ features[1]]))
    turned = rotate(before, transformation, tzvp, NUMBERS)
    assert float((turned - after).abs().max()) < 1e-12 * float(before.abs().max())
    assert float((before - after).abs().max()) > 0.1 * float(before.std())


@pytest.mark.parametrize(("l1", "l2"), [(0, 1), (1, 1), (1, 2), (2, 2), (3, 3)])
@pytest.mark.parametrize("pseudo", [True, False])
def test_any_block_can_be_represented(l1: int, l2: int, pseudo: bool) -> None:
    basis = OrbitalBasis.of_shells("two", {1: (l1,), 2: (l2,)})
    l_max = l1 + l2
    module = made(basis, l_max, l_max, 2 * l_max + 1, pseudo, False)
    n_components = len(reduced_orders(l_max, l_max)) * (2 * l_max + 1)
    unit = torch.eye(n_components, dtype=torch.float64).view(n_components, -1, 2 * l_max + 1)
    layout = MatrixLayout(basis, [1, 2] * (2 * n_components), np.repeat(np.arange(2 * n_components), 2))
    wigner = frames(layout, np.tile([[0.0, 0.0, 0.0], [0.3, -0.5, 0.2]], (2 * n_components, 1)), l_max, l_max)
    zero = torch.zeros_like(unit)
    true = torch.cat([unit, zero]).repeat_interleave(2, dim=0)
    mirrored = torch.cat([zero, unit]).repeat_interleave(2, dim=0)
    blocks = module(layout.pair_groups, wigner, true, mirrored if pseudo else None)[::2]
    block = blocks[:, basis.slots(1)][:, :, basis.slots(2)].flatten(1)
    odd = 0 if pseudo else min(l1, l2)  # the odd components of m1 = m2 > 0
    assert int(torch.linalg.matrix_rank(block)) == (2 * l1 + 1) * (2 * l2 + 1) - odd


def test_what_does_not_fit_is_refused(svp: OrbitalBasis) -> None:
    with pytest.raises(OptionError, match="m_max is 1"):
        FrameBlocks(svp, 4, 1, CHANNELS)
    layout = MatrixLayout(svp, NUMBERS)
    wigner = frames(layout, POSITIONS, 4, 2)
    features = torch.zeros(layout.n_pairs, wigner.shape[1], CHANNELS, dtype=torch.float64)
    with pytest.raises(OptionError, match="pseudo=True"):
        made(svp, 4, 2, CHANNELS)(layout.pair_groups, wigner, features)
    with pytest.raises(OptionError, match="has shape"):
        made(svp, 4, 2, CHANNELS)(layout.pair_groups, wigner, features, features[:, 1:])
