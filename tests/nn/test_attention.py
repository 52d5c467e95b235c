"""Attention weights: bounded, smooth at the cutoff, with a null neighbour."""

from __future__ import annotations

import torch

from mlff_calc.nn.attention import GraphAttention


def attention() -> GraphAttention:
    return GraphAttention(l_max=1, m_max=1, channels=8, hidden=8, heads=2, edge_channels=4)


def test_weights_sum_below_one_and_vanish_with_the_envelope() -> None:
    layer = attention()
    logits = 100.0 * torch.randn(6, 4)
    centre = torch.tensor([0, 0, 0, 1, 1, 2])
    envelope = torch.tensor([1.0, 0.5, 0.0, 0.3, 1.0, 1e-8])
    weights = layer.attention(logits, centre, envelope, 3)
    totals = torch.zeros(3, 2).index_add(0, centre, weights)
    assert (weights >= 0).all()
    assert (totals < 1).all()
    assert (weights[2] == 0).all()
    assert (weights[5] < 1e-4).all()
    assert torch.isfinite(weights).all()


def test_a_neighbor_at_the_cutoff_does_not_change_the_others() -> None:
    layer = attention()
    logits = torch.randn(3, 4)
    centre = torch.zeros(3, dtype=torch.long)
    with_it = layer.attention(logits, centre, torch.tensor([1.0, 0.5, 0.0]), 1)[:2]
    without = layer.attention(logits[:2], centre[:2], torch.tensor([1.0, 0.5]), 1)
    torch.testing.assert_close(with_it, without, rtol=0, atol=0)
