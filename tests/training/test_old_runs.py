"""Runs begun by earlier versions. `old/` contains small runs as they were after two of four epochs.

The later epochs give the results of the version that began them.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from mlff_calc.errors import TrainingError
from mlff_calc.potential import load_potential
from mlff_calc.training.checkpoint_files import load_tensors, save_tensors
from mlff_calc.training.run import train

OLD = Path(__file__).parent / "old"
LOSSES = {"hegnn_zbl": (0.61427249, 0.61529868), "hegnn_direct": (0.61394529, 0.61511741)}
"""Validation losses of the third and fourth epoch."""


@pytest.fixture(params=LOSSES)
def begun(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """Name of a run, and a recipe beside its folder `run`."""
    name = request.param
    shutil.copytree(OLD / name, tmp_path / "run")
    shutil.copy(OLD / "cu.extxyz", tmp_path)
    recipe = yaml.safe_load((OLD / name / "recipe.yaml").read_text())
    recipe["output"], recipe["data"]["train"] = "run", "cu.extxyz"
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return name, tmp_path / "recipe.yaml"


def test_old_runs_continue_with_their_own_rules(begun: tuple[str, Path]) -> None:
    name, recipe = begun
    result = train(recipe, resume=True)
    rows = list(csv.DictReader((result.folder / "metrics.csv").read_text().splitlines()))
    assert [float(row["valid_loss"]) for row in rows[2:]] == pytest.approx(LOSSES[name], rel=1e-6)
    last = load_tensors(result.folder / "checkpoints" / "last.ckpt")
    n_parameters = len(list(load_potential(result.model).parameters()))
    groups, states = last["optimizer_states"][0]["param_groups"], last["optimizer_states"][0]["state"]
    assert len(last["callbacks"]["AveragedWeights"]["average"]) == n_parameters
    assert [index for group in groups for index in group["params"]] == list(range(n_parameters))
    assert states.keys() <= set(range(n_parameters))
    assert not [weight for weight in last["state_dict"] if "heads" not in weight and "head" in weight]


def test_one_that_was_changed_is_refused(begun: tuple[str, Path]) -> None:
    name, recipe = begun
    path = recipe.parent / "run" / "checkpoints" / "last.ckpt"
    last = load_tensors(path)
    del last["optimizer_states"]
    save_tensors(last, path)
    with pytest.raises(TrainingError, match=r"last\.ckpt: it is of an earlier version, and lacks something .*--overwrite"):
        train(recipe, resume=True)
    last = load_tensors(OLD / name / "checkpoints" / "last.ckpt")
    last["state_dict"]["potential.head.scale"] = torch.zeros(2)
    save_tensors(last, path)
    with pytest.raises(TrainingError, match=r"its state_dict\.potential\.heads\.energy\.scale is a tensor \[2\]"):
        train(recipe, resume=True)


def test_a_run_of_an_earlier_fixed_point_is_refused_with_the_cure(tmp_path: Path) -> None:
    """Its weights had the names of `networks/upgrades.py`; the checkpoint is one of today under those names."""
    shutil.copy(OLD / "cu.extxyz", tmp_path)
    recipe = yaml.safe_load((OLD / "hegnn_zbl" / "recipe.yaml").read_text())
    recipe["output"], recipe["data"]["train"], recipe["optimizer"]["max_epochs"] = "run", "cu.extxyz", 1
    recipe["potential"]["backbone"] = {"name": "deq", "l_max": 1, "channels": 4, "cutoff": 3.0}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    folder = train(tmp_path / "recipe.yaml").folder
    record = json.loads((folder / "run.json").read_text())
    assert record.pop("finished")
    (folder / "run.json").write_text(json.dumps(record))
    path = folder / "checkpoints" / "last.ckpt"
    last = load_tensors(path)
    assert any(".stack." in name for name in last["state_dict"])
    last["state_dict"] = {name.replace(".stack.", "."): value for name, value in last["state_dict"].items()}
    save_tensors(last, path)
    cure = "had no option `block`.*start anew with --overwrite, with `block: equiformer` and `prelude: 0`"
    with pytest.raises(TrainingError, match=cure):
        train(tmp_path / "recipe.yaml", resume=True)
