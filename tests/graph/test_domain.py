"""Distances that training data had: stretched, broken and pressed structures are seen, those alike are not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import bulk, molecule

from mlff_calc.errors import PotentialFileError
from mlff_calc.graph import graph_from_atoms
from mlff_calc.graph.domain import Domain, domain_of, nearest_distances, united

CUTOFF = 5.0


def rattled(build, n=40, size=0.05):
    frames = []
    for seed in range(n):
        atoms = build()
        atoms.rattle(size, seed=seed)
        frames.append(atoms)
    return frames


def ethanol():
    return molecule("CH3CH2OH")


def silicon():
    return bulk("Si", cubic=True) * (2, 1, 1)


def outside(domain, atoms):
    graph = graph_from_atoms(atoms, CUTOFF)
    return domain.outside(atoms.numbers, graph["edge_index"][0].numpy(), graph["edge_vec"].numpy())


DISTANCES = ethanol().get_all_distances()
BONDS = [(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(DISTANCES < 1.6, 1)), strict=True)]


def test_nearest_distances_are_those_of_ase():
    atoms = ethanol()
    graph = graph_from_atoms(atoms, CUTOFF)
    got = nearest_distances(len(atoms), graph["edge_index"][0].numpy(), graph["edge_vec"].numpy(), CUTOFF)
    np.testing.assert_allclose(got, np.sort(atoms.get_all_distances(), axis=1)[:, 1:5], atol=1e-12)


def test_missing_neighbours_are_at_the_cutoff():
    dimer = molecule("O2")
    domain = domain_of([dimer], CUTOFF)
    distance = dimer.get_distance(0, 1)
    assert domain == {"cutoff": CUTOFF, "nearest": {"O": [[pytest.approx(distance, abs=1e-4)] * 2] + [[CUTOFF] * 2] * 3}}


@pytest.mark.parametrize("build", [ethanol, silicon])
def test_structures_alike_are_inside(build):
    domain = Domain(json.loads(json.dumps(domain_of(rattled(build), CUTOFF))))
    for seed in range(100, 150):
        atoms = build()
        atoms.rattle(0.03, seed=seed)
        assert outside(domain, atoms) is None


@pytest.mark.parametrize("factor", [1.6, 0.75])
@pytest.mark.parametrize("build", [ethanol, silicon])
def test_scaled_structures_are_outside(build, factor):
    domain, atoms = Domain(domain_of(rattled(build), CUTOFF)), build()
    atoms.set_cell(atoms.cell * factor)
    atoms.positions *= factor
    assert "Angstrom, trained were" in outside(domain, atoms)


@pytest.mark.parametrize("bond", BONDS)
def test_one_stretched_bond_is_outside(bond):
    domain, atoms = Domain(domain_of(rattled(ethanol), CUTOFF)), ethanol()
    assert len(BONDS) == 8
    atoms.set_distance(*bond, 1.6 * DISTANCES[bond], fix=0)
    assert outside(domain, atoms) is not None


def test_the_place_is_named():
    domain, atoms = Domain(domain_of(rattled(ethanol), CUTOFF)), ethanol()
    atoms.set_distance(2, 3, 1.9, fix=0)  # the hydroxyl's hydrogen
    assert outside(domain, atoms).startswith("the nearest neighbour of atom 3 (H) is at ")


def test_elements_without_a_range_pass():
    assert outside(Domain(domain_of([molecule("O2")], CUTOFF)), molecule("N2")) is None
    assert outside(Domain(domain_of([molecule("O2")], CUTOFF)), molecule("O2")[:0]) is None


def test_a_union_holds_what_either_holds():
    here, there = [molecule("O2"), molecule("H2O")], [molecule("CH3CH2OH"), molecule("N2")]
    one, other = domain_of(here, CUTOFF), domain_of(there, CUTOFF)
    assert united(one, other) == united(other, one) == domain_of([*here, *there], CUTOFF)
    assert list(united(one, other)["nearest"]) == ["H", "C", "N", "O"]
    assert united(one, one) == one


def test_what_cannot_be_united():
    one = domain_of([molecule("O2")], CUTOFF)
    with pytest.raises(PotentialFileError, match=r"cutoff 5 Angstrom cannot be united with one of 4\.5 Angstrom"):
        united(one | {"cutoff": 5.0}, one | {"cutoff": 4.5})
    with pytest.raises(PotentialFileError, match="not what training writes"):
        united(one, {"cutoff": CUTOFF})


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"cutoff": "far", "nearest": {}},
        {"cutoff": 5.0, "nearest": [1]},
        {"cutoff": 5.0, "nearest": {"O": [[1.0, 2.0]]}},
        {"cutoff": 5.0, "nearest": {"O": [[2.0, 1.0]] * 4}},
        {"cutoff": 5.0, "nearest": {"O": [[0.0, float("nan")]] * 4}},
        {"cutoff": 5.0, "nearest": {"Xy": [[1.0, 2.0]] * 4}},
    ],
)
def test_what_is_no_domain(plain):
    with pytest.raises(PotentialFileError, match="not what training writes"):
        Domain(plain)
