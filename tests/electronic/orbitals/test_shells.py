"""A basis knows its orbitals and their padded slots, and refuses what it cannot treat."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.errors import OrbitalError, UnknownElementError


def test_slots_of_def2_svp(svp: OrbitalBasis) -> None:
    assert svp.width == 14
    assert svp.multiplicities == (3, 2, 1)
    assert svp.l_max == 2
    assert svp.slots(1).tolist() == [0, 1, 3, 4, 5]
    assert svp.slots(8).tolist() == list(range(14))
    assert svp.slot_degrees.tolist() == [0] * 3 + [1] * 6 + [2] * 5
    assert svp.n_orbitals([8, 1, 1]) == 24
    assert svp.n_orbitals([]) == 0
    assert svp.shells_of(1) == (0, 0, 1)


def test_slots_follow_the_order_of_the_shells() -> None:
    mixed = OrbitalBasis.of_shells("mixed", {3: (1, 0, 1, 0), 4: (0, 1)})
    assert mixed.slots(3).tolist() == [2, 3, 4, 0, 5, 6, 7, 1]
    assert mixed.ranks[1].tolist() == [0, -1, 1, 2, 3, -1, -1, -1]
    assert mixed.molecule_shells([4, 3]).tolist() == [0, 1, 1, 0, 1, 0]


def test_a_basis_goes_through_a_header(tzvp: OrbitalBasis) -> None:
    again = OrbitalBasis.from_dict(json.loads(json.dumps(tzvp.to_dict())))
    assert again == tzvp
    assert hash(again) == hash(tzvp)
    assert np.array_equal(again.slots(8), tzvp.slots(8))


def test_cartesian_shells_are_refused_by_name() -> None:
    with pytest.raises(OrbitalError, match="6-31g is Cartesian"):
        OrbitalBasis.of_shells("6-31g", {1: (0,)}, cartesian=True)


@pytest.mark.parametrize(
    ("shells", "words"),
    [
        ({8: (0, 1, 4)}, "g shells for atomic number 8"),
        ({8: (0, -1)}, "degree -1"),
        ({8: ()}, "no shells"),
        ({0: (0,)}, "ghost atoms"),
        ({}, "no elements"),
    ],
)
def test_shells_that_cannot_be_used_are_refused(shells: dict[int, tuple[int, ...]], words: str) -> None:
    with pytest.raises(OrbitalError, match=words):
        OrbitalBasis.of_shells("some", shells)


@pytest.mark.parametrize("data", [{}, {"name": "a"}, {"name": "a", "shells": 3}, {"name": "a", "shells": {"H": [0]}}])
def test_headers_without_a_basis_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(OrbitalError, match="name, and shells"):
        OrbitalBasis.from_dict(data)


@pytest.mark.parametrize("number", [7, 0, 92])
def test_an_element_outside_the_basis_is_named(svp: OrbitalBasis, number: int) -> None:
    with pytest.raises(UnknownElementError, match=rf"not for \[{number}\]"):
        svp.n_orbitals([8, number])
    with pytest.raises(UnknownElementError):
        svp.slots(number)
