"""Parts of the data from several files: reading, the record of the run, resuming, and the copies of the recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
import yaml

from mlff_calc.errors import DatasetError, RecipeError, TrainingError
from mlff_calc.networks import read_header
from mlff_calc.training.frames.labels import label_table
from mlff_calc.training.frames.read import read_frames
from mlff_calc.training.frames.recipe import parse_sources
from mlff_calc.training.recipe import load_recipe, parse_recipe
from mlff_calc.training.run import train

Project = Callable[..., Path]


@pytest.fixture
def files(project: Project) -> Callable[..., Path]:
    """Write the frames of `cu.extxyz` to four files (`one/a`, `one/b`, `two/a`, `two/b`) of five, and a recipe."""

    def make(**changes: Any) -> Path:
        path = project(**changes)
        frames = ase.io.read(path.parent / "cu.extxyz", ":")
        for number, name in enumerate(("one/a", "one/b", "two/a", "two/b")):
            (path.parent / name).parent.mkdir(exist_ok=True)
            ase.io.write(path.parent / f"{name}.extxyz", frames[5 * number : 5 * number + 5])
        return path

    return make


def places(path: Path, part: str = "train") -> list[str]:
    samples = read_frames(load_recipe(path))[part].samples
    return [f"{sample.path.parent.name}/{sample.path.stem}{sample.frame}" for sample in samples]


ONE = [f"one/a{n}" for n in range(5)]
VALID = {"valid": "cu.extxyz"}


@pytest.mark.parametrize(
    ("train_part", "expected"),
    [
        ("one/a.extxyz", ONE),
        (["one/a.extxyz", {"file": "two/b.extxyz", "index": "::2"}], [*ONE, "two/b0", "two/b2", "two/b4"]),
        ({"file": ["two/b.extxyz", "one/b.extxyz"], "index": -1}, ["two/b4", "one/b4"]),
        ({"file": "*/a.extxyz", "index": ":2"}, ["one/a0", "one/a1", "two/a0", "two/a1"]),
        ([{"file": ["t*/a.extxyz", "one/*.extxyz"], "index": "1"}], ["two/a1", "one/a1", "one/b1"]),
    ],
)
def test_a_part_is_read_in_the_order_that_is_written(files: Project, train_part: Any, expected: list[str]) -> None:
    if isinstance(train_part, dict) and train_part.get("index") == -1:
        train_part = train_part | {"index": "-1"}
    assert places(files(data={"train": train_part, **VALID})) == expected


def test_keys_of_a_file_and_of_the_section(files: Project) -> None:
    path = files(data={"train": "one/a.extxyz", "valid": "one/b.extxyz"})
    text = (path.parent / "one/a.extxyz").read_text().replace(" energy=", " E=")
    (path.parent / "one/a.extxyz").write_text(text)
    sources = [{"file": "one/a.extxyz", "keys": {"energy": "E"}}, "two/a.extxyz"]
    recipe = yaml.safe_load(path.read_text()) | {"data": {"train": sources, "valid": "one/b.extxyz"}}
    frames = read_frames(parse_recipe(recipe, path))["train"]
    assert frames.count().labels == {"frames": 10, "energy": 10, "forces": 10, "stress": 10}
    assert [count.labels["energy"] for count in frames.count_by_file()] == [5, 5]


@pytest.mark.parametrize(
    ("train_part", "error", "expected"),
    [
        ("on/*.extxyz", RecipeError, r"data\.train\.file: there is no folder .*/on, in which '\*\.extxyz'"),
        ("one/c*.extxyz", RecipeError, r"data\.train\.file: no file matches 'c\*\.extxyz' in the folder .*/one, which"),
        (["one/a.extxyz", "one/c.extxyz"], RecipeError, r"data\.train\.1\.file: there is no file .*one/c\.extxyz; did you"),
        (["one/a.extxyz", "one/*.extxyz"], DatasetError, r"frames of .*one/a\.extxyz are named twice, 5 in all"),
        ([], RecipeError, r"data\.train: \[\]: there is no file in the list; name at least one"),
        ({"file": []}, RecipeError, r"data\.train: there is no file in the list under `file`"),
        ([{"fil": "one/a.extxyz"}], RecipeError, r"data\.train\.0\.fil: unknown key 'fil'; did you mean 'file'"),
        (["one/a.extxyz", 5], RecipeError, r"data\.train\.1: 5 does not fit"),
        ([["one/a.extxyz"]], RecipeError, r"data\.train\.0: \['one/a\.extxyz'\] does not fit"),
        ({"file": ["one/a.extxyz", None]}, RecipeError, r"data\.train\.file: None does not fit"),
    ],
)
def test_invalid_parts_are_refused(files: Project, train_part: Any, error: type[Exception], expected: str) -> None:
    path = files(data={"train": train_part, **VALID})
    with pytest.raises(error, match=expected):
        read_frames(load_recipe(path))


def test_frames_in_two_parts_are_found_among_several_files(files: Project) -> None:
    path = files(data={"train": ["one/*.extxyz", "two/a.extxyz"], "valid": ["two/b.extxyz", {"file": "one/b.extxyz"}]})
    with pytest.raises(RecipeError, match=r"5 frames of .*one/b\.extxyz are in `train` and in `valid` \(the first is"):
        read_frames(load_recipe(path))


def test_a_split_divides_all_files_and_the_table_names_each(files: Project) -> None:
    path = files(data={"train": "*/*.extxyz", "split": {"train": 12, "valid": 8, "seed": 2}})
    parts = read_frames(load_recipe(path))
    assert {part: len(frames) for part, frames in parts.items()} == {"train": 12, "valid": 8}
    lines = label_table([count for frames in parts.values() for count in frames.count_by_file()]).splitlines()
    names = [f"{name}.extxyz" for name in ("one/a", "one/b", "two/a", "two/b")]
    assert [line.split()[:2] for line in lines[1:]] == [[part, name] for part in ("train", "valid") for name in names]
    assert sum(int(line.split()[2]) for line in lines[1:]) == 20


def test_the_record_names_every_file_and_a_resume_compares_each(files: Project) -> None:
    path = files(
        data={"train": ["one/*.extxyz", "two/a.extxyz"], "valid": "two/b.extxyz"}, optimizer__max_epochs=1,
        optimizer__warmup_steps=1,
    )  # fmt: skip
    result = train(path)
    record = json.loads((result.folder / "run.json").read_text())
    named = [one["file"] for one in record["data"]["train"]["files"]]
    assert named == ["a.extxyz", "b.extxyz", "a.extxyz"]
    assert read_header(result.model)["provenance"]["data"]["train"]["files"][2]["bytes"] > 0
    card = (result.model / "card.md").read_text()
    for name in ("one/a.extxyz", "one/b.extxyz", "two/a.extxyz"):
        assert f"| train | {name} | 5 | 5 | 5 | 5 |" in card
    (result.folder / "run.json").write_text(json.dumps(record | {"finished": False}))
    assert (result.folder / "recipe.yaml").read_text().count(str(path.parent)) == 4  # three data files and the output

    train(result.folder / "recipe.yaml", resume=True)  # paths are relative to the copy
    (result.folder / "run.json").write_text(json.dumps(record | {"finished": False}))
    other = path.parent / "two/a.extxyz"
    other.write_text(other.read_text() + other.read_text())
    with pytest.raises(TrainingError, match=r"^a\.extxyz: the data of `train` changed"):
        train(path, resume=True)
    (path.parent / "one/b.extxyz").rename(path.parent / "one/c.extxyz")
    with pytest.raises(TrainingError, match=r"^c\.extxyz, a\.extxyz, b\.extxyz \(left out\): the data of `train` changed"):
        train(path, resume=True)
    changed = [{"file": "one/*.extxyz"}, {"file": "two/a.extxyz", "index": "::2"}]
    with pytest.raises(RecipeError, match=r"data\.train\.1\.index was ':', is '::2'"):
        train(path, resume=True, overrides=[f"data.train={json.dumps(changed)}"])


def test_patterns_keep_their_meaning_in_the_copy_of_the_recipe(files: Project, tmp_path: Path) -> None:
    from mlff_calc.training.recipe_copies import runnable_recipe, shipped_recipe

    path = files(data={"train": ["*/a.extxyz", {"file": ["one/b.extxyz", "/d/*.xyz"], "index": ":3"}], **VALID})
    odd = tmp_path / "set[1]"
    odd.mkdir()
    for name in ("one", "two", "recipe.yaml"):
        (tmp_path / name).rename(odd / name)
    recipe = load_recipe(odd / path.name)
    copy = runnable_recipe(recipe, odd / "run")
    assert copy["data"]["train"][1]["file"] == [f"{odd}/one/b.extxyz", "/d/*.xyz"]
    copy["data"] |= {"train": copy["data"]["train"][0], "valid": f"{odd}/two/b.extxyz"}
    again = parse_recipe(copy, "/elsewhere/recipe.yaml")
    assert [path.name for path in read_frames(again)["train"].paths] == ["a.extxyz", "a.extxyz"]
    assert shipped_recipe(recipe)["data"]["train"][1]["file"] == ["one/b.extxyz", "*.xyz"]


def test_sources_of_the_command_line() -> None:
    sources = parse_sources({"file": ["a", "b"], "index": ":3", "units": {"energy": "Ha"}}, "mlff eval")
    assert [(one.file, one.index) for one in sources] == [("a", ":3"), ("b", ":3")]
    with pytest.raises(RecipeError, match=r"mlff eval: unit: unknown key 'unit'; did you mean 'units'"):
        parse_sources({"file": ["a"], "unit": {}}, "mlff eval")
