"""Races of two `mlff train` in one folder: no result is lost, and a run that does not start gives the reason."""

from __future__ import annotations

import csv
import functools
import json
from collections import Counter
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from .judge import Content, Kind, judge, random_race

EPOCHS = 4


def recipe(seed: int) -> dict:
    return {
        "potential": {"backbone": {"name": "equiformer", "cutoff": 3.2, "l_max": 1, "channels": 4, "n_layers": 1}},
        "data": {"train": "cu.extxyz", "split": {"train": 6, "valid": 2, "seed": 3}},
        "loss": {"energy": 1.0, "forces": 1.0},
        "optimizer": {"batch_size": 3, "max_epochs": EPOCHS, "warmup_steps": 1},
        "trainer": {"device": "cpu", "seed": seed},
        "card": {"title": "tiny copper", "level_of_theory": "EMT"},
    }


def frames() -> list:
    draw = np.random.default_rng(1)
    made = []
    for _ in range(8):
        atoms = bulk("Cu", a=3.7)
        atoms.positions += draw.normal(scale=0.08, size=(1, 3))
        atoms *= (2, 1, 1)
        atoms.positions += draw.normal(scale=0.08, size=(2, 3))
        atoms.calc = EMT()
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
        made.append(atoms)
    return made


def metrics_of(folder: Path) -> list[dict[str, str]]:
    """Return the rows of the metrics without the column of the clock."""
    with (folder / "metrics.csv").open() as stream:
        return [{key: value for key, value in row.items() if not key.endswith("minutes")} for row in csv.DictReader(stream)]


def look(alone: list[Path], folder: Path) -> Content:
    """Return whose run a folder holds and its epoch; assert that weights and metrics equal those of an undisturbed run."""
    if not (folder / "run.json").is_file():
        return Content()
    record = json.loads((folder / "run.json").read_text())
    if not record["set_up"]:
        return Content()
    seed = yaml.safe_load((folder / "recipe.yaml").read_text())["trainer"]["seed"]
    epochs = 0
    if (folder / "checkpoints/last.ckpt").is_file():
        epochs = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["epoch"] + 1
    if (folder / "metrics.csv").is_file():
        rows = metrics_of(folder)
        assert rows == metrics_of(alone[seed])[: len(rows)]
        assert len(rows) >= epochs
    else:
        assert epochs == 0
    if record["finished"]:
        assert epochs == EPOCHS
        weights = [(place / "potential/weights.safetensors").read_bytes() for place in (folder, alone[seed])]
        header = [int.from_bytes(content[:8], "little") + 8 for content in weights]  # the header contains the minutes
        assert weights[0][header[0] :] == weights[1][header[1] :]
        assert (folder / "evaluation.json").read_text() == (alone[seed] / "evaluation.json").read_text()
    return Content(seed, epochs, record["finished"])


@pytest.fixture(scope="module")
def started(races, tmp_path_factory) -> tuple[Kind, dict[str, Path | None]]:
    """The command to race, and initial folders."""
    place = tmp_path_factory.mktemp("train")
    ase.io.write(place / "cu.extxyz", frames())
    for seed in range(3):
        (place / f"recipe{seed}.yaml").write_text(yaml.safe_dump(recipe(seed)))

    def command(how: str, seed: int, folder: Path, length: int) -> tuple[str, ...]:
        words = ("train", str(place / f"recipe{seed}.yaml"), "--quiet", "--output", str(folder))
        return *words, *([] if how == "start" else [f"--{how}"])

    def resumable(content: Content, seed: int, length: int) -> bool:
        return content.seed == seed and not content.finished

    said = ("holds a run already", "no run to resume", "this run is finished", "had another recipe")
    alone = [place / f"alone{seed}" for seed in range(3)]
    kind = Kind(command, functools.partial(look, alone), resumable, said, (EPOCHS, EPOCHS), 1.5)
    for seed in range(3):
        (outcome,) = races(kind.racer("start", seed, alone[seed], EPOCHS))
        assert outcome.done, outcome
    (outcome,) = races(kind.racer("start", 0, place / "two", EPOCHS, kill="row 3"))
    assert outcome.killed, outcome
    assert kind.look(place / "two") == Content(0, 2)
    return kind, {"none": None, "two": place / "two", "whole": alone[0]}


@pytest.mark.parametrize("how", ["start", "resume", "overwrite"])
def test_a_training_that_starts_during_another_gets_an_error(races, started, tmp_path, how):
    kind, _ = started
    folder = tmp_path / "run"
    outcomes = races(kind.racer("start", 0, folder, EPOCHS, hold=3), kind.racer(how, 0, folder, EPOCHS, after=1))
    judge(kind, folder, Content(), {}, outcomes)
    assert [outcome.status for outcome in outcomes] == [0, 1]
    assert outcomes[1].busy or how == "start", outcomes[1]
    assert kind.look(folder) == Content(0, EPOCHS, finished=True)


def test_a_race(races, started, tmp_path):
    random_race(races, started[0], tmp_path, 1, started[1])


@pytest.mark.slow
def test_forty_races(races, started, tmp_path, capsys):
    ends = sum((random_race(races, started[0], tmp_path, 100 + seed, started[1]) for seed in range(40)), Counter())
    with capsys.disabled():
        print(f"\n40 races of two mlff train: {dict(ends)}")
    assert ends.total() == 80
