"""`mlff train` and `mlff eval` with propagators on the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule

from mlff_calc.cli.console import run_cli
from mlff_calc.cli.main import build_app
from mlff_calc.datasets.motion import NBodyOptions, make_nbody, save_archive
from mlff_calc.potential import build_potential
from mlff_calc.propagator import build_propagator
from mlff_calc.training.propagator.example import EXAMPLE_MOTION_RECIPE

COMMAND = [sys.executable, "-m", "mlff_calc.cli.main"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
RECIPE = {
    "propagator": {"backbone": {"name": "hegnn", "l_max": 1, "channels": 8, "n_layers": 2, "moves": True}},
    "data": {"file": "nbody.npz"},
    "optimizer": {"batch_size": 10, "max_epochs": 3, "warmup_steps": 3, "learning_rate": 5e-3},
    "trainer": {"device": "cpu"},
    "output": "run",
}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command in this process, and return status, stdout and stderr."""
    status = run_cli(build_app(), list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, mlff: Callable) -> Path:
    """Folder with data, a recipe, and the results of `mlff train`."""
    folder = tmp_path_factory.mktemp("motion")
    options = NBodyOptions(n_bodies=3, train=30, valid=10, test=12, frames=(30, 35, 40), seed=2)
    save_archive(folder / "nbody.npz", make_nbody(options))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    done = mlff("train", "recipe.yaml", "--quiet", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "30 samples for train, 10 samples for valid, 12 samples for test" in done.stderr
    assert "errors on the test samples:" in done.stdout
    assert "constant velocity" in done.stdout
    return folder


def test_the_example_is_printed_written_and_trains(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "train", "--example", "propagator")[:2] == (0, EXAMPLE_MOTION_RECIPE)
    target = str(trained / "example.yaml")
    assert run(capsys, "train", "--example", "propagator", "--output", target)[0] == 0
    small = ["data.file=nbody.npz", "optimizer.max_epochs=1", "propagator.backbone.channels=8", "trainer.device=cpu"]
    sets = [word for one in small for word in ("--set", one)]
    status, out, _ = run(capsys, "train", target, "--quiet", "--output", str(trained / "example"), *sets)
    assert status == 0
    assert "propagator: " in out
    status, _, err = run(capsys, "train", "--example", "propagater")
    assert status == 1
    assert "did you mean 'propagator'?" in err


def test_eval_prints_the_errors_and_those_of_two_guesses(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = [str(trained / "run" / "propagator"), str(trained / "nbody.npz")]
    status, out, _ = run(capsys, "eval", *where)
    assert status == 0
    assert out.startswith("12 samples; ")
    assert [line.split("  ")[0] for line in out.splitlines()[2:]] == [
        "propagator",
        "constant velocity",
        "last position",
    ]
    _, out, _ = run(capsys, "eval", *where, "--json", "--part", "valid", "--limit", "7", "--batch-size", "3")
    found = json.loads(out)
    assert (found["samples"], found["batch_size"]) == (7, 3)
    data = np.load(trained / "nbody.npz")
    valid = np.flatnonzero(data["split"] == 1)[:7]
    x, v = (data[name][valid].astype(np.float64) for name in ("positions", "velocities"))
    moving = np.mean((x[:, 0] + v[:, 0] * 1.0 - x[:, 2]) ** 2)
    assert found["errors"]["constant_velocity"]["positions"]["mse"] == pytest.approx(moving, rel=1e-9)
    assert found["errors"]["last_position"]["positions"]["mse"] == pytest.approx(np.mean((x[:, 0] - x[:, 2]) ** 2))
    whole, one = {}, []
    for part in ("all", "train", "valid", "test"):
        _, out, _ = run(capsys, "eval", *where, "--json", "--part", part)
        whole[part] = json.loads(out)
        one.append(whole[part]["samples"] * whole[part]["errors"]["propagator"]["positions"]["mse"])
    assert whole["all"]["samples"] == 52
    assert one[0] == pytest.approx(sum(one[1:]), rel=1e-5)
    _, out, _ = run(capsys, "eval", *where, "--json", "--horizon", "5")
    nearer = json.loads(out)["errors"]["last_position"]["positions"]["mse"]
    assert nearer < found["errors"]["last_position"]["positions"]["mse"]


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["--plot", "a.png"], 2, "--plot does not apply to a propagator"),
        (["--index", ":3"], 2, "--index does not apply to a propagator"),
        (["--key", "energy=E"], 2, "--key does not apply to a propagator"),
        (["--part", "both"], 1, "--part is 'both'; give train, valid, test or all"),
        (["--horizon", "20"], 1, "has no frame 50"),
        (["--format", "mocap"], 1, "nbody.npz"),
        (["--precision", "mixed"], 1, "unknown precision 'mixed' of a propagator"),
    ],
)
def test_options_that_do_not_fit_are_one_message(
    trained: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, expected: str
) -> None:
    found = run(capsys, "eval", str(trained / "run" / "propagator"), str(trained / "nbody.npz"), *words)
    assert found[0] == status
    assert expected in found[2]
    assert found[1] == ""


