"""Weights of frames in a run, from recipe and frames to the loss, while reported errors are unweighted."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
import torch
import yaml

from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.training.frames.read import read_frames
from mlff_calc.training.potential.build import new_potential
from mlff_calc.training.potential.data import GraphFrames
from mlff_calc.training.potential.evaluate import evaluate
from mlff_calc.training.potential.objective import PotentialObjective
from mlff_calc.training.recipe import load_recipe, parse_recipe
from mlff_calc.training.run import train

Project = Callable[..., Path]


@pytest.fixture
def weighted_file(project: Project) -> Callable[..., Path]:
    """Twenty frames, `even` and `odd`; frame 1 has a `config_weight` of 3, frame 2 a `config_energy_weight` of 0.5."""

    def make(**changes: Any) -> Path:
        path = project(**changes)
        frames = ase.io.read(path.parent / "cu.extxyz", ":")
        frames[1].info["config_weight"] = 3
        frames[2].info["config_energy_weight"] = 0.5
        ase.io.write(path.parent / "cu.extxyz", frames)
        return path

    return make


WHOLE = {"train": {"file": "cu.extxyz", "index": ":16"}, "valid": {"file": "cu.extxyz", "index": "16:"}}


def test_the_loss_of_two_frames_equals_that_computed_by_hand(weighted_file: Project) -> None:
    recipe = load_recipe(weighted_file(data=WHOLE, loss={"energy": 2.0, "forces": 5.0, "config_weights": {"even": 4}}))
    frames = read_frames(recipe)["train"]
    potential, graphs = new_potential(recipe, frames)
    from mlff_calc.training.module import TrainingModule

    module = TrainingModule("potential", potential.eval(), PotentialObjective(recipe.loss), recipe)
    batch = graphs.batch([1, 2])
    assert {name: weight.tolist() for name, weight in batch.weights.items()} == {
        "energy": [3.0, 2.0], "forces": [3.0, 3.0, 4.0, 4.0], "stress": [3.0, 4.0],
    }  # fmt: skip
    outputs = potential(batch.graph)
    off = (outputs["energy"] - batch.labels["energy"]).abs().detach() / 2
    far = (outputs["forces"] - batch.labels["forces"]).norm(dim=1).detach()
    expected = 2.0 * (3.0 * off[0] + 2.0 * off[1]) / 2 + 5.0 * (3 * far[0] + 3 * far[1] + 4 * far[2] + 4 * far[3]) / 4
    assert float(module.training_step(batch, 0)) == pytest.approx(float(expected), rel=1e-5)


def test_frames_without_weights_cost_nothing_and_the_switch_turns_them_off(weighted_file: Project) -> None:
    path = weighted_file(data=WHOLE)
    assert read_frames(load_recipe(path))["train"].weights is not None
    assert read_frames(load_recipe(path))["valid"].weights is None
    off = read_frames(load_recipe(path, ["loss.frame_weights=false"]))["train"]
    assert off.weights is None
    assert GraphFrames(off.samples, 3.0, off.weights).batch([1, 2]).weights is None


def test_a_weight_moves_the_fit_and_not_the_report(weighted_file: Project) -> None:
    path = weighted_file(data=WHOLE, loss={"energy": 1.0, "forces": 1.0, "config_weights": {"even": 100, "odd": 0}})
    result = train(path, output=path.parent / "heavy")
    train(path, output=path.parent / "plain", overrides=["loss.config_weights={}", "loss.frame_weights=false"])
    report = json.loads((path.parent / "heavy" / "evaluation.json").read_text())
    assert set(report["by_config_type"]) == {"even", "odd"}
    frames = read_frames(load_recipe(path))["valid"]
    from mlff_calc.potential import load_potential

    unweighted = evaluate(load_potential(result.model), frames.samples)
    assert report["errors"]["forces"]["rmse"] == pytest.approx(unweighted.errors["forces"].rmse, rel=1e-5)
    assert "weights of even: 8 frames, energy 50 to 100, forces 100, stress 100" in result.summary()
    assert "weights of odd: 8 frames, energy 0, forces 0, stress 0" in (result.model / "card.md").read_text()
    assert "even: forces" in (result.model / "card.md").read_text()

    def column(name: str, key: str) -> list[float]:
        with (path.parent / name / "metrics.csv").open(newline="") as stream:
            return [float(row[key]) for row in csv.DictReader(stream)]

    assert column("heavy", "train_loss")[0] > 20 * column("plain", "train_loss")[0]
    heavy, plain = (
        torch.load(path.parent / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("heavy", "plain")
    )
    assert any(not torch.equal(heavy[key], plain[key]) for key in heavy)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"even": -1}, r"loss\.config_weights: .*the weight of 'even' is -1; give a number from 0 to 1e\+06"),
        ({"even": float("nan")}, r"the weight of 'even' is nan"),
        ({"even": float("inf")}, r"the weight of 'even' is inf"),
        ({"even": "4"}, r"the weight of 'even' is '4'"),
        ({"even": True}, r"the weight of 'even' is True"),
        ({"even": None}, r"the weight of 'even' is None"),
        ([4], r"loss\.config_weights: \[4\]: give a weight by config type"),
        ("even", r"loss\.config_weights: 'even': give a weight by config type"),
    ],
)
def test_weights_of_the_recipe_are_checked_by_value(project: Project, weights: Any, expected: str) -> None:
    path = project()
    recipe = yaml.safe_load(path.read_text()) | {"loss": {"config_weights": weights}}
    with pytest.raises(RecipeError, match=expected):
        parse_recipe(recipe, path)


@pytest.mark.parametrize(
    ("weights", "error", "expected"),
    [
        ({"evne": 2.0}, DatasetError, r"recipe\.yaml: loss\.config_weights names 'evne', .* did you mean 'even'"),
        ({"even": 0, "odd": 0}, RecipeError, r"loss\.energy is 1, but the weights of all 16 frames of `train`"),
    ],
)
def test_weights_that_fit_no_frame_are_refused(project: Project, weights: dict, error: type, expected: str) -> None:
    path = project(data=WHOLE, loss={"energy": 1.0, "forces": 1.0, "config_weights": weights})
    with pytest.raises(error, match=expected):
        train(path)
    assert not (path.parent / "run").exists()


def test_a_bad_weight_of_a_frame_is_named_before_anything_is_written(project: Project) -> None:
    path = project(data=WHOLE)
    text = (path.parent / "cu.extxyz").read_text().replace("config_type=even", "config_type=even config_forces_weight=-2", 1)
    (path.parent / "cu.extxyz").write_text(text)
    with pytest.raises(DatasetError, match=r"cu\.extxyz, frame 0: config_forces_weight is -2, which is not a valid weight"):
        train(path)
    assert not (path.parent / "run").exists()


def test_frames_without_a_type_are_the_default_in_weights_and_reports(project: Project) -> None:
    path = project(data=WHOLE, loss={"energy": 1.0, "forces": 1.0, "config_weights": {"Default": 0.5, "even": 2}})
    text = (path.parent / "cu.extxyz").read_text().replace(" config_type=odd", "")
    (path.parent / "cu.extxyz").write_text(text)
    frames = read_frames(load_recipe(path))["train"]
    assert [weight["forces"] for weight in frames.weights] == [2.0, 0.5] * 8
    potential, _ = new_potential(load_recipe(path), frames)
    report = evaluate(potential, frames.samples)
    assert list(report.by_config_type) == ["Default", "even"]
    assert report.by_config_type["Default"]["energy"].count == 8
