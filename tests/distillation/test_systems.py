"""Systems that are made of those that are given: pairs and fragments of SMILES, vacancies and slabs of crystals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlff_calc.datasets.smiles import NamedSmiles, with_fragments
from mlff_calc.distillation.crystals import WIDTH, slab_of, vacancies
from mlff_calc.distillation.recipe import parse_distillation
from mlff_calc.distillation.seeds import seed_frames
from mlff_calc.distillation.systems import System, read_systems
from mlff_calc.errors import RecipeError, StructureError

from .conftest import small


def systems_of(toys: Path, **section: Any) -> list[System]:
    return read_systems(parse_distillation(small(systems=section), toys / "recipe"))


def heights(cell: np.ndarray) -> np.ndarray:
    return np.abs(np.linalg.det(cell)) / np.linalg.norm(np.cross(np.roll(cell, -1, 0), np.roll(cell, -2, 0)), axis=1)


def test_vacancies_are_far_from_their_images_and_at_all_sites() -> None:
    salt = bulk("NaCl", "rocksalt", 5.64)
    found = vacancies(salt, 2, seed=0)
    assert {atoms.get_chemical_formula() for atoms in found} == {"Cl26Na27", "Cl27Na26"}
    assert all(heights(atoms.cell.array).min() >= WIDTH - 1e-6 for atoms in found)
    assert vacancies(salt, 0, seed=0) == []
    with pytest.raises(StructureError, match=r"3 vacancies are asked for in cells of ClNa, which has 2 sites; give fewer"):
        vacancies(salt, 3, seed=0)
    alone = Atoms("Cu", cell=[10.0, 10.0, 10.0], pbc=True)
    with pytest.raises(StructureError, match=r"1 vacancies .* which has 1 sites, and nothing would be left; give fewer"):
        vacancies(alone, 1, seed=0)


def test_slabs_are_thick_and_have_vacuum() -> None:
    slab = slab_of(bulk("Si", "diamond", 5.43, cubic=True), (1, 1, 1))
    assert slab.pbc.all()
    up = slab.positions[:, 2]
    assert np.ptp(up) > WIDTH - 3.2
    height = heights(slab.cell.array)
    assert height[2] - np.ptp(up) >= 12.0 - 1e-6
    assert height[:2].min() > 6.0
    distances = slab.get_all_distances(mic=True)
    assert distances[np.triu_indices(len(slab), 1)].min() == pytest.approx(5.43 * 3**0.5 / 4, abs=1e-6)


def test_a_crystal_brings_what_is_made_of_it_and_none_is_held_out_alone(toys: Path) -> None:
    ase.io.write(toys / "cu.cif", bulk("Cu", cubic=True))
    ase.io.write(toys / "al.cif", bulk("Al", cubic=True))
    one = systems_of(toys, files=["cu.cif"], vacancies=1, surfaces=[[1, 0, 0]])
    assert [(system.name, system.is_held_out) for system in one] == [
        ("cu", False), ("cu vacancy 1", False), ("cu surface 1 0 0", False),
    ]  # fmt: skip
    recipe = parse_distillation(small(systems={"files": ["cu.cif"], "vacancies": 1}), toys / "recipe")
    frames = seed_frames(recipe, read_systems(recipe), 40)
    for part in ("train", "held_out"):
        assert {frame.info["system"] for frame in frames if frame.info["part"] == part} == {"cu", "cu vacancy 1"}
    alloy = bulk("Cu", cubic=True)
    alloy.symbols[0] = "Al"
    ase.io.write(toys / "alloy.cif", alloy)
    for seed in range(4):
        recipe = small(systems={"files": ["cu.cif", "al.cif", "alloy.cif"], "vacancies": 2}, seed=seed)
        found = read_systems(parse_distillation(recipe, toys / "recipe"))
        assert len(found) == 9
        held = {system.parent or system.name for system in found if system.is_held_out}
        assert len(held) == 1
        assert sum(system.is_held_out for system in found) == 3


def test_a_cell_that_is_too_large_is_refused(toys: Path) -> None:
    ase.io.write(toys / "large.cif", bulk("Cu", cubic=True).repeat((1, 1, 60)))
    with pytest.raises(RecipeError, match=r"a vacancy in cells of Cu240 would have 2160 atoms, more than 500; give a"):
        systems_of(toys, files=["large.cif"], vacancies=1)
    with pytest.raises(StructureError, match=r"a slab \(1, 1, 0\)"):
        slab_of(bulk("Cu", cubic=True).repeat((1, 1, 60)), (1, 1, 0))


def test_pairs_and_fragments_of_smiles(toys: Path) -> None:
    pytest.importorskip("rdkit")
    found = systems_of(toys, files=[], smiles=["O", "CC(=O)Nc1ccccc1", "N.O"], pairs=3, fragments=True, conformers=1)
    names = [system.name for system in found]
    assert names[:3] == ["O", "CC(=O)Nc1ccccc1", "N.O"]
    assert "c1ccccc1" in names
    ends = [one.text for one in with_fragments([NamedSmiles("c1ccccc1C=CCC(=O)NC", "")])[1:]]
    assert "CCC=O" in ends  # a double bond was cut, and two hydrogens fill it
    pairs = {name for name in names[3:] if "." in name}
    assert pairs == {"O.O", "O.CC(=O)Nc1ccccc1", "CC(=O)Nc1ccccc1.CC(=O)Nc1ccccc1"}
    water = next(system for system in found if system.name == "O.O")
    assert water.starts[0].get_chemical_formula() == "H4O2"
    recipe = parse_distillation(small(systems={"files": [], "smiles": ["O.O"]}), toys / "recipe")
    assert {frame.info["made"][:6] for frame in seed_frames(recipe, read_systems(recipe), 12)} >= {"MMFF94", "rattle"}
    with pytest.raises(RecipeError, match=r"2 pairs are asked for, and 1 molecules have 1; give fewer"):
        systems_of(toys, files=[], smiles=["O"], pairs=2)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"surfaces": [[0, 0, 0]]}, "0 0 0 are the indices of no surface"),
        ({"surfaces": [[1, 1]]}, "surfaces"),
        ({"surfaces": [[1, 1, 1], [2, 2, 2]]}, "some indices are of one family of planes"),
        ({"vacancies": 1}, "no structure of the files is periodic in three directions"),
        ({"vacancies": -1}, "vacancies"),
        ({"pairs": 2}, "pairs and fragments are made of `smiles`, and there are none"),
        ({"files": [], "smiles": ["O"], "vacancies": 1}, "vacancies and surfaces are made of crystals in `files`"),
    ],
)
def test_what_cannot_be_made_is_refused(toys: Path, section: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecipeError, match=expected):
        systems_of(toys, **section)
