"""One calculator for many structures: bands, replicas, displaced copies; rebuilt neighbour lists, and stats."""

from __future__ import annotations

import gc
import json

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB
from ase.optimize import FIRE

from mlff_calc.calculators import CalculatorStats, MLFFCalculator
from mlff_calc.calculators.lists import MAX_LISTS

from .conftest import PairPotential, rattled_ethanol, rattled_silicon, rattled_slab


def calculator(**options):
    return MLFFCalculator(PairPotential(), precision="float64", device="cpu", **options)


def vacancy_band(n_images: int = 5):
    """Return a band in which an atom of copper hops into a neighbouring vacancy."""
    crystal = bulk("Cu", "fcc", a=3.7, cubic=True) * (2, 2, 2)
    first, last = crystal.copy(), crystal.copy()
    nearest = int(np.argsort(crystal.get_distances(0, range(len(crystal)), mic=True))[1])
    last.positions[nearest] = crystal.positions[0]
    del first[0], last[0]
    return [first.copy() for _ in range(n_images - 1)] + [last]


def relaxed_band(shared: bool):
    images = vacancy_band()
    one = calculator()
    for image in images:
        image.calc = one if shared else calculator()
    band = NEB(images, allow_shared_calculator=shared, method="improvedtangent")
    band.interpolate(mic=True)
    with FIRE(band, logfile=None) as optimizer:
        optimizer.run(fmax=0.001, steps=15)
    return images, one


def test_a_band_with_one_calculator_equals_separate_ones():
    together, one = relaxed_band(shared=True)
    apart, _ = relaxed_band(shared=False)
    for a, b in zip(together, apart, strict=True):
        assert np.allclose(a.positions, b.positions, rtol=0, atol=1e-9)
        assert a.get_potential_energy() == pytest.approx(b.get_potential_energy(), rel=1e-11)
    assert one.stats.n_calls > 40
    assert one.stats.n_rebuilds < one.stats.n_calls / 3


def test_structures_in_any_order_give_their_own_results():
    shared = calculator()
    structures = [rattled_ethanol(), rattled_silicon(1), rattled_slab(), rattled_ethanol(seed=8), rattled_silicon(2)]
    expected = [calculator().evaluate(atoms) for atoms in structures]
    for index in np.random.default_rng(0).integers(0, 5, size=30):
        results = shared.evaluate(structures[index])
        assert np.allclose(results["forces"], expected[index]["forces"], rtol=0, atol=1e-11)
    assert shared.stats.n_rebuilds == 4  # the two molecules are so similar that they share a list


def test_swapped_species_are_not_mistaken():
    shared, atoms = calculator(), rattled_ethanol()
    shared.evaluate(atoms)
    atoms.numbers[[0, 2]] = atoms.numbers[[2, 0]]
    assert shared.evaluate(atoms)["energy"] == pytest.approx(calculator().evaluate(atoms)["energy"], rel=1e-13)


def test_more_structures_than_lists():
    shared = calculator()
    structures = [rattled_ethanol(seed=seed) for seed in range(MAX_LISTS + 3)]
    for number, atoms in enumerate(structures):
        atoms.positions *= 1.0 + 0.3 * number
    for _ in range(2):
        for atoms in structures:
            assert shared.evaluate(atoms)["energy"] == pytest.approx(calculator().evaluate(atoms)["energy"], rel=1e-12)
    assert len(shared._lists._entries) == MAX_LISTS


def test_structures_that_are_gone_leave_their_list():
    shared = calculator()
    for seed in range(6):
        atoms = rattled_silicon(1, seed)
        atoms.positions[0] += (0.0, 0.0, 0.4 * seed)
        shared.evaluate(atoms)
        del atoms
        gc.collect()
    assert len(shared._lists._entries) == 1


def test_displaced_copies_share_a_list():
    shared, atoms = calculator(), rattled_silicon(2)
    shared.evaluate(atoms)
    copies = [atoms.copy() for _ in range(5)]
    for number, displaced in enumerate(copies):
        displaced.positions[number] += 0.01
        shared.evaluate(displaced)
    assert shared.stats.n_calls == 6
    assert shared.stats.n_rebuilds == 1


@pytest.mark.parametrize("skin", [0.0, 0.3, 1.5])
def test_the_skin_changes_builds_and_not_results(skin):
    def run(width):
        atoms = rattled_silicon(1)
        atoms.calc = calculator(skin=width)
        with VelocityVerlet(atoms, 2.0 * units.fs) as dynamics:
            dynamics.run(60)
        return atoms

    one, reference = run(skin), run(0.5)
    assert np.allclose(one.positions, reference.positions, rtol=0, atol=1e-9)
    stats = one.calc.stats
    assert stats.n_calls == 61
    assert stats.n_rebuilds == 61 if skin == 0.0 else stats.n_rebuilds < 20


def test_stats_count_and_reset():
    one, atoms = calculator(), rattled_silicon(1)
    atoms.calc = one
    for _ in range(3):
        atoms.positions[0, 0] += 0.01
        atoms.get_forces()
        atoms.get_stress()
    stats = one.stats
    assert (stats.n_calls, stats.n_rebuilds) == (3, 1)
    assert min(stats.neighbors_s, stats.model_s, stats.copies_s) > 0.0
    assert stats.total_s == pytest.approx(stats.neighbors_s + stats.model_s + stats.copies_s)
    assert json.loads(json.dumps(stats.as_dict()))["n_calls"] == 3
    assert "3 calls, 1 neighbour-list builds" in str(stats)
    stats.reset()
    assert stats == CalculatorStats()
    atoms.positions[0, 0] += 0.01
    atoms.get_forces()
    assert (stats.n_calls, stats.n_rebuilds) == (1, 0)
