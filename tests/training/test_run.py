"""Whole runs on a tiny data set: the result, resuming, refusing, stopping."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml

from mlff_calc.errors import DatasetError, EvaluationError, RecipeError, TrainingError
from mlff_calc.networks import read_header
from mlff_calc.potential import build_potential, load_potential
from mlff_calc.training.frames.read import read_frames
from mlff_calc.training.potential.evaluate import evaluate
from mlff_calc.training.recipe import load_recipe
from mlff_calc.training.run import train

from ..children import Child

Project = Callable[..., Path]


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return weights, averages and moments at the end of a run."""
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    state = dict(last["state_dict"])
    for index, average in enumerate(last["callbacks"]["AveragedWeights"]["average"]):
        state[f"average {index}"] = average
    for index, moments in last["optimizer_states"][0]["state"].items():
        state[f"moment {index}"] = moments["exp_avg"]
    return state


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different


@pytest.mark.usefixtures("drawn_plots")
def test_a_run_writes_a_potential_with_the_errors_in_the_report(project: Project) -> None:
    path = project()
    result = train(path, command="mlff train recipe.yaml")
    rows = (result.folder / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + 4
    assert rows[0].startswith("epoch,step,minutes,cpu_minutes,learning_rate,train_loss,valid_loss,")
    potential = load_potential(result.model)
    assert potential.elements == [29]
    test = read_frames(load_recipe(path))["test"]
    again = evaluate(potential, test.samples, batch_size=2)
    assert again.errors["forces"].mae == pytest.approx(result.report.errors["forces"].mae, rel=1e-4)
    assert again.errors["forces"].count == sum(3 * len(sample.atoms) for sample in test.samples)
    header = read_header(result.model)
    assert header["provenance"]["data"]["train"]["frames"] == 12
    card = (result.model / "card.md").read_text()
    for text in (
        "tiny copper",
        "EMT",
        "mlff train recipe.yaml",
        "| train | cu.extxyz | 12 | 12 | 12 | 12 |",
        "## Not for",
    ):
        assert text in card
    assert yaml.safe_load((result.model / "recipe.yaml").read_text()) == yaml.safe_load(path.read_text())
    for name in ("learning_curve.png", "parity.png"):
        assert (result.folder / name).read_bytes()[:4] == b"\x89PNG"
    assert not list(result.folder.rglob("*.tmp"))
    assert sorted(p.name for p in path.parent.iterdir()) == ["cu.extxyz", "recipe.yaml", "run"]


def test_training_learns(project: Project) -> None:
    """After 24 epochs losses and force errors are below a third of the first ones, also on other frames."""
    result = train(project(potential__backbone__name="equiformer", optimizer__max_epochs=24, loss__stress=1.0))
    rows = rows_of(result.folder)
    for name in ("train_loss", "valid_loss", "valid_forces_mae"):
        assert float(rows[-1][name]) < float(rows[0][name]) / 3, name
    assert result.report.errors["forces"].mae < float(rows[0]["valid_forces_mae"]) / 3
    assert "stress" in result.report.errors


def test_direct_forces_are_learnt_and_tuned(project: Project, tmp_path: Path) -> None:
    path = project(potential__forces="direct")
    result = train(path)
    assert set(result.report.errors) == {"energy", "energy_per_atom", "forces"}
    weights = final_weights(result.folder)
    assert any(name.startswith("potential.heads.direct_forces") and value.abs().sum() > 0 for name, value in weights.items())
    potential = load_potential(result.model)
    assert potential.direct_forces
    recipe = yaml.safe_load(path.read_text())
    del recipe["potential"]
    recipe |= {"fine_tune_from": "run/potential", "output": "tuned"}
    path.write_text(yaml.safe_dump(recipe))
    with pytest.raises(RecipeError, match=r"loss.stress is 1, but the potential 'run/potential' has direct forces"):
        train(path, overrides=["loss.stress=1"])
    assert not (tmp_path / "tuned").exists()
    assert load_potential(train(path).model).direct_forces


def test_the_same_recipe_gives_the_same_weights(project: Project, tmp_path: Path) -> None:
    path = project()
    for name in ("a", "b"):
        train(path, output=tmp_path / name)
    assert_same(final_weights(tmp_path / "a"), final_weights(tmp_path / "b"))


class _StopError(Exception):
    pass


@pytest.mark.parametrize(
    "stop_at", [(1, 0), (2, 1), (3, 2), (0, 1)], ids=["early", "middle", "last batch", "first epoch"]
)
def test_resuming_gives_the_weights_of_an_uninterrupted_run(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: tuple[int, int]
) -> None:
    from mlff_calc.training.module import TrainingModule

    path = project()
    train(path, output=tmp_path / "whole")
    step = TrainingModule.training_step

    def interrupted(self: TrainingModule, batch: object, batch_idx: int) -> torch.Tensor:
        if (self.trainer.current_epoch, batch_idx) == stop_at:
            raise _StopError
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", interrupted)
        with pytest.raises(_StopError):
            train(path, output=tmp_path / "parts")
    train(path, output=tmp_path / "parts", resume=True)
    assert_same(final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts"))

    def losses(name: str) -> list[list[str]]:
        rows = [row.split(",") for row in (tmp_path / name / "metrics.csv").read_text().splitlines()]
        return [[row[0], row[1], *row[4:]] for row in rows]

    assert losses("whole") == losses("parts")


def test_a_folder_with_a_run_is_kept_unless_told_otherwise(project: Project) -> None:
    path = project()
    result = train(path)
    before = (result.folder / "metrics.csv").read_bytes()
    with pytest.raises(TrainingError, match="holds a run already; go on with --resume, replace it with --overwrite"):
        train(path)
    with pytest.raises(TrainingError, match="this run is finished"):
        train(path, resume=True)
    with pytest.raises(RecipeError, match="exclude each other"):
        train(path, resume=True, overwrite=True)
    assert (result.folder / "metrics.csv").read_bytes() == before
    train(path, overwrite=True)


def test_resume_refuses_another_recipe_and_other_data(project: Project) -> None:
    path = project()
    result = train(path)
    record = json.loads((result.folder / "run.json").read_text())
    (result.folder / "run.json").write_text(json.dumps(record | {"finished": False}))
    with pytest.raises(RecipeError, match=r"had another recipe: optimizer.learning_rate was 0.005, is 0.1"):
        train(path, resume=True, overrides=["optimizer.learning_rate=0.1"])
    frames = ase.io.read(path.parent / "cu.extxyz", ":")
    frames[0].positions += 0.01
    ase.io.write(path.parent / "cu.extxyz", frames)
    with pytest.raises(TrainingError, match=r"cu.extxyz: the data of `train` changed"):
        train(path, resume=True)


def test_a_foreign_folder_is_not_touched(project: Project, tmp_path: Path) -> None:
    path = project()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(TrainingError, match="not empty and not a run"):
        train(path, output=tmp_path / "mine")
    with pytest.raises(TrainingError, match="not empty and not a run"):
        train(path, output=tmp_path / "mine", overwrite=True)
    with pytest.raises(TrainingError, match="no run to resume"):
        train(path, output=tmp_path / "mine", resume=True)


def assert_nothing_written(path: Path) -> None:
    assert not (path.parent / "run").exists()


def test_missing_file_is_named_before_anything_is_written(project: Project) -> None:
    path = project(data__train="gone.extxyz")
    with pytest.raises(RecipeError, match=r"recipe.yaml: data.train.file: there is no file .*gone.extxyz"):
        train(path)
    assert_nothing_written(path)


def test_a_weight_without_labels_is_refused(project: Project) -> None:
    path = project(stress=False, loss__stress=1.0)
    with pytest.raises(
        RecipeError, match=r"loss.stress is 1, but .*cu.extxyz .* no stress under the key .*data.keys.stress"
    ):
        train(path)
    assert_nothing_written(path)


def test_split_larger_than_the_file_is_refused(project: Project) -> None:
    path = project(data__split__train=30)
    with pytest.raises(RecipeError, match=r"data.split of .*asks for train 30, valid 4, test 4 of 20 frames"):
        train(path)
    assert_nothing_written(path)


def test_a_split_by_composition_keeps_isomers_together(project: Project) -> None:
    path = project(data__split={"by": "composition", "valid": 1, "test": 1, "seed": 5})
    frames = ase.io.read(path.parent / "cu.extxyz", ":")
    for number, atoms in enumerate(frames):
        atoms.symbols[: number % 3] = "Ag"
    ase.io.write(path.parent / "cu.extxyz", frames)
    parts = read_frames(load_recipe(path))
    held = {part: {sample.atoms.get_chemical_formula() for sample in one.samples} for part, one in parts.items()}
    assert [len(held[part]) for part in ("train", "valid", "test")] == [1, 1, 1]
    assert set.union(*held.values()) == {"Cu2", "AgCu", "Ag2"}
    assert sum(len(one) for one in parts.values()) == len(frames)
    path.write_text(path.read_text().replace("test: 1", "test: 2"))
    with pytest.raises(RecipeError, match=r"asks for train 0, valid 1, test 2 of 3 compositions: nothing is left"):
        read_frames(load_recipe(path))


def test_files_that_disagree_on_elements_are_refused(project: Project) -> None:
    path = project(data={"train": "cu.extxyz", "valid": "valid.extxyz"})
    frames = ase.io.read(path.parent / "cu.extxyz", ":4")
    for atoms in frames:
        atoms.symbols[0] = "Ag"
    ase.io.write(path.parent / "valid.extxyz", frames)
    with pytest.raises(DatasetError, match=r"valid.extxyz \(valid\) holds Ag, but the training data .* hold only Cu"):
        train(path)
    assert_nothing_written(path)


def test_labels_that_are_nan_are_refused(project: Project) -> None:
    path = project()
    frames = ase.io.read(path.parent / "cu.extxyz", ":")
    frames[3].calc.results["forces"][1, 2] = np.nan
    ase.io.write(path.parent / "cu.extxyz", frames)
    with pytest.raises(DatasetError, match=r"cu.extxyz.*3"):
        train(path)
    assert_nothing_written(path)


def test_wrong_backbone_option_is_refused_with_the_nearest(project: Project) -> None:
    path = project(potential__backbone__chanels=4)
    with pytest.raises(
        RecipeError, match=r"recipe.yaml: potential.backbone.chanels: .*'chanels'.*did you mean 'channels'"
    ):
        train(path)
    assert_nothing_written(path)


def test_a_loss_that_is_not_finite_stops_and_saves_the_batch(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project()
    from mlff_calc.training.data import EpochLoader

    draw = EpochLoader.__iter__

    def poisoned(self: EpochLoader) -> object:
        for number, batch in enumerate(draw(self)):
            if self.seed is not None and self.epoch() == 1 and number == 1:
                batch.graph["edge_vec"][0] = float("inf")
            yield batch

    monkeypatch.setattr(EpochLoader, "__iter__", poisoned)
    with pytest.raises(TrainingError, match=r"loss is not finite at step 4, in the batch of frames .*bad_batch.extxyz"):
        train(path)
    saved = ase.io.read(path.parent / "run" / "bad_batch.extxyz", ":")
    frames = ase.io.read(path.parent / "cu.extxyz", ":")
    assert len(saved) == 4
    for atoms in saved:
        assert np.allclose(atoms.positions, frames[atoms.info["frame"]].positions)
    weights = final_weights(path.parent / "run")
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())
    assert not (path.parent / "run" / "potential").exists()


def test_a_validation_that_is_not_finite_stops_and_names_the_batch(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project(data__split__valid=5, data__split__test=3)
    from mlff_calc.training.data import EpochLoader

    draw = EpochLoader.__iter__

    def poisoned(self: EpochLoader) -> object:
        for number, batch in enumerate(draw(self)):
            if self.seed is None and number == 1:  # the second batch contains only the fifth frame
                batch.graph["edge_vec"][0] = float("inf")
            yield batch

    valid = read_frames(load_recipe(path))["valid"]
    monkeypatch.setattr(EpochLoader, "__iter__", poisoned)
    with pytest.raises(
        TrainingError, match=rf"validation loss .* the batch of frames {valid.samples[4].frame} of .*cu"
    ):
        train(path)
    saved = ase.io.read(path.parent / "run" / "bad_batch.extxyz", ":")
    assert [atoms.info["frame"] for atoms in saved] == [valid.samples[4].frame]
    assert not (path.parent / "run" / "checkpoints" / "best.ckpt").exists()


def test_an_output_that_is_not_finite_ends_an_evaluation_with_its_frame(project: Project) -> None:
    path = project()
    samples = read_frames(load_recipe(path))["train"].samples
    potential = build_potential(yaml.safe_load(path.read_text())["potential"] | {"elements": [29]}, seed=0).eval()

    class Poisoned:
        elements, cutoff = potential.elements, potential.cutoff

        def __call__(self, graph: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            outputs = potential(graph)
            if graph["cell"].shape[0] < 5:  # the last batch
                outputs["forces"][3, 1] = float("nan")
            return outputs

    with pytest.raises(EvaluationError, match=rf"cu.extxyz, frame {samples[11].frame}: .* forces that is not finite"):
        evaluate(Poisoned(), samples, batch_size=5)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_epochs_without_validation_have_empty_cells_and_the_last_has_one(project: Project) -> None:
    result = train(project(trainer__validate_every=3))
    cells = [(row["epoch"], row["valid_loss"] != "", row["valid_forces_mae"] != "") for row in rows_of(result.folder)]
    assert cells == [("1", False, False), ("2", False, False), ("3", True, True), ("4", True, True)]


def test_a_short_budget_of_minutes_is_validated_at_its_end(project: Project) -> None:
    path = project(optimizer__max_epochs=None, optimizer__max_minutes=1e-6, trainer__validate_every=50)
    result = train(path)
    rows = rows_of(result.folder)
    assert int(rows[-1]["step"]) <= 2
    assert float(rows[-1]["valid_loss"]) > 0
    assert load_potential(result.model).elements == [29]


@pytest.mark.parametrize("ending", ["minutes", "epochs", "early stop"])
def test_a_run_killed_after_its_end_is_finished_and_not_trained_further(
    project: Project, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    budget = {"minutes": {"optimizer__max_minutes": 0.01, "optimizer__max_epochs": None}, "epochs": {}}
    budget["early stop"] = {"optimizer__max_epochs": 50, "optimizer__learning_rate": 1e-12, "trainer__early_stop": 1}
    path = project(**budget[ending])
    from mlff_calc.training import run

    def killed(*arguments: object, **options: object) -> None:
        raise _StopError

    with monkeypatch.context() as patch:
        patch.setattr(run, "_write", killed)
        with pytest.raises(_StopError):
            train(path)
    before = (path.parent / "run" / "metrics.csv").read_bytes()
    weights = final_weights(path.parent / "run")
    result = train(path, resume=True)
    assert (result.folder / "metrics.csv").read_bytes() == before
    assert_same(final_weights(result.folder), weights)
    assert load_potential(result.model).elements == [29]
    assert json.loads((result.folder / "run.json").read_text())["finished"]


def test_early_stop_ends_the_run(project: Project) -> None:
    path = project(
        optimizer__max_epochs=50, optimizer__learning_rate=1e-12, optimizer__ema_decay=None, trainer__early_stop=2
    )
    train(path, output=path.parent / "run")
    rows = (path.parent / "run" / "metrics.csv").read_text().splitlines()
    assert len(rows) - 1 < 50


def test_a_budget_of_minutes_ends_at_the_floor(project: Project) -> None:
    path = project(optimizer__max_epochs=None, optimizer__max_minutes=0.03, optimizer__warmup_steps=0)
    result = train(path)
    rows = [row.split(",") for row in (result.folder / "metrics.csv").read_text().splitlines()[1:]]
    rates = [float(row[4]) for row in rows]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.05 * 5e-3
    assert result.minutes >= 0.03
    # the time may run out in the validation after an epoch; one more step is then made
    assert all(float(row[2]) < 0.03 for row in rows[:-2])


def test_a_budget_of_processor_minutes_counts_those_of_all_parts(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is killed and resumed. Both parts share the budget, and waiting does not use it."""
    from mlff_calc.training.callbacks import MetricsFile

    path = project(optimizer__max_epochs=None, optimizer__max_cpu_minutes=0.02)
    add_row = MetricsFile.on_train_epoch_end

    def killed(self: MetricsFile, trainer: object, module: object) -> None:
        add_row(self, trainer, module)
        time.sleep(0.2)
        if len(self.rows) == 3:
            raise _StopError

    with monkeypatch.context() as patch:
        patch.setattr(MetricsFile, "on_train_epoch_end", killed)
        with pytest.raises(_StopError):
            train(path)
    result = train(path, resume=True)
    rows = rows_of(result.folder)
    assert all(float(row["cpu_minutes"]) < 0.02 for row in rows[:-2])
    assert float(rows[-1]["cpu_minutes"]) >= 0.02
    assert float(rows[-1]["minutes"]) > float(rows[-1]["cpu_minutes"])
    record = json.loads((result.folder / "run.json").read_text())
    assert record["cpu_minutes"] >= 0.02
    assert "of processor time" in (result.model / "card.md").read_text()


def wait_for_epochs(folder: Path, n: int) -> None:
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        if (folder / "metrics.csv").is_file() and len((folder / "metrics.csv").read_text().splitlines()) > n:
            return
        time.sleep(0.02)
    pytest.fail("the run did not get going")


def test_ctrl_c_gives_one_message_and_the_run_can_be_resumed(project: Project, child: Callable[..., Child]) -> None:
    path = project(optimizer__max_epochs=24)
    process = child("train", path)
    wait_for_epochs(path.parent / "run", 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert "Traceback" not in process.stderr
    lines = [line for line in process.stderr.splitlines() if "interrupted" in line]
    assert len(lines) == 1
    assert "--resume" in lines[0]
    assert not (path.parent / "run" / "potential").exists()
    result = train(path, resume=True)
    assert [row["epoch"] for row in rows_of(result.folder)] == [str(epoch + 1) for epoch in range(24)]
    assert load_potential(result.model).elements == [29]


@pytest.mark.slow
def test_kill_9_loses_nothing_that_was_finished(project: Project, child: Callable[..., Child]) -> None:
    path = project(optimizer__max_epochs=60)
    for epochs in (2, 20):
        process = child("train", path, *(["--resume"] if epochs > 2 else []))
        wait_for_epochs(path.parent / "run", epochs)
        process.kill()
    train(path, output=path.parent / "whole")
    train(path, resume=True)
    assert_same(final_weights(path.parent / "whole"), final_weights(path.parent / "run"))


def test_a_disk_that_refuses_ends_in_one_message_and_leaves_nothing_half_written(
    project: Project, child: Callable[..., Child]
) -> None:
    path = project()
    process = child("train", path, largest_file=4_000)
    assert process.wait(60) == 1
    assert "Traceback" not in process.stderr
    assert next(line for line in process.stderr.splitlines() if line.startswith("mlff: error:")).count("ckpt") == 1
    run = path.parent / "run"
    assert not list(run.rglob("*.tmp"))
    assert not list(run.rglob("*.ckpt"))
    assert not (run / "potential").exists()
    train(path, resume=True)
    assert load_potential(run / "potential").elements == [29]


@pytest.mark.slow
def test_two_processes_train_one_potential(project: Project) -> None:
    """Each process takes every other frame, so that two batches of 2 equal one of 4, with the losses of a single process."""
    path = project(trainer__n_devices=2, optimizer__batch_size=2, loss__stress=1.0)
    command = [sys.executable, "-m", "mlff_calc.cli.main", "train", str(path)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    overrides = ["trainer.n_devices=1", "optimizer.batch_size=4"]
    single = train(path, overrides=overrides, output=path.parent / "single")
    both, one = rows_of(path.parent / "run"), rows_of(single.folder)
    assert [(row["epoch"], row["step"]) for row in both] == [("1", "3"), ("2", "6"), ("3", "9"), ("4", "12")]
    for row, expected in zip(both, one, strict=True):
        for name in ("train_loss", "valid_loss", "valid_energy_mae", "valid_forces_rmse", "valid_stress_mae"):
            assert float(row[name]) == pytest.approx(float(expected[name]), rel=1e-3), name
    assert load_potential(path.parent / "run" / "potential").elements == [29]
