"""Recipes: accepted and refused keys, and the texts of errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mlff_calc.errors import RecipeError
from mlff_calc.training.potential.example import EXAMPLE_RECIPE
from mlff_calc.training.recipe import load_recipe, parse_recipe
from mlff_calc.training.recipe_yaml import apply_overrides, read_yaml


def example() -> dict[str, Any]:
    return read_yaml(EXAMPLE_RECIPE, "example")


def refusal(data: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(data, "my.yaml")
    return str(caught.value)


def test_example_is_a_valid_recipe() -> None:
    recipe = parse_recipe(example(), "example.yaml")
    assert recipe.potential is not None
    assert recipe.potential.backbone.config()["l_max"] == 3
    assert recipe.optimizer.max_epochs == 200


def test_commented_keys_of_the_example_are_valid_too() -> None:
    text = EXAMPLE_RECIPE
    shown = (
        "forces",
        "repulsion",
        "elements",
        "scale",
        "avg_num_neighbors",
        "huber_delta",
        "floor",
        "valid_batch_size",
    )
    shown += ("max_minutes", "max_cpu_minutes", "early_stop", "checkpoint_every", "validate_every")
    for key in shown:
        assert f"  # {key}:" in text
        text = text.replace(f"  # {key}:", f"  {key}:")
    recipe = parse_recipe(read_yaml(text, "example"), "example.yaml")
    assert recipe.trainer.early_stop == 50
    assert recipe.optimizer.max_minutes == 30


@pytest.mark.parametrize(
    ("dotted", "value", "expected"),
    [
        ("optimizer.leraning_rate", 1e-3, "'learning_rate'"),
        ("loss.force", 1.0, "'forces'"),
        ("trainer.seeed", 1, "'seed'"),
        ("data.trian", {"file": "a"}, "'train'"),
        ("data.keys.enrgy", "e", "'energy'"),
        ("optimiser", {}, "'optimizer'"),
        ("potential.head.nane", 1, "'name'"),
        ("potential.force", "direct", "'forces'"),
    ],
)
def test_misspelt_key_is_refused_with_the_nearest_one(dotted: str, value: object, expected: str) -> None:
    data = example()
    place = data
    *parents, last = dotted.split(".")
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = value
    message = refusal(data)
    assert f"my.yaml: {dotted}: unknown key '{last}'; did you mean {expected}?" in message


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer.learning_rate=-1", "optimizer.learning_rate: -1 is out of range; give a value > 0"),
        ("optimizer.batch_size=0", "optimizer.batch_size: 0 is out of range; give a value >= 1"),
        ("optimizer.ema_decay=1.0", "give a value < 1"),
        ("loss.forces=-2", "loss.forces: -2 is out of range; give a value >= 0"),
        ("loss.form=l3", "loss.form: 'l3' is not a choice; give 'l2', 'huber' or 'mse'"),
        ("trainer.device=gpu", "trainer.device: 'gpu': give auto, cpu or cuda"),
        ("data.split.valid=1.5", "data.split.valid: 1.5: give a whole number of frames, or a fraction"),
        ("potential.scale=-2.0", "potential.scale: -2.0: give a number greater than 0, or auto"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate: 'fast' does not fit"),
        ("optimizer.learning_rate=.nan", "optimizer.learning_rate: nan does not fit; input should be a finite number"),
        ("potential.backbone=null", "there is no architecture; give `potential.backbone`"),
        ("fine_tuning.freeze=backbone", "fine_tuning.freeze needs a trained network"),
        ("fine_tuning.freeze=-1", "fine_tuning.freeze"),
        ("fine_tuning.freeze=true", "fine_tuning.freeze: True"),
        ("fine_tuning.freeze=1.0", "fine_tuning.freeze: 1.0"),
        ("potential.forces=directly", "potential.forces: 'directly' is not a choice; give 'gradient' or 'direct'"),
        ("potential.head.name=dipole", "potential.head.name: 'dipole' is not a choice; give 'energy'"),
        ("data.valid=valid.extxyz", "data: both `valid` and `split.valid` are given"),
        ("optimizer.batch_size=true", "optimizer.batch_size: True: true and false are not numbers; give a number"),
        (
            "potential.backbone.name=mace",
            "potential.backbone.name: unknown backbone 'mace'; available: cg_egnn, deq, equiformer, hegnn",
        ),
        ("potential.backbone.chanels=8", "potential.backbone.chanels: unknown option 'chanels'"),
        (
            "potential.backbone.channels=abc",
            "potential.backbone.channels: channels of backbone 'hegnn' is 'abc'; give a",
        ),
        (
            "potential.backbone.channels=8.5",
            "potential.backbone.channels: channels of backbone 'hegnn' is 8.5; give a",
        ),
        (
            "potential.backbone.n_layers=1.5",
            "potential.backbone.n_layers: n_layers of backbone 'hegnn' is 1.5; give a",
        ),
        (
            "potential.backbone.n_basis=true",
            "potential.backbone.n_basis: n_basis of backbone 'hegnn' is True; give a",
        ),
        (
            "potential.backbone.cutoff=.inf",
            "potential.backbone.cutoff: cutoff of backbone 'hegnn' is inf; give a fin",
        ),
        ("potential.backbone.channels=0", "potential: backbone hegnn: channels is 0; it must be positive"),
        ("potential.elements=[Xx]", "potential: unknown element 'Xx'"),
        (
            "potential.repulsion.reach=abc",
            "potential.repulsion.reach: 'abc' does not fit; input should be a valid number",
        ),
        ("potential.repulsion.reach=0", "potential.repulsion.reach: 0 is out of range; give a value > 0"),
        ("potential.repulsion.reech=1", "potential.repulsion.reech: unknown key 'reech'; did you mean 'reach'?"),
        ("potential.repulsion.name=lj", "potential.repulsion.name: 'lj' is not a choice; give 'zbl'"),
        ("potential.scale=abc", "potential.scale: 'abc': give a number greater than 0, or auto"),
        ("potential.avg_num_neighbors=.nan", "potential.avg_num_neighbors: nan: give a number greater than 0, or auto"),
    ],
)
def test_bad_values_name_place_value_and_cure(override: str, expected: str) -> None:
    assert expected in refusal(apply_overrides(example(), [override]))


def test_one_line_per_wrong_option_and_no_other() -> None:
    overrides = ["potential.backbone.channels=abc", "potential.backbone.cutof=4.0", "potential.scale=abc"]
    message = refusal(apply_overrides(example(), overrides))
    places = sorted(line.split(": ")[1] for line in message.splitlines())
    assert places == ["potential.backbone.channels", "potential.backbone.cutof", "potential.scale"]


def test_numbers_of_a_potential_are_taken_as_written() -> None:
    overrides = ["potential.backbone.cutoff=4", "potential.scale=1e-3", "potential.repulsion={reach: 1}"]
    potential = parse_recipe(apply_overrides(example(), overrides), "a.yaml").potential
    assert potential is not None
    assert potential.scale == 1e-3
    assert potential.config()["repulsion"] == {"name": "zbl", "reach": 1.0}
    assert potential.config()["backbone"] == {**example()["potential"]["backbone"], "cutoff": 4}


def test_direct_forces_are_not_asked_for_a_stress() -> None:
    direct = apply_overrides(example(), ["potential.forces=direct"])
    recipe = parse_recipe(direct, "my.yaml")
    assert recipe.potential is not None
    assert recipe.potential.forces == "direct"
    assert "loss.stress is 0.5, but potential.forces is direct" in refusal(apply_overrides(direct, ["loss.stress=0.5"]))
    message = refusal(apply_overrides(direct, ["potential.repulsion={}"]))
    assert "my.yaml: potential: `repulsion` acts through the energy" in message


def test_a_run_without_an_end_is_refused() -> None:
    assert "max_epochs, max_minutes" in refusal(apply_overrides(example(), ["optimizer.max_epochs=null"]))


def test_a_run_that_ends_before_its_first_validation_is_refused() -> None:
    message = refusal(apply_overrides(example(), ["trainer.validate_every=201"]))
    assert "trainer.validate_every is 201, but the run ends after optimizer.max_epochs = 200" in message
    parse_recipe(apply_overrides(example(), ["trainer.validate_every=200"]), "my.yaml")


def test_all_weights_zero_is_refused() -> None:
    assert "all weights are 0" in refusal(apply_overrides(example(), ["loss.energy=0", "loss.forces=0"]))


def test_missing_section_is_named() -> None:
    data = example()
    del data["data"]["train"]
    assert "my.yaml: data.train: this key is missing" in refusal(data)


def test_all_findings_come_at_once() -> None:
    message = refusal(apply_overrides(example(), ["optimizer.batch_size=0", "loss.force=1"]))
    assert len(message.splitlines()) == 2


def test_scientific_notation_without_a_dot_is_a_number() -> None:
    recipe = parse_recipe(apply_overrides(example(), ["optimizer.learning_rate=1e-3"]), "a.yaml")
    assert recipe.optimizer.learning_rate == 1e-3


def test_duplicate_key_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("loss:\n  energy: 1\n  energy: 2\n")
    with pytest.raises(RecipeError, match=r"r.yaml, line 3: .*'energy' is given twice"):
        load_recipe(path)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "", "just words"])
def test_not_a_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"r.yaml"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("loss: {form: l2}\n? [a]\n: 1\n", "r.yaml, line 2: not readable as YAML: ['a'] cannot be a key; write a word"),
        ("{a: 1}: 2", "r.yaml, line 1: not readable as YAML: {'a': 1} cannot be a key"),
        ("a: 2001-99-99", "r.yaml: not readable as YAML: month must be in 1..12; put words"),
        ("x: &a [*a]\n", "r.yaml: a YAML alias holds itself; write the section out"),
        ("a: [1\n", "close every bracket"),
    ],
)
def test_yaml_that_cannot_be_read_names_place_and_cure(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("x=[a", "--set 'x=[a': not readable as YAML: expected ',' or ']'"),
        ("loss={[a]: 1}", "--set 'loss={[a]: 1}': not readable as YAML: ['a'] cannot be a key"),
        ("card.title=!!int x", "--set 'card.title=!!int x': not readable as YAML: invalid literal for int()"),
        ("potential=&a [*a]", "--set 'potential=&a [*a]': a YAML alias holds itself"),
    ],
)
def test_overrides_that_cannot_be_read_are_named(override: str, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        apply_overrides(example(), [override])
    assert expected in str(caught.value)
    assert "line" not in str(caught.value)


def test_merged_sections_are_read() -> None:
    assert read_yaml("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", "r")["d"] == {"b": 1, "c": 3}


def test_missing_file_and_binary_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        load_recipe(tmp_path / "b.yaml")


def test_overrides_leave_the_given_data_alone_and_make_sections() -> None:
    data = example()
    changed = apply_overrides(data, ["card.licence=CC0", "data.train.part=train"])
    assert changed["card"]["licence"] == "CC0"
    assert data == example()
    with pytest.raises(RecipeError, match=r"write it as section\.key=value"):
        apply_overrides(data, ["batch_size"])
    with pytest.raises(RecipeError, match="'output' is a value, not a section"):
        apply_overrides(data, ["output.folder=a"])


def test_paths_are_relative_to_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(EXAMPLE_RECIPE)
    recipe = load_recipe(path)
    assert recipe.resolve("a.xyz") == (tmp_path / "a.xyz").resolve()
    monkeypatch.setenv("SOME_FOLDER", "/data")
    assert recipe.resolve("${SOME_FOLDER}/a.xyz") == Path("/data/a.xyz")
    monkeypatch.delenv("SOME_FOLDER")
    with pytest.raises(RecipeError, match="environment variable that is not set"):
        recipe.resolve("${SOME_FOLDER}/a.xyz")


def test_defaults_of_the_data_section_reach_the_sources() -> None:
    data = example()
    data["data"] = {"train": "a.xyz", "valid": {"file": "b.xyz", "keys": {"energy": "E"}}, "keys": {"energy": "REF"}}
    recipe = parse_recipe(data, "a.yaml")
    (train,), (valid,) = recipe.data.sources("train"), recipe.data.sources("valid")
    assert (train.file, train.keys.energy if train.keys else None) == ("a.xyz", "REF")
    assert valid.keys is not None
    assert valid.keys.energy == "E"
    assert recipe.data.sources("test") == []


def test_raw_recipe_survives_a_round_trip() -> None:
    data = example()
    recipe = parse_recipe(data, "a.yaml")
    assert parse_recipe(yaml.safe_load(yaml.safe_dump(recipe.raw)), "a.yaml") == recipe
