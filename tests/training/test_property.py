"""Properties as a trainable kind: from structures to predictions with error bars, and inputs that are refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import molecule

from mlff_calc import load_property
from mlff_calc.errors import DatasetError, OptionError, RecipeError
from mlff_calc.networks import kind_of
from mlff_calc.training.property.example import EXAMPLE_PROPERTY_RECIPE
from mlff_calc.training.property.task import PropertyTask
from mlff_calc.training.recipe import load_recipe, parse_recipe
from mlff_calc.training.run import TrainingResult, train

from ..children import Child
from .changes import with_changes

Mlff = Callable[..., subprocess.CompletedProcess[str]]


def waters(n: int, seed: int = 0) -> list[Atoms]:
    """Distorted molecules; the label is a distance with noise that grows with it."""
    random, frames = np.random.default_rng(seed), []
    for k in range(n):
        atoms = molecule("H2O" if k % 3 else "H2O2")
        atoms.positions += random.normal(scale=0.1, size=atoms.positions.shape)
        atoms.info["gap"] = float(2.0 * atoms.get_distance(0, 1) + 0.05 * random.normal())
        frames.append(atoms)
    return frames


def recipe_of(folder: Path, frames: list[Atoms] | None = None, **changes: Any) -> dict[str, Any]:
    ase.io.write(folder / "frames.extxyz", waters(90) if frames is None else frames, format="extxyz")
    recipe: dict[str, Any] = {
        "property": {
            "backbone": {"name": "hegnn", "l_max": 1, "channels": 8, "n_layers": 1, "cutoff": 3.0},
            "head": {"name": "distribution", "bins": 24},
        },
        "data": {"train": "frames.extxyz", "label": "gap", "unit": "eV", "split": {"valid": 25, "test": 25}},
        "optimizer": {"learning_rate": 0.01, "batch_size": 20, "max_epochs": 3, "ema_decay": None, "warmup_steps": 1},
        "trainer": {"device": "cpu"},
        "output": "run",
    }  # fmt: skip
    return with_changes(recipe, changes)


def run(folder: Path, frames: list[Atoms] | None = None, **changes: Any) -> TrainingResult:
    return train(parse_recipe(recipe_of(folder, frames, **changes), folder / "recipe.yaml"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """A short training with the head `distribution`, which tests only read."""
    return run(tmp_path_factory.mktemp("property"))


def test_the_example_is_a_recipe() -> None:
    recipe = parse_recipe(yaml.safe_load(EXAMPLE_PROPERTY_RECIPE), "example.yaml")
    assert type(recipe).__name__ == "PropertyRecipe"


def test_a_run_writes_network_errors_and_calibration(trained: TrainingResult) -> None:
    assert kind_of(trained.model) == "property"
    found = json.loads((trained.folder / "evaluation.json").read_text())
    assert found["part"] == "test"
    assert found["structures"] == found["calibrated"] == 25
    assert 0.0 < found["mae"] <= found["rmse"]
    assert set(found["coverage"]) == {"0.5", "0.9", "0.95"}
    assert np.isfinite(found["nll"])
    assert (trained.folder / "calibration.png").read_bytes()[:4] == b"\x89PNG"
    card = (trained.model / "card.md").read_text()
    assert "labels in 90% intervals" in card
    network = load_property(trained.model)
    assert float(network.temperature) != 1.0
    assert float(network.widening.abs().sum()) > 0.0
    assert "mean absolute error [eV]" in trained.summary()


def test_the_command_line_predicts_and_judges(trained: TrainingResult, tmp_path: Path, mlff: Mlff) -> None:
    frames = waters(4, seed=1)
    ase.io.write(tmp_path / "new.extxyz", frames, format="extxyz")
    mlff("predict", str(trained.model), str(tmp_path / "new.extxyz"), "--output", str(tmp_path / "out.extxyz"), "--quiet")
    written = ase.io.read(tmp_path / "out.extxyz", index=":")
    expected = load_property(trained.model).predict_many(frames)
    for atoms, one, frame in zip(written, expected, frames, strict=True):
        assert atoms.info["predicted_gap"] == pytest.approx(one.mean, rel=1e-5)
        assert atoms.info["predicted_gap_std"] == pytest.approx(one.std, rel=1e-5)
        assert atoms.info["predicted_gap_q0.05"] == pytest.approx(one.quantiles[0.05], rel=1e-5)
        assert atoms.info["gap"] == pytest.approx(frame.info["gap"])
    told = mlff("eval", str(trained.model), str(tmp_path / "new.extxyz"), "--json", "--plot", str(tmp_path / "plot.png"))
    found = json.loads(told.stdout)
    assert found["structures"] == 4
    means = np.array([one.mean for one in expected])
    assert found["mae"] == pytest.approx(np.abs(means - [one.info["gap"] for one in frames]).mean(), rel=1e-4)
    assert (tmp_path / "plot.png").is_file()


def test_labels_outside_of_the_bins_and_of_another_size_are_named(trained: TrainingResult, tmp_path: Path) -> None:
    frames = waters(6, seed=2)
    frames[2].info["gap"] = 1e4
    ase.io.write(tmp_path / "far.extxyz", frames, format="extxyz")
    report = PropertyTask().evaluate(str(trained.model), [tmp_path / "far.extxyz"])
    assert any("1 of 6 labels" in note and "frame 2" in note for note in report.notes)
    network = load_property(trained.model)
    for atoms in frames:
        atoms.info["gap"] = network.predict(atoms).mean * len(atoms)
    ase.io.write(tmp_path / "totals.extxyz", frames, format="extxyz")
    report = PropertyTask().evaluate(str(trained.model), [tmp_path / "totals.extxyz"])
    assert any("labels look like totals" in note for note in report.notes)
    with pytest.raises(OptionError, match="--key energy: a property has the keys label, smiles"):
        PropertyTask().evaluate(str(trained.model), [tmp_path / "far.extxyz"], keys={"energy": "x"})


def test_one_number_for_all_error_bars_and_totals(tmp_path: Path) -> None:
    frames = waters(90)
    for atoms in frames:
        atoms.info["gap"] += 3.0 * len(atoms)
    result = run(tmp_path, frames, property__head={"name": "scalar"}, property__pooling="references", loss__form="huber")
    network = load_property(result.model)
    water, peroxide = network.predict_many([frames[1], frames[0]])
    assert water.std / 3.0 == pytest.approx(peroxide.std / 4.0)
    assert abs(water.mean - frames[1].info["gap"]) < 1.5
    assert result.report.rank is not None  # of deviations that grow with the size


def test_smiles_as_data(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    smiles = ["C" * k + end for k in range(1, 7) for end in ("O", "N", "=O", "F")]
    rows = [f"{one},{len(one) % 5 + 0.1 * k}" for k, one in enumerate(smiles)]
    (tmp_path / "table.csv").write_text("\n".join(["smiles,gap", *rows]))
    changes = {"data__train": "table.csv", "data__split": {"valid": 6}, "optimizer__max_epochs": 1}
    result = run(tmp_path, property__head={"name": "scalar"}, **changes)
    assert result.judged == "valid"
    assert any("95 % intervals need 20" in note for note in result.notes)
    report = PropertyTask().evaluate(str(result.model), [tmp_path / "table.csv"], index=":6")
    assert report.structures == 6


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path, child: Callable[..., Child]) -> None:
    """The process is killed as soon as it has written its first checkpoint, and the resumed run ends alike."""
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_of(tmp_path, waters(60), optimizer__max_epochs=6)))
    whole = train(path, output=tmp_path / "whole")
    process = child(lambda: train(path, output=tmp_path / "parts"))
    end = time.monotonic() + 120.0
    while not (tmp_path / "parts" / "checkpoints" / "last.ckpt").exists() and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = train(path, output=tmp_path / "parts", resume=True)
    one, other = weights(whole.folder), weights(again.folder)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert load_property(whole.model).sha256 == load_property(again.model).sha256


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"property__head": {"name": "scalar", "bins": 9}}, "`bins` belongs to name: distribution"),
        ({"loss__form": "mse"}, "loss.form does not belong to property.head distribution"),
        ({"property__head": {"name": "distribution", "bins": 5}}, "bins of head 'distribution' are 5"),
        ({"data__split": None}, "no validation frames"),
        ({"trainer__precision": "mixed"}, "trainer.precision is mixed"),
        ({"trainer__compile": True}, "trainer.compile is true"),
        ({"data__train": "absent.extxyz"}, "data.train: there is no file"),
        ({"data__split": {"valid": 80, "test": 30}}, "data.split of"),
    ],
)
def test_recipes_that_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        PropertyTask().read(parse_recipe(recipe_of(tmp_path, **changes), tmp_path / "recipe.yaml"))


def changed(number: int, **info: Any) -> list[Atoms]:
    frames = waters(90)
    frames[number].info |= info
    return frames


def heavy() -> list[Atoms]:
    frames = waters(90)
    frames[7].set_masses([2.014 if z == 1 else None for z in frames[7].numbers])
    return frames


def equal() -> list[Atoms]:
    frames = waters(90)
    for atoms in frames:
        atoms.info["gap"] = 2.0
    return frames


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (lambda: changed(3, charge=-1), "total charge of"),
        (heavy, "amu of an isotope"),
        (equal, "labels of .* are 2; there is nothing to learn"),
        (lambda: changed(3, gap=float("nan")), "1 of 90 labels 'gap'"),
    ],
)
def test_data_that_are_refused(tmp_path: Path, frames: Callable[[], list[Atoms]], words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        run(tmp_path, frames())
    assert not (tmp_path / "run").exists()


def test_one_file_for_two_parts_is_refused(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, data__valid="frames.extxyz", data__split=None)
    with pytest.raises(DatasetError, match="frame 0 is in `train` and in `valid`"):
        PropertyTask().read(parse_recipe(recipe, tmp_path / "recipe.yaml"))


def test_a_copied_recipe_has_other_paths(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_of(tmp_path)))
    changed_paths = load_recipe(path).with_paths(lambda old: f"there/{old}")
    assert changed_paths["data"]["train"] == "there/frames.extxyz"