def test_data_of_another_kind_are_one_message(
    trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    z = np.array([6, 6, 8])
    steps = np.cumsum(0.003 * random.normal(size=(400, 3, 3)), axis=0)
    frames = np.array([[0, 0, 0], [1.5, 0, 0], [2.0, 1.3, 0]]) + steps
    np.savez(tmp_path / "md17.npz", R=frames, z=z, E=np.zeros(400), F=np.zeros((400, 3, 3)))
    where = [str(trained / "run" / "propagator"), str(tmp_path / "md17.npz")]
    status, out, err = run(capsys, "eval", *where, "--horizon", "10", "--limit", "3")
    assert (status, out) == (1, "")
    assert "kinds of particles 6 8, but the propagator knows 1; take data of the same kinds" in err


def test_all_parts_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert "or all of them together: all." in " ".join(run(capsys, "eval", "--help")[1].replace("\u2502", " ").split())


@pytest.mark.parametrize(
    "words",
    [
        ["md", "P", "--output", "md"],
        ["md", "P", "--structure", "CH3CH2OH", "--output", "md"],
        ["md", "P,P", "--structure", "CH3CH2OH", "--output", "md"],
        ["relax", "P", "CH3CH2OH.xyz"],
        ["compile", "P"],
        ["export", "P", "--output", "P.pt"],
        ["lammps", "run", "in.lammps", "--potential", "P"],
        ["data", "trajectory", "CH3CH2OH", "--calculator", "P", "--steps", "9", "-o", "a.npz"],
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_a_propagator_is_no_potential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    build_propagator({"backbone": RECIPE["propagator"]["backbone"], "kinds": [1]}, seed=0).save("P", card="# A card")
    molecule("CH3CH2OH").write("CH3CH2OH.xyz")
    Path("in.lammps").write_text("units metal\n")
    before = sorted(tmp_path.iterdir())
    status, _, err = run(capsys, *words)
    assert status == 1, err
    said = (
        "P holds a propagator, not a potential; use load_propagator, or `mlff eval`: it gives positions at a later time"
    )
    assert err.startswith(f"mlff: error: {said}")
    assert sorted(tmp_path.iterdir()) == before
    assert run(capsys, "potentials", "P")[:2] == (0, "# A card\n\nFolder: P\n")


def test_a_potential_takes_no_options_of_propagators(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"backbone": {"name": "equiformer", "cutoff": 4.0, "l_max": 1, "channels": 4, "n_layers": 1}}
    build_potential(config | {"elements": [1]}, seed=0).save(tmp_path / "P")
    for words, option in ((["--horizon", "5"], "--horizon"), (["--all-atoms"], "--heavy-atoms/--all-atoms")):
        status, _, err = run(capsys, "eval", str(tmp_path / "P"), "gone.xyz", *words)
        assert status == 2
        assert f"{option} does not apply to a potential" in err


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("data.horizon=30", "has no frame 60"),
        ("data.file=gone.npz", "data.file: there is no file"),
        ("data.fil=gone.npz", "data.fil: unknown key 'fil'; did you mean 'file'?"),
        ("propagator.backbone.lmax=2", "did you mean 'l_max'?"),
    ],
)
def test_a_bad_recipe_is_one_message_and_nothing_is_written(
    trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, setting: str, expected: str
) -> None:
    words = ["train", str(trained / "recipe.yaml"), "--output", str(tmp_path / "new"), "--set", setting]
    status, out, err = run(capsys, *words)
    assert (status, out) == (1, "")
    assert expected in err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_killed_run_gives_the_same_propagator(trained: Path, mlff: Callable) -> None:
    long = [
        "train",
        "recipe.yaml",
        "--quiet",
        "--set",
        "optimizer.max_epochs=150",
        "--set",
        "trainer.checkpoint_every=5",
    ]
    assert mlff(*long, "--output", "whole", cwd=trained).returncode == 0
    for kill, n_epochs in enumerate((3, 40)):  # both kills fall between checkpoints, which are written every fifth epoch
        process = subprocess.Popen(
            [*COMMAND, *long, "--output", "parts", *(["--resume"] if kill else [])],
            cwd=trained,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
        )
        metrics, end = trained / "parts" / "metrics.csv", time.monotonic() + 120
        while time.monotonic() < end and not (metrics.is_file() and len(metrics.read_text().splitlines()) > n_epochs):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=30) == -signal.SIGKILL
        assert n_epochs < len(metrics.read_text().splitlines()) < 150
    done = mlff(*long, "--output", "parts", "--resume", cwd=trained)
    assert done.returncode == 0, done.stderr
    epochs = [line.split(",")[0] for line in metrics.read_text().splitlines()[1:]]
    assert epochs == [str(epoch) for epoch in range(1, 151)]
    last = [torch.load(trained / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("whole", "parts")]
    assert last[0]["state_dict"].keys() == last[1]["state_dict"].keys()
    assert all(torch.equal(value, last[1]["state_dict"][name]) for name, value in last[0]["state_dict"].items())
