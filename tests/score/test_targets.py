"""Targets, schedules, and what is measured on frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.graph.bonds import atom_classes, bonds_of, hop_counts
from mlff_calc.score import Schedule, Target
from mlff_calc.score.moments import bond_virial_ratio, check_not_frozen, check_temperature, clipped, virial_ratio

SIGMA = torch.tensor([0.0, 0.01, 0.068, 0.5, 2.0], dtype=torch.float64)


def test_schedules_run_from_large_to_small_noise() -> None:
    for spacing in ("geometric", "karras"):
        grid = Schedule(0.01, 2.0, spacing).grid(50)
        assert len(grid) == 51
        assert grid[0] == pytest.approx(2.0)
        assert grid[-2] == pytest.approx(0.01)
        assert grid[-1] == 0.0
        assert (grid[1:] < grid[:-1]).all()
    with pytest.raises(RecipeError, match="give two lengths above 0"):
        Schedule(1.0, 0.5)


@pytest.mark.parametrize("name", ["dsm", "tsm", "optimal", "piecewise"])
def test_targets_have_the_score_of_normal_data_as_mean_and_unit_variance(name: str) -> None:
    """Data of variance D^2 have F/kT = -x_0/D^2, I = 1/D^2, and the score -x/(D^2 + s^2) at noise s."""
    random = torch.Generator().manual_seed(0)
    spread = 0.3
    target = Target(name, spread**-2)
    for level in (0.05, 0.3, 1.0):
        sigma = torch.full((400_000, 1), level, dtype=torch.float64)
        start = spread * torch.randn(400_000, 1, generator=random, dtype=torch.float64)
        noise = torch.randn(400_000, 1, generator=random, dtype=torch.float64)
        found = target(-start / spread**2, noise, sigma)
        noisy = start + sigma * noise
        slope = (found * noisy).mean() / noisy.square().mean()
        assert float(slope) == pytest.approx(-1.0 / (spread**2 + level**2), rel=0.01)
        assert float(target.weight(sigma)[0, 0] * found.square().mean()) == pytest.approx(1.0, rel=0.01)


def test_optimal_target_has_the_least_variance_of_all_mixtures() -> None:
    target = Target("optimal", 218.6)
    best = target.share(SIGMA)
    square = best**2 * 218.6 + torch.where(SIGMA > 0.0, ((1.0 - best) / SIGMA) ** 2, 0.0)
    assert torch.allclose(square, 218.6 / (1.0 + 218.6 * SIGMA**2))
    assert best[0] == 1.0
    assert target.weight(SIGMA)[0] == pytest.approx(1.0 / 218.6)
    assert Target("piecewise", 218.6).share(SIGMA).tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert Target("piecewise", 218.6, window=1.0).share(SIGMA).tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]
    with pytest.raises(RecipeError, match="which the target dsm does not use"):
        Target("dsm", 1.0, window=1.0)


def test_a_temperature_that_does_not_match_is_refused() -> None:
    random = np.random.default_rng(0)
    frames = random.normal(size=(2000, 5, 3))
    frames -= frames.mean(axis=1, keepdims=True)
    ratio, error = virial_ratio(frames, -frames, 3)
    assert abs(ratio - 1.0) < 4.0 * error
    assert "12 for exp(-E/kT)" in check_temperature(frames, -frames, 3, "here")
    for factor in (23.06, 1.0 / 23.06, -1.0):  # kcal/mol for eV, and gradients for forces
        with pytest.raises(DatasetError, match=r"here: .* do not match the positions"):
            check_temperature(frames, -factor * frames, 3, "here")


def test_few_frames_of_a_molecule_show_a_wrong_unit() -> None:
    """A stiff bond of length 1 between two of three atoms that are far from stiff otherwise, kT = 1."""
    random = np.random.default_rng(0)
    stiffness, n = 2000.0, 400_000
    lengths = 1.0 + random.normal(size=n) / stiffness**0.5
    chosen = lengths[random.random(n) < lengths**2 / 1.3]  # density r^2 exp(-k (r - 1)^2 / 2)
    ways = random.normal(size=(len(chosen), 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    third = random.normal(size=(len(chosen), 3))
    frames = np.stack([np.zeros_like(ways), chosen[:, None] * ways, third], axis=1)
    forces = np.zeros_like(frames)
    forces[:, 1] = -stiffness * (chosen - 1.0)[:, None] * ways
    forces[:, 0] = third - forces[:, 1]
    forces[:, 2] = -third
    ratio, error = bond_virial_ratio(frames, forces, 3, [[0, 1]])
    assert abs(ratio - 1.0) < 4.0 * error < 0.02
    for few in (2, 5, 20):
        mean = np.mean([bond_virial_ratio(frames[k : k + few], forces[k : k + few], 3, [[0, 1]])[0] for k in range(3000)])
        assert mean == pytest.approx(1.0, abs=0.1)
    assert "2 for exp(-E/kT)" in check_temperature(frames[:20], forces[:20], 3, "here", [[0, 1]])
    with pytest.raises(DatasetError, match=r"virial of bonds of here: .* do not match the positions"):
        check_temperature(frames[:20], 23.06 * forces[:20], 3, "here", [[0, 1]])
    assert "one frame" in check_temperature(frames[:1], forces[:1], 3, "here")


def test_frozen_bonds_are_refused() -> None:
    random = np.random.default_rng(0)
    frames = random.normal(size=(20, 4, 3))
    check_not_frozen(frames, "here")
    frames[:, 1] = frames[:, 0] + [0.0, 0.0, 1.09]
    with pytest.raises(DatasetError, match=r"atoms 0 and 1 is 1\.09000 in all frames"):
        check_not_frozen(frames, "here")


def test_clipping_keeps_directions() -> None:
    scores = np.array([[[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]], [[0.1, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    found = clipped(scores, 1.0)
    assert np.allclose(found[0], scores[0] / 5.0)
    assert np.array_equal(found[1], scores[1])


def test_bonds_hops_and_classes_of_ethanol() -> None:
    from ase.build import molecule

    atoms = molecule("CH3CH2OH")
    bonds = bonds_of(atoms.numbers, atoms.positions[None])
    assert len(bonds) == 8
    classes = atom_classes(atoms.numbers, bonds)
    symbols = np.array(atoms.get_chemical_symbols())
    assert len(set(classes)) == 6  # C, C, O, and H on each of them
    assert sorted(np.bincount(classes[symbols == "H"])[np.unique(classes[symbols == "H"])]) == [1, 2, 3]
    hops = hop_counts(len(atoms), bonds)
    assert hops.max() == 4
    assert (hops == 1).sum() == 16
    assert (hops == hops.T).all()
