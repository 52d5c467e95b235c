"""Distances of features from those of training atoms, and features through which no gradient flows."""

from __future__ import annotations

import torch

from mlff_calc.nn.distance import FeatureDistance
from mlff_calc.nn.stop import stop_gradient


def test_training_atoms_are_at_one_and_others_farther() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    species = torch.randint(0, 2, (400,), generator=generator)
    features = torch.randn(400, 6, generator=generator, dtype=torch.float64) @ mixing + 10.0 * species.unsqueeze(1)
    distance = FeatureDistance(3, 6)
    assert not distance(features, species).any()
    distance.measure(features, species)
    squares = distance(features, species)
    torch.testing.assert_close(squares.mean(), torch.tensor(1.0, dtype=torch.float64))
    centre = features[species == 1].mean(dim=0)
    own = distance(centre + 3.0 * (features[species == 1] - centre), species[species == 1])
    torch.testing.assert_close(own, 9.0 * squares[species == 1])  # the square grows with the square
    assert float(distance(features, 1 - species).min()) > float(squares.median())


def test_a_second_measurement_keeps_what_the_first_knew() -> None:
    generator = torch.Generator().manual_seed(0)
    species = torch.randint(0, 2, (400,), generator=generator)
    mixing = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    features = torch.randn(400, 4, generator=generator, dtype=torch.float64) @ mixing + 10.0 * species.unsqueeze(1) + 20.0
    again, other = FeatureDistance(3, 4), FeatureDistance(3, 4)
    for _ in range(2):
        again.measure(features, species)
    other.measure(features, species)
    torch.testing.assert_close(again(features, species), other(features, species))  # the same atoms change nothing

    distance = FeatureDistance(3, 4)
    distance.measure(features, species)
    centre = distance.centres[0].clone()
    moved, which = features[species == 1] + torch.tensor([4.0, 0.0, 0.0, 0.0]), 1 + torch.arange(400)[species == 1] % 2
    distance.measure(moved, which)
    assert torch.equal(distance.centres[0], centre)  # no new atoms of this species
    torch.testing.assert_close(distance.centres[2], moved[which == 2].mean(dim=0))  # new
    middle = 0.5 * (features[species == 1].mean(dim=0) + moved[which == 1].mean(dim=0))
    torch.testing.assert_close(distance.centres[1], middle)
    assert 0.3 < float(distance(features, species).mean()) < 3.0
    assert 0.3 < float(distance(moved, which).mean()) < 3.0


def test_constant_features_are_not_divided_by_zero() -> None:
    distance = FeatureDistance(1, 3)
    distance.measure(torch.ones(5, 3), torch.zeros(5, dtype=torch.long))
    assert not distance(torch.ones(2, 3), torch.zeros(2, dtype=torch.long)).any()


def test_no_gradient_passes() -> None:
    weight = torch.ones(3, requires_grad=True)
    stopped = stop_gradient(2.0 * weight)
    assert torch.equal(stopped, torch.full((3,), 2.0))
    (stopped.sum() + weight.sum()).backward()
    assert torch.equal(weight.grad, torch.ones(3))
