"""Maps in the frames of pairs are full tensor products with harmonics, and commute with rotations and mirrors."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3
from torch import Tensor

from mlff_calc.electronic.hamiltonian.frames import FromBothEnds, FromDegrees, PairFrames, ToDegrees, end_signs
from mlff_calc.nn.frames import reduced_orders
from mlff_calc.nn.harmonics import SphericalHarmonics

DOUBLE = torch.float64


def _directions(n: int, seed: int = 0) -> Tensor:
    found = torch.randn(n, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
    return found / found.norm(dim=1, keepdim=True)


def _blocks(
    inward: FromDegrees, outward: ToDegrees, l_max: int, channels: int
) -> dict[tuple[int, int, int, int], list[Tensor]]:
    """Maps [channels, channels] at m = 0, 1, ... between degrees and parities: (parity, l, parity, l) -> one for each m."""
    found: dict[tuple[int, int, int, int], list[Tensor]] = {}
    for m in range(l_max + 1):
        n_m = l_max + 1 - m
        if m == 0:
            both = torch.zeros(2, n_m, channels, 2, n_m, channels, dtype=DOUBLE)
            for parity in (0, 1):
                whole = inward.zeroth[parity] @ outward.zeroth[parity]
                both[parity, :, :, parity] = whole.view(n_m, channels, n_m, channels)
        else:
            both = (inward.orders[m - 1] @ outward.orders[m - 1]).view(2, n_m, channels, 2, n_m, channels)
        for p in (0, 1):
            for q in (0, 1):
                for k in range(m, l_max + 1):
                    for n in range(m, l_max + 1):
                        found.setdefault((p, k, q, n), []).append(both[p, k - m, :, q, n - m])
    return found


@pytest.mark.parametrize("l_max", [2, 3, 4])
def test_maps_in_frames_are_full_tensor_products(l_max: int) -> None:
    torch.manual_seed(l_max)
    channels = 2
    width = 2 * (l_max + 1) * channels
    inward, outward = FromDegrees(l_max, channels, width).double(), ToDegrees(l_max, width, channels).double()
    directions = _directions(4)
    features = torch.randn(4, 2, (l_max + 1) ** 2, channels, dtype=DOUBLE)
    turns = PairFrames(l_max)(directions)
    with torch.no_grad():
        mapped = turns.transpose(2, 3) @ outward(inward(turns @ features))
        maps = _blocks(inward, outward, l_max, channels)
    lengths = SphericalHarmonics(2 * l_max)(directions)
    harmonics = [torch.ones(4, 1, dtype=DOUBLE), *lengths.split([2 * k + 1 for k in range(1, 2 * l_max + 1)], dim=1)]
    product = torch.zeros_like(mapped)
    for (p, k, q, n), orders in maps.items():
        low = 1 if p != q else 0
        degrees = [f for f in range(abs(k - n), k + n + 1) if (k + n + f) % 2 == low]
        couple = {f: o3.wigner_3j(k, f, n, dtype=DOUBLE) for f in degrees}
        sign = -1.0 if (p, q) == (1, 0) else 1.0
        table = [[sign * couple[f][k - m if low else k + m, f, n + m] for f in degrees] for m in range(low, min(k, n) + 1)]
        if not degrees:
            continue
        given = torch.stack(orders[low:]).flatten(1)
        weights = torch.linalg.solve(torch.tensor(table, dtype=DOUBLE), given).view(-1, channels, channels)
        here = features[:, p, k * k : (k + 1) ** 2]
        for f, weight in zip(degrees, weights, strict=True):
            part = torch.einsum("abc,eax,eb,xy->ecy", couple[f], here, harmonics[f], weight)
            product[:, q, n * n : (n + 1) ** 2] += part
    assert torch.allclose(mapped, product, rtol=0.0, atol=1e-10)
    assert mapped.abs().max() > 0.1


def test_turned_pseudo_features_are_orthogonal_too() -> None:
    turns = PairFrames(3)(_directions(5, seed=1))
    identity = torch.eye(16, dtype=DOUBLE).expand(5, 2, 16, 16)
    assert torch.allclose(turns @ turns.transpose(2, 3), identity, atol=1e-12)


def test_both_directions_of_a_pair_share_one_turn() -> None:
    l_max, channels, width, n = 3, 2, 5, 4
    torch.manual_seed(1)
    both = FromBothEnds(l_max, channels, width).double()
    plain = FromDegrees(l_max, 2 * channels, width).double()
    plain.load_state_dict(both.state_dict())
    first, second = torch.randn(2, n, 2, (l_max + 1) ** 2, channels, dtype=DOUBLE)
    shift, turns = torch.randn(2 * n, width, dtype=DOUBLE), PairFrames(l_max)(_directions(n))
    signs = torch.tensor([(-1.0) ** d * (1.0 if m >= 0 else -1.0) for d, m in reduced_orders(l_max, l_max)], dtype=DOUBLE)
    pseudo = torch.tensor([(-1.0) ** d * (1.0 if m <= 0 else -1.0) for d, m in reduced_orders(l_max, l_max)], dtype=DOUBLE)
    turned = turns * torch.stack([signs, pseudo]).unsqueeze(2)  # half a turn about x, after the turn to the frame
    directions = turned[:, 0, 1, 1:4]  # of degree 1 and order 0: the polar axis
    assert torch.allclose(directions, -_directions(n), atol=1e-12)
    with torch.no_grad():
        forth = plain(turns @ torch.cat([first, second], dim=3), shift[:n])
        back = plain(turned @ torch.cat([second, first], dim=3), shift[n:])
        mirrored = second * end_signs(l_max)
        found = both(turns @ torch.cat([first + mirrored, first - mirrored], dim=3), shift)
    assert torch.allclose(found, torch.cat([forth, back], dim=1), rtol=0.0, atol=1e-12)
