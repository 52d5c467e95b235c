"""Parts of the data must not overlap."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest

from mlff_calc.errors import RecipeError
from mlff_calc.training.frames.read import read_frames
from mlff_calc.training.recipe import load_recipe

Project = Callable[..., Path]


def data(train: object, valid: object, **more: object) -> dict:
    return {"train": train, "valid": valid, **more}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (data("cu.extxyz", "cu.extxyz"), "20 frames of .*cu.extxyz are in `train` and in `valid` .* is frame 0"),
        (
            data({"file": "cu.extxyz", "index": ":12"}, {"file": "cu.extxyz", "index": "9:"}),
            "3 frames of .* in `train` and in `valid` .* frame 9.*; name other frames with data.valid.index",
        ),
        (
            {"train": "cu.extxyz", "split": {"train": 10, "valid": 10}, "test": {"file": "./cu.extxyz", "index": "-1"}},
            "1 frames of .* and in `test` .* frame 19",
        ),
    ],
)
def test_a_frame_in_two_parts_is_refused(project: Project, section: dict, expected: str) -> None:
    with pytest.raises(RecipeError, match=rf"recipe.yaml: {expected}"):
        read_frames(load_recipe(project(data=section)))


def test_parts_of_one_file_may_be_given_by_index(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    section = data({"file": "cu.extxyz", "index": ":12"}, {"file": "cu.extxyz", "index": "12:"})
    parts = read_frames(load_recipe(project(data=section)))
    assert [len(frames) for frames in parts.values()] == [12, 8]
    assert not caplog.records


def test_parts_of_an_archive_have_frames_of_their_own(project: Project, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {f"{name}_{part}": random.normal(size=(3, 2, 3)) for name in "RF" for part in ("train", "test")}
    arrays |= {f"E_{part}": np.zeros(3) for part in ("train", "test")}
    np.savez(tmp_path / "a.npz", z=[29, 29], **arrays)
    section = {"train": {"file": "a.npz", "part": "train"}, "test": {"file": "a.npz", "part": "test"}}
    parts = read_frames(load_recipe(project(data=section | {"split": {"valid": 1}})))
    assert {part: len(frames) for part, frames in parts.items()} == {"train": 2, "valid": 1, "test": 3}


def test_copies_of_structures_are_counted_in_a_warning(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    path = project(data=data("cu.extxyz", "valid.extxyz", test="test.extxyz"))
    frames = ase.io.read(path.parent / "cu.extxyz", ":")
    other = [atoms.copy() for atoms in frames[:3]]
    other[2].positions[0, 0] += 0.01
    ase.io.write(path.parent / "valid.extxyz", [other[2], other[1], other[0]])
    strained = frames[5].copy()
    strained.set_cell(1.01 * strained.cell.array)
    ase.io.write(path.parent / "test.extxyz", strained)
    with caplog.at_level(logging.WARNING, "mlff_calc"):
        read_frames(load_recipe(path))
    (message,) = [record.getMessage() for record in caplog.records]
    assert "2 structures of `valid` are in `train` as well" in message
    assert "valid.extxyz, frame 1" in message
    assert "cu.extxyz, frame 1" in message
