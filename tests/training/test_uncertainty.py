"""Training of heads of errors: nothing else changes, the end calibrates, and reports tell how good they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml

from mlff_calc import CommitteeCalculator, MLFFCalculator
from mlff_calc.datasets import Sample
from mlff_calc.dynamics.md import run_md
from mlff_calc.errors import OptionError, RecipeError, SimulationError
from mlff_calc.nn.distance import FeatureDistance
from mlff_calc.potential import Potential, load_potential
from mlff_calc.training import train
from mlff_calc.training.data import Batch
from mlff_calc.training.module import TrainingModule
from mlff_calc.training.potential import uncertainty
from mlff_calc.training.potential.data import graph_frames
from mlff_calc.training.potential.uncertainty import calibrate_errors, error_loss, errors_of, measure_distances
from mlff_calc.training.recipe import load_recipe

from .conftest import copper_file, copper_frames, tiny_recipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Recipe and folder of a tiny potential with heads of errors."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "cu.extxyz").write_text(copper_file(stress=True))
    recipe = folder / "recipe.yaml"
    changes = {"potential__uncertainty": {}, "optimizer__gradient_clip": None}
    recipe.write_text(yaml.safe_dump(tiny_recipe(folder, **changes)))
    return recipe, train(recipe).model


def test_energies_and_forces_are_trained_as_without_heads(trained: tuple[Path, Path], project: Callable[..., Path]) -> None:
    found = load_potential(str(trained[1]))
    plain = load_potential(str(train(project(output="plain", optimizer__gradient_clip=None)).model))
    state = found.state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    for head in found.error_heads:
        assert int(head.calibrated) == 4
        assert float(head.factor) != 1.0
        assert bool(head.distance.whitening.any())
    frame = copper_frames(1, 1)[0]
    one, other = (MLFFCalculator(network, device="cpu").evaluate(frame) for network in (found, plain))
    assert set(one) - set(other) == {"energy_std", "forces_std"}
    assert all(np.array_equal(one[name], other[name]) for name in other)


def test_a_resumed_run_ends_with_the_same_bits(project: Callable[..., Path], trained: tuple[Path, Path]) -> None:
    recipe = project(output="halves", potential__uncertainty={}, optimizer__gradient_clip=None)
    whole = load_potential(str(trained[1])).state_dict()

    seen = []

    def stop(module: TrainingModule) -> None:
        seen.append(module)
        if len(seen) == 3:
            raise KeyboardInterrupt
        begin(module)

    begin = TrainingModule.on_train_epoch_start
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "on_train_epoch_start", stop)
        with pytest.raises(KeyboardInterrupt):
            train(recipe)
    resumed = load_potential(str(train(recipe, resume=True).model)).state_dict()
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_reports_tell_coverage_and_likelihood(trained: tuple[Path, Path], mlff: Callable[..., object]) -> None:
    recipe, model = trained
    report = json.loads((model.parent / "evaluation.json").read_text())["error_bars"]
    assert [one["quantity"] for one in report] == ["energy", "forces"]
    assert [one["count"] for one in report] == [4, 8]
    assert all(0.0 <= one["coverage"]["0.9"] <= 1.0 and np.isfinite(one["nll"]) for one in report)
    output = recipe.parent / "out.extxyz"
    said = mlff("eval", model, recipe.parent / "cu.extxyz", "--output", output).stdout
    assert "errors of energy: " in said
    assert "NLL" in said
    frame = ase.io.read(output, "0")
    assert frame.info["mlff_energy_std"] > 0.0
    assert frame.arrays["mlff_forces_std"].shape == (2, 3)


def test_dynamics_stop_above_a_threshold(trained: tuple[Path, Path], tmp_path: Path) -> None:
    _, model = trained
    frame = copper_frames(1, 1)[0]
    largest = float(np.linalg.norm(MLFFCalculator(model, device="cpu").evaluate(frame)["forces_std"], axis=1).max())
    options = {"steps": 2, "domain": "off", "device": "cpu", "temperature": 10.0}
    with pytest.raises(SimulationError, match="the spread of the force on atom"):
        run_md(frame, model, output=tmp_path / "low", threshold=0.5 * largest, **options)
    assert run_md(frame, model, output=tmp_path / "high", threshold=100.0 * largest, **options).step == 2
    stored = ase.io.read(tmp_path / "high" / "trajectory.traj")
    assert set(stored.calc.results) & {"energy_std", "forces_std"} == set()
    committee = CommitteeCalculator([model, model], device="cpu", domain="off").evaluate(frame)
    assert committee["energy_std"] == 0.0  # the spread of members, and not what these expect of themselves


def test_thresholds_need_deviations(project: Callable[..., Path], tmp_path: Path) -> None:
    model = train(project()).model
    with pytest.raises(OptionError, match=r"potential\.uncertainty"):
        run_md(copper_frames(1, 1)[0], model, output=tmp_path / "md", steps=1, threshold=1.0, device="cpu")


def test_labels_are_errors_of_the_present_prediction(trained: tuple[Path, Path]) -> None:
    potential: Potential = load_potential(str(trained[1]))
    energy, forces = potential.error_heads
    nan = float("nan")
    forces_known = torch.tensor([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0], [nan, 0.0, 0.0]]).double()
    labels = {"energy": torch.tensor([3.0, nan]).double(), "forces": forces_known}
    batch = Batch({}, labels, torch.tensor([2, 1]), [0, 1])
    outputs = {"energy": torch.tensor([1.0, 1.0]).double(), "forces": torch.zeros(3, 3).double()}
    sizes, present = errors_of(energy, outputs, batch)
    assert sizes.tolist() == [1.0, 0.0]
    assert present.tolist() == [True, False]
    sizes, present = errors_of(forces, outputs, batch)
    assert sizes.tolist() == [0.0, 5.0, 0.0]
    assert present.tolist() == [True, True, False]
    logits = {head.logits: torch.zeros(n, 1, head.bins, requires_grad=True) for head, n in ((energy, 2), (forces, 3))}
    loss = error_loss(potential.error_heads, outputs | logits, batch)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert not logits[forces.logits].grad[2].any()  # no label
    assert bool(logits[forces.logits].grad[1].any())


def test_no_more_than_the_largest_number_of_frames_is_measured(
    trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    potential: Potential = load_potential(str(trained[1]))
    graphs = graph_frames([Sample(atoms) for atoms in copper_frames(7, 1)], potential.cutoff)
    measured = []
    monkeypatch.setattr(FeatureDistance, "measure", lambda self, scalars, species: measured.append(len(scalars)))
    for most, frames in ((4, 4), (3, 3), (7, 7)):
        monkeypatch.setattr(uncertainty, "MOST_FRAMES", most)
        measure_distances(potential, graphs)
        assert measured.pop() == 2 * frames


def test_frames_without_a_label_do_not_count_as_calibrated(trained: tuple[Path, Path]) -> None:
    potential: Potential = load_potential(str(trained[1])).eval()
    samples = [
        Sample(atoms, atoms.get_potential_energy() if number < 3 else None, atoms.get_forces() if number > 4 else None)
        for number, atoms in enumerate(copper_frames(20, 1))
    ]
    calibrate_errors(potential, graph_frames(samples, potential.cutoff))
    assert [int(head.calibrated) for head in potential.error_heads] == [3, 15]


@pytest.mark.parametrize("label", ["energy", "forces"])
@pytest.mark.parametrize("part", ["train", "valid"])
def test_heads_without_labels_are_refused(project: Callable[..., Path], part: str, label: str) -> None:
    files = {"train": "cu.extxyz", "valid": "cu.extxyz", part: "bare.extxyz"}
    path = project(data=files, loss={"energy": 1.0, "forces": 1.0} | {label: 0.0}, potential__uncertainty={})
    frames = copper_frames(4, 1)
    for atoms in frames:
        del atoms.calc.results[label]
    ase.io.write(path.parent / "bare.extxyz", frames)
    with pytest.raises(RecipeError, match=rf"errors of {label}, but .*bare\.extxyz \({part}\) has no {label}"):
        train(path)


def test_recipes_are_checked_before_anything_is_read(project: Callable[..., Path]) -> None:
    with pytest.raises(RecipeError, match="bins of head 'energy_error' are 7"):
        load_recipe(project(potential__uncertainty={"bins": 7}))
    with pytest.raises(RecipeError, match="uncertainty"):
        load_recipe(project(potential__uncertainty={"layouts": ["normal"]}))
