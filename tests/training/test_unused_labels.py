"""Labels with a weight are checked, and an error about a label under another name tells the key to set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest

from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.training.frames.labels import check_labels, label_table
from mlff_calc.training.frames.read import read_frames
from mlff_calc.training.potential.recipe import PotentialRecipe
from mlff_calc.training.recipe import load_recipe

Project = Callable[..., Path]


def counted(recipe: PotentialRecipe) -> list:
    return [frames.count() for frames in read_frames(recipe).values()]


def test_a_faulty_label_counts_only_with_a_weight(project: Project) -> None:
    data = {"train": {"file": "bad.extxyz"}, "split": {"valid": 5}}
    without = project(data=data, loss={"energy": 1.0, "forces": 1.0})
    frames = ase.io.read(without.parent / "cu.extxyz", ":")
    for number in (3, 7):
        frames[number].calc.results["stress"] = np.full(6, np.inf)
    ase.io.write(without.parent / "bad.extxyz", frames)
    counts = counted(load_recipe(without))
    check_labels(load_recipe(without), counts)
    assert sum(count.labels["stress"] for count in counts) == 18
    assert "are faulty and left out, since they have no weight" in label_table(counts)
    weighted = load_recipe(project(data=data, loss={"energy": 1.0, "forces": 1.0, "stress": 0.5}))
    with pytest.raises(DatasetError, match=r"bad\.extxyz, frame 3: label 'stress' holds 9 of 9 values"):
        read_frames(weighted)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (":forces:", ":force:", r"no forces is taken from .*'force' \(keys.forces: force"),
        ("energy=", "REF_energy=", r"no energy is taken from .*'REF_energy' \(keys.energy: REF_energy"),
        ("stress=", "virials=", r"no stress is taken from .*'virials' \(keys.virial: virials"),
        ('pbc="T T T"', 'pbc="T T F"', r"no stress is taken from .* not periodic in all three directions"),
    ],
)
def test_errors_list_the_names_in_the_frames(project: Project, old: str, new: str, expected: str) -> None:
    data = {"train": {"file": "other.extxyz"}, "split": {"valid": 5}}
    path = project(data=data, loss={"energy": 1.0, "forces": 1.0, "stress": 0.5})
    text = (path.parent / "cu.extxyz").read_text()
    assert old in text
    (path.parent / "other.extxyz").write_text(text.replace(" " + old if old == "energy=" else old,
                                                           " " + new if old == "energy=" else new))  # fmt: skip
    recipe = load_recipe(path)
    with pytest.raises(RecipeError, match=expected):
        check_labels(recipe, counted(recipe))
