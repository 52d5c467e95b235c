"""The structures used for timings, and the motion of their atoms."""

from __future__ import annotations

import numpy as np
import pytest

from mlff_calc.bench import SYSTEMS, build_system, moving_frames, parse_systems
from mlff_calc.errors import OptionError


@pytest.mark.parametrize(
    ("name", "formula", "periodic"),
    [
        ("ethanol", "C2H6O", False),
        ("aspirin", "C9H8O4", False),
        ("si64", "Si64", True),
        ("si512", "Si512", True),
        ("water192", "H128O64", True),
        ("si216", "Si216", True),
    ],
)
def test_systems_agree_with_their_names(name: str, formula: str, periodic: bool) -> None:
    atoms = build_system(name)
    assert atoms.get_chemical_formula() == formula
    assert bool(atoms.pbc.all()) is periodic
    distances = atoms.get_all_distances(mic=periodic)
    assert distances[np.triu_indices(len(atoms), 1)].min() > 0.9  # no overlapping atoms
    again = build_system(name)
    np.testing.assert_array_equal(atoms.positions, again.positions)


def test_water_has_the_density_of_water() -> None:
    atoms = build_system("water192")
    grams_per_cm3 = atoms.get_masses().sum() / atoms.get_volume() * 1.66054
    assert grams_per_cm3 == pytest.approx(1.0, abs=0.02)


def test_unknown_system_names_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"unknown system 'ethanl'.*did you mean 'ethanol'"):
        build_system("ethanl")
    with pytest.raises(OptionError, match=r"100 atoms; the nearest have 8, 64, 216"):
        build_system("si100")
    with pytest.raises(OptionError, match="no system named"):
        parse_systems(" , ")
    assert parse_systems("ethanol, si64") == ["ethanol", "si64"]


def test_atoms_move_as_described() -> None:
    atoms = build_system("si64")
    places = atoms.positions.copy()
    frames = moving_frames(atoms, 400)
    np.testing.assert_array_equal(atoms.positions, places)
    moves = np.sqrt((np.diff(frames, axis=0) ** 2).sum(axis=2))
    assert np.sqrt((moves**2).mean()) == pytest.approx(0.01, rel=0.15)
    swings = np.sqrt(((frames - places) ** 2).sum(axis=2))
    assert np.sqrt((swings**2).mean()) == pytest.approx(0.01 * 60 / (2 * np.pi), rel=0.25)
    np.testing.assert_array_equal(frames, moving_frames(atoms, 400))
    np.testing.assert_array_equal(frames[:50], moving_frames(atoms, 50))  # a longer run starts with the same frames
    assert not np.array_equal(frames, moving_frames(atoms, 400, seed=1))


def test_every_listed_system_can_be_built() -> None:
    assert {name: len(build_system(name)) for name in SYSTEMS if name != "si8000"} == {
        "ethanol": 9,
        "aspirin": 21,
        "si64": 64,
        "si512": 512,
        "water192": 192,
    }
