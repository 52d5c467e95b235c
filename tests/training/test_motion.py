"""Training and evaluation of propagators: batches, whole runs on a tiny file, resuming, and errors."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from mlff_calc.datasets.motion import MotionSample, NBodyOptions, make_nbody, read_motion, save_archive
from mlff_calc.errors import DatasetError, EvaluationError, MLFFError, OptionError, RecipeError, TrainingError
from mlff_calc.graph import collate
from mlff_calc.networks import read_header
from mlff_calc.propagator import Propagator, load_propagator, motion_graph
from mlff_calc.training import callbacks
from mlff_calc.training import packed as packed_graphs
from mlff_calc.training.module import TrainingModule
from mlff_calc.training.packed import PackedGraphs
from mlff_calc.training.propagator import (
    evaluate_motion_file,
    evaluate_propagator,
)
from mlff_calc.training.propagator.build import new_propagator
from mlff_calc.training.propagator.data import MotionPairs
from mlff_calc.training.propagator.objective import MotionObjective
from mlff_calc.training.propagator.parts import data_fingerprint
from mlff_calc.training.recipe import load_recipe, parse_recipe
from mlff_calc.training.run import train

Project = Callable[..., Path]
Recipe = Callable[..., dict[str, Any]]
Small = Callable[[list[MotionSample]], Propagator]


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """Write trajectories of four charges with three frames each."""
    return make_nbody(NBodyOptions(n_bodies=4, train=24, valid=8, test=9, frames=(30, 35, 40), seed=1))


@pytest.fixture
def project(tmp_path: Path, arrays: dict[str, np.ndarray], motion_recipe: Recipe) -> Project:
    """Function that writes the data and a recipe, and returns the path of the recipe."""

    def make(**changes: Any) -> Path:
        save_archive(tmp_path / "nbody.npz", arrays)
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(motion_recipe(**changes)))
        return path

    return make


def random_sample(n: int, seed: int, *, velocities: bool = True, edges: np.ndarray | None = None) -> MotionSample:
    """Return a sample of n particles of two kinds, with edges in random order."""
    random = np.random.default_rng(seed)
    if edges is None:
        edges = np.array([(i, j) for j in range(n) for i in range(n) if i != j]).T
    x, v = random.normal(size=(2, n, 3))
    return MotionSample(
        positions=x,
        velocities=v,
        target_positions=x + v,
        target_velocities=v if velocities else None,
        kinds=random.choice([1, 6], size=n),
        scalars=random.normal(size=(n, 2)),
        edges=edges,
        edge_scalars=random.normal(size=(edges.shape[1], 1)),
        horizon=0.5 + seed,
        place=f"made up, sample {seed}",
    )


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


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
    assert not [name for name in a if not torch.equal(a[name], b[name])]


# ---- batches


@pytest.mark.parametrize("few", [0, 32])
def test_packed_graphs_equal_those_of_collate(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_graphs, "FEW", few)
    chain = np.array([[1, 0, 2, 1], [0, 1, 1, 2]])
    samples = [random_sample(2, 0), random_sample(5, 1), random_sample(3, 2, edges=chain), random_sample(4, 3)]
    graphs = [motion_graph(sample) for sample in samples]
    packed = PackedGraphs(graphs)
    for chosen in ([0], [2], [3, 0], [1, 2, 3, 0], [2, 2, 1]):
        expected, found = collate([graphs[i] for i in chosen]), packed.take(packed.chosen(chosen))
        assert expected.keys() == found.keys()
        assert_same(expected, found)
        assert [found[name].dtype for name in expected] == [expected[name].dtype for name in expected]


def test_a_batch_carries_the_targets_of_its_samples() -> None:
    samples = [random_sample(2, 0), random_sample(4, 1, velocities=False), random_sample(3, 2)]
    batch = MotionPairs(samples).batch([2, 1])
    assert batch.n_atoms.tolist() == [3, 4]
    assert batch.frames == [2, 1]
    wanted = np.concatenate([samples[2].target_positions, samples[1].target_positions])
    np.testing.assert_array_equal(batch.labels["positions"].numpy(), wanted)
    np.testing.assert_array_equal(batch.labels["velocities"][:3].numpy(), samples[2].target_velocities)
    assert bool(batch.labels["velocities"][3:].isnan().all())


def test_the_loss_of_a_mixed_batch_is_the_mean_over_particles(motion_recipe: Recipe) -> None:
    samples = [random_sample(n, n) for n in (2, 5, 3)]
    recipe = parse_recipe(
        motion_recipe(
            propagator__predict_velocities=True,
            loss={"positions": 2.0, "velocities": 0.5},
            trainer__precision="float64",
        ),
        "my.yaml",
    )
    propagator = new_propagator(recipe, samples)
    module = TrainingModule("propagator", propagator, MotionObjective(recipe.loss), recipe)
    pairs = MotionPairs(samples)
    whole = module.training_step(pairs.batch([0, 1, 2]), 0)
    total = 0.0
    for index, sample in enumerate(samples):
        out = propagator(pairs.batch([index]).graph)
        x = out["positions"].detach().numpy() - sample.target_positions
        v = out["velocities"].detach().numpy() - sample.target_velocities
        total += 2.0 * (x**2).sum() / 30.0 + 0.5 * (v**2).sum() / 30.0
    assert float(whole.detach()) == pytest.approx(total, rel=1e-10)


# ---- runs


def test_a_run_writes_a_propagator_with_the_errors_in_the_report(project: Project, tmp_path: Path) -> None:
    result = train(project(), command="mlff train recipe.yaml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nbody.npz", "recipe.yaml", "run"]
    assert [row["epoch"] for row in rows_of(result.folder)] == ["1", "2", "3", "4"]
    assert all(row["valid_positions_mse"] == row["valid_loss"] for row in rows_of(result.folder))
    written = json.loads((result.folder / "evaluation.json").read_text())
    assert written["part"] == "test"
    assert written["errors"].keys() == {"propagator", "constant_velocity", "last_position"}
    test = read_motion(tmp_path / "nbody.npz", part="test")
    propagator = load_propagator(result.model)
    again = evaluate_propagator(propagator, test, batch_size=2)
    assert again.errors["propagator"]["positions"].mse == pytest.approx(
        written["errors"]["propagator"]["positions"]["mse"], rel=1e-5
    )
    one_by_one = [propagator(motion_graph(one))["positions"].detach().numpy() - one.target_positions for one in test]
    assert written["errors"]["propagator"]["positions"]["mse"] == pytest.approx(
        np.mean(np.square(one_by_one)), rel=1e-5
    )
    header = read_header(result.model)
    assert header["provenance"]["data"]["train"]["samples"] == 24
    assert header["provenance"]["reading"] == {"hops": 2, "heavy_atoms": True}
    card = (result.model / "card.md").read_text()
    for text in ("four charges", "mlff train recipe.yaml", "| test | 9 | 4 | 1 |", "| constant velocity | positions |"):
        assert text in card
    assert not list(result.folder.rglob("*.tmp"))
    assert (result.folder / "learning_curve.png").exists()
    assert "constant velocity" in result.summary()


@pytest.mark.usefixtures("drawn_plots")
def test_training_learns_more_than_constant_velocity(project: Project) -> None:
    slow = {"trainer__validate_every": 20, "trainer__checkpoint_every": 20}
    result = train(project(optimizer__max_epochs=40, optimizer__ema_decay=0.9, **slow))
    errors = {row: found["positions"].mse for row, found in result.report.errors.items()}
    assert errors["propagator"] < 0.8 * errors["constant_velocity"] < errors["last_position"]
    assert (result.folder / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"


def test_velocities_are_learnt_where_asked(project: Project) -> None:
    path = project(propagator__predict_velocities=True, loss={"positions": 1.0, "velocities": 0.3, "form": "l2"})
    result = train(path)
    assert result.report.errors["propagator"].keys() == {"positions", "velocities"}
    assert result.report.errors["constant_velocity"].keys() == {"positions", "velocities"}
    assert result.report.errors["last_position"].keys() == {"positions"}
    last = rows_of(result.folder)[-1]
    assert float(last["valid_velocities_mse"]) > 0.0
    assert float(last["valid_loss"]) > 0.0
    assert last["valid_loss"] != last["valid_positions_mse"]


def test_cutoff_and_neighbours_are_measured_or_given(project: Project) -> None:
    path = project()
    samples = read_motion(path.parent / "nbody.npz", part="train")
    longest = max(np.linalg.norm(s.positions[s.edges[1]] - s.positions[s.edges[0]], axis=1).max() for s in samples)
    measured = new_propagator(load_recipe(path), samples).config["backbone"]
    assert measured["cutoff"] == pytest.approx(1.5 * longest, rel=1e-3)
    assert measured["avg_num_neighbors"] == 3.0
    given = ["propagator.backbone.cutoff=7.5", "propagator.backbone.avg_num_neighbors=auto"]
    assert new_propagator(load_recipe(path, given), samples).config["backbone"]["cutoff"] == 7.5


def test_samples_are_read_for_judging_as_they_were_for_training(project: Project) -> None:
    path = project(data__neighbors=1, data__start=30, data__horizon=5, optimizer__max_epochs=1)
    result = train(path)
    again = evaluate_motion_file(result.model, path.parent / "nbody.npz", device="cpu", batch_size=8)
    assert again.errors == result.report.errors
    other = evaluate_motion_file(result.model, path.parent / "nbody.npz", device="cpu", reading={"neighbors": 3})
    assert other.errors["constant_velocity"] == result.report.errors["constant_velocity"]
    assert other.errors["propagator"] != result.report.errors["propagator"]
    ten = evaluate_motion_file(result.model, path.parent / "nbody.npz", device="cpu", reading={"horizon": 10})
    assert ten.errors["constant_velocity"]["positions"].mse > result.report.errors["constant_velocity"]["positions"].mse


def test_without_test_samples_the_validation_samples_judge(project: Project) -> None:
    result = train(project(data__limit={"test": 0, "train": 10}, optimizer__max_epochs=1))
    assert result.judged == "valid"
    assert result.report.samples == 8
    assert json.loads((result.folder / "run.json").read_text())["data"].keys() == {"train", "valid"}


# ---- resuming


class _StopError(Exception):
    pass


@pytest.mark.parametrize("stop_at", [(2, 0), (1, 1), (0, 2)], ids=["after two epochs", "middle", "first epoch"])
def test_resuming_gives_the_weights_of_an_uninterrupted_run(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: tuple[int, int]
) -> None:
    path = project()
    train(path, output=tmp_path / "whole")
    step = TrainingModule.training_step

    def interrupted(self: TrainingModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if (self.trainer.current_epoch, batch_idx) == stop_at:
            raise _StopError
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", interrupted)
        with pytest.raises(_StopError):
            train(path, output=tmp_path / "parts")
    train(path, output=tmp_path / "parts", resume=True)
    assert_same(final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts"))
    kept = ("epoch", "step", "train_loss", "valid_loss", "valid_positions_mse")
    losses = [[[row[key] for key in kept] for row in rows_of(tmp_path / name)] for name in ("whole", "parts")]
    assert losses[0] == losses[1]
    assert_same(
        load_propagator(tmp_path / "whole" / "propagator").state_dict(),
        load_propagator(tmp_path / "parts" / "propagator").state_dict(),
    )


def test_a_run_ends_early_and_keeps_its_best_epoch(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "learning_rate", lambda *_: -5e-3)  # the loss increases
    result = train(project(optimizer__max_epochs=30, optimizer__ema_decay=None, trainer__early_stop=2))
    rows = rows_of(result.folder)
    losses = [float(row["valid_loss"]) for row in rows]
    assert len(rows) == losses.index(min(losses)) + 1 + 2 < 30
    valid = read_motion(result.folder.parent / "nbody.npz", part="valid")
    kept = evaluate_propagator(load_propagator(result.model), valid)
    assert kept.errors["propagator"]["positions"].mse == pytest.approx(min(losses), rel=1e-5)


def test_a_resumed_run_has_the_same_recipe_and_data(project: Project, arrays: dict[str, np.ndarray]) -> None:
    path = project(optimizer__max_epochs=1)
    folder = train(path).folder
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"finished": False}))
    with pytest.raises(RecipeError, match=r"data.neighbors was None, is 2"):
        train(path, overrides=["data.neighbors=2"], resume=True)
    save_archive(path.parent / "nbody.npz", arrays | {"charges": -arrays["charges"]})
    with pytest.raises(TrainingError, match=r"the data of `train` changed"):
        train(path, resume=True)


def test_the_fingerprint_of_a_motion_covers_its_skeleton_and_nothing_else(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("arm.asf", "arm_1.amc", "arm_2.amc")}
    for name, file in files.items():
        file.write_text(f"the text of {name}")
    names = ("arm_1.amc", "arm.asf", ".")

    def marks() -> list[dict[str, Any]]:
        return [data_fingerprint(tmp_path / name) for name in names]

    before = marks()
    assert [mark["bytes"] for mark in before] == [19 + 21, 19 + 2 * 21, 19 + 2 * 21]
    for name, changes in (("arm.asf", [True, True, True]), ("arm_2.amc", [False, True, True])):
        files[name].write_text("other text")
        assert [old != new for old, new in zip(before, marks(), strict=True)] == changes
        before = marks()
    (tmp_path / "notes.txt").write_text("not read")
    assert marks() == before


# ---- bad input


@pytest.mark.parametrize(
    ("override", "error", "expected"),
    [
        ("data.file=gone.npz", RecipeError, "data.file: there is no file"),
        ("data.horizon=11", DatasetError, "has no frame 41"),
        ("data.file=recipe.yaml", DatasetError, "recipe.yaml"),
        ("data.format=md17", DatasetError, "nbody.npz"),
        ("trainer.n_devices=9", OptionError, "trainer.n_devices is 9, but `valid` has 8 frames"),
    ],
)
def test_bad_data_are_refused_before_anything_is_written(
    project: Project, tmp_path: Path, override: str, error: type[MLFFError], expected: str
) -> None:
    with pytest.raises(error) as caught:
        train(project(), overrides=[override])
    assert expected in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nbody.npz", "recipe.yaml"]


@pytest.mark.parametrize("name", ["positions", "velocities", "charges"])
def test_nan_is_refused_with_its_place(project: Project, arrays: dict[str, np.ndarray], name: str) -> None:
    path = project()
    bad = np.array(arrays[name], dtype=np.float64)
    bad[7].flat[0] = np.nan
    save_archive(path.parent / "nbody.npz", arrays | {name: bad})
    with pytest.raises(DatasetError, match=r"nbody.npz.*7"):
        train(path)
    assert not (path.parent / "run").exists()


def test_a_loss_that_is_not_finite_names_the_samples_of_its_batch(
    project: Project, arrays: dict[str, np.ndarray]
) -> None:
    path = project(trainer__precision="float64", optimizer__batch_size=6)
    far = np.array(arrays["positions"], dtype=np.float64)
    far[24 + 3, -1, 0, 0] = 1e200  # in the validation part; the value is finite, but its square is not
    save_archive(path.parent / "nbody.npz", arrays | {"positions": far})
    with pytest.raises(TrainingError) as caught:
        train(path)
    assert "the validation loss is not finite at step 4" in str(caught.value)
    assert "and 1 more" in str(caught.value)
    listed = (path.parent / "run" / "bad_batch.txt").read_text().splitlines()
    assert len(listed) == 6
    assert read_motion(path.parent / "nbody.npz", part="valid")[3].place in listed


@pytest.fixture
def small_propagator(motion_recipe: Recipe) -> Small:
    """Function that makes a propagator for samples."""
    return lambda samples: new_propagator(parse_recipe(motion_recipe(), "my.yaml"), samples).eval()


def test_the_two_guesses_have_the_expected_errors(small_propagator: Small) -> None:
    samples = [random_sample(n, n) for n in (2, 5, 3)]
    report = evaluate_propagator(small_propagator(samples), samples, batch_size=2)
    moving = np.concatenate([s.positions + s.velocities * s.horizon - s.target_positions for s in samples])
    still = np.concatenate([s.positions - s.target_positions for s in samples])
    assert report.errors["constant_velocity"]["positions"].mse == pytest.approx(np.mean(moving**2), rel=1e-12)
    assert report.errors["last_position"]["positions"].rmse == pytest.approx(np.sqrt(np.mean(still**2)), rel=1e-12)
    assert report.parameters == sum(p.numel() for p in small_propagator(samples).parameters())
    assert report.ms_per_batch > 0.0


def test_a_propagator_refuses_other_kinds_and_scalars(small_propagator: Small) -> None:
    samples = [random_sample(3, 1), random_sample(4, 2)]
    propagator = small_propagator(samples)
    other = replace(samples[1], kinds=np.array([1, 6, 8, 9]))
    with pytest.raises(DatasetError, match=r"made up, sample 2: kinds of particles 8 9, but the propagator knows 1 6"):
        evaluate_propagator(propagator, [samples[0], other])
    other = replace(samples[1], scalars=samples[1].scalars[:, :1])
    with pytest.raises(
        DatasetError, match=r"sample 2: 1 scalars per particle and 1 per edge, but the propagator knows 2"
    ):
        evaluate_propagator(propagator, [samples[0], other])


def test_a_prediction_that_is_not_finite_names_the_sample(small_propagator: Small) -> None:
    samples = [random_sample(3, 1), random_sample(4, 2)]
    propagator = small_propagator(samples)
    fast = replace(samples[1], velocities=1e40 * samples[1].velocities)
    with pytest.raises(EvaluationError, match=r"made up, sample 2: the propagator gives positions that are not finite"):
        evaluate_propagator(propagator, [samples[0], fast])


@pytest.mark.slow
def test_compiled_training_takes_the_steps_of_eager_training(project: Project, tmp_path: Path) -> None:
    short = {"propagator__backbone__n_layers": 1, "data__limit": {"train": 20}}  # the last batch is smaller
    path = project(trainer__precision="float64", **short)
    for name, compiled in (("eager", "false"), ("compiled", "true")):
        train(path, output=tmp_path / name, overrides=[f"trainer.compile={compiled}"])
    eager, compiled = final_weights(tmp_path / "eager"), final_weights(tmp_path / "compiled")
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-7, atol=1e-9)
