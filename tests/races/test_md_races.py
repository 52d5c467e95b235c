"""Races of two `mlff md` in one folder: no frame is lost, and a run that does not start gives the reason."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

from mlff_calc.dynamics.state import load_state
from mlff_calc.potential import build_potential

from .judge import Content, Kind, judge, random_race

CONFIG = {
    "backbone": {"name": "equiformer", "channels": 4, "n_layers": 1, "l_max": 1, "cutoff": 3.0},
    "elements": ["Si"],
    "scale": 0.02,
}
LENGTHS = (20, 40)


def rows_of(folder: Path) -> list[str]:
    """Return the log without the column of the clock."""
    return [row.rsplit(",", 1)[0] for row in (folder / "log.csv").read_text().splitlines()[1:]]


def look(alone: list[tuple[list[Atoms], list[str]]], folder: Path) -> Content:
    """Return whose run a folder holds and its step; assert that frames and rows equal those of an undisturbed run."""
    if not (folder / "state.json").is_file():
        return Content()
    state = load_state(folder / "state.json")
    frames, rows = read(folder / "trajectory.traj", ":"), rows_of(folder)
    assert len(frames) >= state.trajectory.n_frames == state.step + 1  # a killed run may have written one more
    assert len(rows) >= state.step + 1
    whole, whole_rows = alone[state.options["seed"]]
    for step, (frame, twin) in enumerate(zip(frames, whole, strict=False)):
        assert frame.info["step"] == step
        np.testing.assert_array_equal(frame.positions, twin.positions)
        np.testing.assert_array_equal(frame.get_momenta(), twin.get_momenta())
        assert frame.get_potential_energy() == twin.get_potential_energy()
    assert rows == whole_rows[: len(rows)]
    return Content(state.options["seed"], state.step, state.step == state.options["steps"])


@pytest.fixture(scope="module")
def started(races, tmp_path_factory) -> tuple[Kind, dict[str, Path | None]]:
    """The command to race, and initial folders."""
    place = tmp_path_factory.mktemp("md")
    build_potential(CONFIG, seed=0).save(place / "potential", card="# random", recipe="")
    write(place / "si.extxyz", bulk("Si"))

    def command(how: str, seed: int, folder: Path, length: int) -> tuple[str, ...]:
        words = ["md", place / "potential", "-s", place / "si.extxyz", "--timestep", 1, "--steps", length, "--seed", seed]
        words += ["--traj-interval", 1, "--log-interval", 1, "--quiet", "-o", folder]
        return *map(str, words), *([] if how == "start" else [f"--{how}"])

    def resumable(content: Content, seed: int, length: int) -> bool:
        return content.seed is None or (content.seed == seed and length >= content.progress)

    said = ("holds a run already", "differs from", "steps count from its start")
    alone = []
    kind = Kind(command, functools.partial(look, alone), resumable, said, LENGTHS, 0.5)
    for seed in range(3):
        (outcome,) = races(kind.racer("start", seed, place / f"alone{seed}", LENGTHS[1]))
        assert outcome.done, outcome
        alone.append((read(place / f"alone{seed}/trajectory.traj", ":"), rows_of(place / f"alone{seed}")))
    (outcome,) = races(kind.racer("start", 0, place / "ten", 10))
    assert outcome.done, outcome
    return kind, {"none": None, "ten": place / "ten"}


@pytest.mark.parametrize("how", ["start", "resume", "overwrite"])
def test_a_run_that_starts_during_another_gets_an_error(races, started, tmp_path, how):
    kind, _ = started
    folder = tmp_path / "run"
    outcomes = races(kind.racer("start", 0, folder, 20, hold=8), kind.racer(how, 0, folder, 30, after=4))
    judge(kind, folder, Content(), {}, outcomes)
    assert [outcome.status for outcome in outcomes] == [0, 1]
    assert outcomes[1].busy or how == "start", outcomes[1]
    assert kind.look(folder) == Content(0, 20, finished=True)


def test_after_a_kill_the_next_run_continues(races, started, tmp_path):
    kind, _ = started
    folder = tmp_path / "run"
    outcomes = races(kind.racer("start", 0, folder, 20, kill="row 8"))
    assert outcomes[0].killed
    assert kind.look(folder) == Content(0, 6)
    assert races(kind.racer("resume", 0, folder, 20))[0].done
    assert kind.look(folder) == Content(0, 20, finished=True)


def test_races(races, started, tmp_path):
    for seed in range(2):
        random_race(races, started[0], tmp_path, seed, started[1])


@pytest.mark.slow
def test_a_hundred_races(races, started, tmp_path, capsys):
    ends = sum((random_race(races, started[0], tmp_path, 100 + seed, started[1]) for seed in range(100)), Counter())
    with capsys.disabled():
        print(f"\n100 races of two mlff md: {dict(ends)}")
    assert ends.total() == 200
