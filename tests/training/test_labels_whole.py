"""A whole run on two files with weights and isolated atoms, which is stopped or killed and then resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.errors import TrainingError
from mlff_calc.potential import evaluate_atoms, load_potential
from mlff_calc.training.run import train

Project = Callable[..., Path]


@pytest.fixture
def recipe(project: Project) -> Callable[[int], Path]:
    """Bulk and strained frames in two files, one of which holds an isolated atom; trained by a pattern."""

    def make(epochs: int) -> Path:
        section = {
            "train": [{"file": "set/*.extxyz", "index": ":9"}],
            "valid": {"file": ["set/bulk.extxyz", "set/strained.extxyz"], "index": "9:"},
        }
        loss = {"energy": 1.0, "forces": 1.0, "config_weights": {"strained": 4, "Default": 0.5}}
        path = project(data=section, loss=loss, optimizer__max_epochs=epochs)
        frames = ase.io.read(path.parent / "cu.extxyz", ":")
        atom = Atoms("Cu", info={"config_type": "IsolatedAtom"})
        atom.calc = SinglePointCalculator(atom, energy=-0.75)
        for atoms in frames[:10]:
            del atoms.info["config_type"]
        for atoms in frames[10:]:
            atoms.info["config_type"] = "strained"
        frames[12].info["config_forces_weight"] = 0.25
        (path.parent / "set").mkdir()
        ase.io.write(path.parent / "set/bulk.extxyz", [atom, *frames[:10]])
        ase.io.write(path.parent / "set/strained.extxyz", frames[10:])
        return path

    return make


def state(folder: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


def check(path: Path) -> None:
    """Assert that the resumed run has the weights of an uninterrupted one, and that its record names its data."""
    whole, parts = state(path.parent / "whole"), state(path.parent / "run")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    record = json.loads((path.parent / "run" / "run.json").read_text())
    assert [one["file"] for one in record["data"]["train"]["files"]] == ["bulk.extxyz", "strained.extxyz"]
    assert (record["data"]["train"]["frames"], record["data"]["train"]["isolated_atoms"]) == (17, 1)
    report = json.loads((path.parent / "run" / "evaluation.json").read_text())
    assert report["files"] == {"bulk.extxyz": 2, "strained.extxyz": 1}
    assert set(report["by_config_type"]) == {"Default", "strained"}
    assert report["notes"] == [
        "reference energies from isolated atoms: Cu -0.75 eV",
        "1 frames of isolated atoms are in no part of the data",
        "weights of Default: 8 frames, energy 0.5, forces 0.5, stress 0.5",
        "weights of strained: 9 frames, energy 4, forces 1 to 4, stress 4",
    ]
    potential = load_potential(path.parent / "run" / "potential")
    assert potential.config["reference_energies"] == {"29": -0.75}
    assert np.isfinite(evaluate_atoms(potential, [Atoms("Cu")])["energy"][0])


class _StopError(Exception):
    pass


def test_a_stopped_run_continues_exactly(recipe: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlff_calc.training.module import TrainingModule

    path = recipe(3)
    train(path, output=path.parent / "whole")
    step = TrainingModule.training_step

    def interrupted(self: TrainingModule, batch: object, batch_idx: int) -> torch.Tensor:
        if (self.trainer.current_epoch, batch_idx) == (1, 2):
            raise _StopError
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", interrupted)
        with pytest.raises(_StopError):
            train(path)
    strained = path.parent / "set/strained.extxyz"
    text = strained.read_text()
    strained.write_text(text.replace("config_forces_weight=0.25", "config_forces_weight=0.5"))
    with pytest.raises(TrainingError, match=r"^strained\.extxyz: the data of `train` changed"):
        train(path, resume=True)
    strained.write_text(text)
    train(path, resume=True)
    check(path)


@pytest.mark.slow
def test_a_killed_run_continues_exactly(recipe: Callable) -> None:
    path = recipe(30)
    command = [sys.executable, "-m", "mlff_calc.cli.main", "train", str(path), "--quiet"]
    for epochs in (2, 12):
        more = ["--resume"] if epochs > 2 else []
        process = subprocess.Popen([*command, *more], env=os.environ | {"OMP_NUM_THREADS": "1"})
        deadline = time.monotonic() + 120.0
        metrics = path.parent / "run" / "metrics.csv"
        while not (metrics.is_file() and len(metrics.read_text().splitlines()) > epochs):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait(timeout=60)
    train(path, output=path.parent / "whole")
    train(path, resume=True)
    check(path)
