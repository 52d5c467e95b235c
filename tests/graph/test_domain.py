"""Distances in training data: stretched, broken and compressed structures are found outside, similar ones are not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mlff_calc.errors import PotentialFileError
from mlff_calc.graph import graph_from_atoms
from mlff_calc.graph.domain import MAX_FORMULAS, Domain, domain_of, measures, united

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
    centers, neighbors = graph["edge_index"].numpy()
    return domain.outside(atoms.numbers, centers, neighbors, graph["edge_vec"].numpy())


DISTANCES = ethanol().get_all_distances()
BONDS = [(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(DISTANCES < 1.6, 1)), strict=True)]


def test_measures_are_those_of_ase():
    atoms = ethanol()
    graph = graph_from_atoms(atoms, 3.0)
    centers, neighbors = graph["edge_index"].numpy()
    got = measures(atoms.numbers, centers, atoms.numbers[neighbors], graph["edge_vec"].numpy(), n_kinds=9, cutoff=3.0)
    distances = np.where(np.eye(9, dtype=bool), np.inf, np.where(DISTANCES < 3.0, DISTANCES, 3.0))
    np.testing.assert_allclose(got[:, :4], np.sort(distances, axis=1)[:, :4], atol=1e-12)
    for number in (1, 6, 8):
        nearest = distances[:, atoms.numbers == number].min(axis=1)
        np.testing.assert_allclose(got[:, 4 + number], np.minimum(nearest, 3.0), atol=1e-12)
    np.testing.assert_array_equal(got[:, -1], 1 + (distances < 3.0).sum(axis=1))


def test_missing_neighbours_are_at_the_cutoff():
    dimer = molecule("O2")
    domain = domain_of([dimer], CUTOFF)
    distance = pytest.approx(dimer.get_distance(0, 1), abs=1e-4)
    assert domain == {
        "cutoff": CUTOFF,
        "nearest": {"O": [[distance] * 2] + [[CUTOFF] * 2] * 3},
        "pairs": {"O-O": [distance] * 2},
        "neighbors": {"O": [1, 1]},
        "formulas": ["O2"],
    }


def test_a_file_of_an_older_version_knows_the_nearest_distances_only():
    whole = domain_of(rattled(ethanol), CUTOFF)
    old = Domain({name: whole[name] for name in ("cutoff", "nearest")})
    assert outside(old, rattled(ethanol, 1, 0.03)[0]) is None
    assert outside(old, molecule("CH3OH")) is None
    assert "C of atom" in outside(Domain(whole), molecule("CH3OH"))
    assert united(whole, {name: whole[name] for name in ("cutoff", "nearest")}) == {
        name: whole[name] for name in ("cutoff", "nearest")
    }


def pressed():
    """Return O2 and N2 that are closer to each other than in the data."""
    atoms = molecule("O2")
    atoms += molecule("N2")
    atoms.positions[2:] += [1.3, 0.0, 0.0]
    return atoms


def test_a_closer_contact_than_in_training_is_outside():
    apart = [molecule("O2"), molecule("N2")]
    domain = Domain(domain_of(apart, CUTOFF))
    assert "the training data had none nearer than the cutoff for" in outside(domain, pressed())


def test_a_contact_of_two_elements_is_named():
    atoms = ethanol()
    atoms.set_distance(0, 8, 0.76, fix=0)  # a carbon and a hydrogen, for which nearest neighbours can be at this distance
    said = outside(Domain(domain_of(rattled(ethanol), CUTOFF)), atoms)
    assert "is at 0.76 Angstrom, the training data had" in said


def test_atoms_that_lost_their_surroundings_are_outside():
    crystal = silicon() * (1, 2, 2)
    domain = Domain(domain_of([crystal, *rattled(silicon, 5)], CUTOFF))
    half = crystal.copy()
    half.pbc = False
    assert "the training data had" in outside(domain, half)
    counts = {"cutoff": CUTOFF, "nearest": {"Si": [[1.0, CUTOFF]] * 4}, "neighbors": {"Si": [28, 28]}}
    assert "neighbours within 5 Angstrom, the training data had 28 to 28 for Si" in outside(Domain(counts), half)
    assert outside(Domain(counts), crystal) is None


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
    assert "Angstrom, the training data had" in outside(domain, atoms)


@pytest.mark.parametrize("bond", BONDS)
def test_one_stretched_bond_is_outside(bond):
    domain, atoms = Domain(domain_of(rattled(ethanol), CUTOFF)), ethanol()
    assert len(BONDS) == 8
    atoms.set_distance(*bond, 1.6 * DISTANCES[bond], fix=0)
    assert outside(domain, atoms) is not None


def test_the_place_is_named():
    domain, atoms = Domain(domain_of(rattled(ethanol), CUTOFF)), ethanol()
    atoms.set_distance(2, 3, 1.9, fix=0)  # the hydroxyl's hydrogen
    said = outside(domain, atoms)
    assert said.startswith("the nearest H of atom 2 (O) is at 1.90 Angstrom, the training data had ")
    assert said.endswith(" for O-H")


def test_elements_without_a_range_pass():
    assert outside(Domain(domain_of([molecule("O2")], CUTOFF)), molecule("N2")) is None
    assert outside(Domain(domain_of([molecule("O2")], CUTOFF)), molecule("O2")[:0]) is None


def test_a_union_contains_both_domains():
    here, there = [molecule("O2"), molecule("H2O")], [molecule("CH3CH2OH"), molecule("N2")]
    one, other = domain_of(here, CUTOFF), domain_of(there, CUTOFF)
    assert united(one, other) == united(other, one) == domain_of([*here, *there], CUTOFF)
    assert list(united(one, other)["nearest"]) == ["H", "C", "N", "O"]
    assert united(one, one) == one


def test_formulas_of_few_kinds_of_molecules_are_known():
    two = Domain(domain_of([molecule("H2O"), ethanol(), ethanol()], CUTOFF))
    assert two.formulas == ["C2H6O", "H2O"]
    assert two.new_formula(ethanol()) is None
    assert two.new_formula(molecule("CH3OH")) == (
        "the formula CH4O was not in the training data, which had C2H6O, H2O"
    )
    assert two.new_formula(silicon()) is None  # of a crystal, a formula says nothing
    assert "formulas" not in domain_of([molecule("H2O"), silicon()], CUTOFF)
    many = [Atoms(f"H{n}", [(k, 0, 0) for k in range(n)]) for n in range(1, MAX_FORMULAS + 2)]
    some, rest = domain_of(many[:-1], CUTOFF), domain_of(many[-1:], CUTOFF)
    assert len(some["formulas"]) == MAX_FORMULAS
    assert "formulas" not in domain_of(many, CUTOFF)
    assert "formulas" not in united(some, rest)
    old = {name: found for name, found in rest.items() if name != "formulas"}
    assert "formulas" not in united(old, rest)
    assert Domain(old).new_formula(ethanol()) is None


def test_atoms_outside_are_found_in_a_batch():
    domain, atoms = Domain(domain_of(rattled(ethanol), CUTOFF)), ethanol()
    atoms.positions[2] += 0.5
    graph = graph_from_atoms(atoms, CUTOFF)
    centers, neighbors = graph["edge_index"].numpy()
    assert domain.are_outside(atoms.numbers, centers, neighbors, graph["edge_vec"].numpy())[2]


def test_domains_that_cannot_be_united():
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
        {"cutoff": 5.0, "nearest": {"O": [[1.0, 2.0]] * 4}, "pairs": {"O-H": [1.0, 2.0]}},
        {"cutoff": 5.0, "nearest": {"O": [[1.0, 2.0]] * 4}, "pairs": {"O": [1.0, 2.0]}},
        {"cutoff": 5.0, "nearest": {"O": [[1.0, 2.0]] * 4}, "pairs": [1.0]},
        {"cutoff": 5.0, "nearest": {"O": [[1.0, 2.0]] * 4}, "neighbors": {"O": [3, 1]}},
        {"cutoff": 5.0, "nearest": {"O": [[1.0, 2.0]] * 4}, "formulas": [1]},
    ],
)
def test_invalid_domains(plain):
    with pytest.raises(PotentialFileError, match="not what training writes"):
        Domain(plain)
