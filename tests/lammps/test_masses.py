"""Masses of atom types that contradict the elements in pair_coeff: one warning that names both."""

from __future__ import annotations

import pytest

from .conftest import Engine, noble, setup, write_data
from .models import LennardJones, metadata, save

pytestmark = pytest.mark.lammps


def said_of(engine: Engine, masses: str, elements: list[str], n_ranks: int = 1) -> list[str]:
    write_data(noble((2, 2, 2)), engine.folder / "atoms.data", [18, 10])
    save(LennardJones(0.0104, 3.4, 8.0), engine.folder / "lj.pt", metadata(8.0, 1))
    status, said = engine.start(setup("pair_style mlff", "lj.pt", elements) + masses + "run 0\nrun 0\n", n_ranks)
    assert status == 0, said[-2000:]
    return [line for line in said.splitlines() if "pair mlff" in line and "mass" in line]


def test_elements_in_another_order(engine: Engine) -> None:
    for n_ranks in (1, 2):
        said = said_of(engine, "", ["Ne", "Ar"], n_ranks)
        assert len(said) == 2  # one warning for each type
        assert all(line.startswith("WARNING") for line in said)
        assert "atom type 1 has mass 39.948, and pair_coeff takes it for Ne (mass 20.18)" in said[0]


@pytest.mark.parametrize("masses", ["", "mass 1 39.9\n", "mass 1 40\nmass 2 20.2\n"])
def test_masses_that_fit_need_no_word(engine: Engine, masses: str) -> None:
    assert said_of(engine, masses, ["Ar", "Ne"]) == []


def test_isotopes_are_noted(engine: Engine) -> None:
    said = said_of(engine, "mass 2 20.994\n", ["Ar", "Ne"])
    assert len(said) == 1
    assert said[0].startswith("Note: ")
    assert "isotope" in said[0]
