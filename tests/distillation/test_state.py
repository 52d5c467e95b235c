"""The record of a run: time that a kill or a failure would lose."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlff_calc.distillation import state as module
from mlff_calc.distillation.state import CLOCK, FORMAT, NAME, State

from ..children import Child


def begun(folder: Path) -> State:
    plain = {"format": FORMAT, "fixed": {}, "teacher": {}, "plan": {}, "rounds": [], "seconds": {"label": 1.0}}
    state = State(folder / NAME, plain)
    state.save()
    return state


def test_the_time_of_a_phase_is_saved(tmp_path: Path) -> None:
    state = begun(tmp_path)
    with state.timed("train"):
        time.sleep(0.05)
    assert State.read(tmp_path).plain["seconds"]["train"] >= 0.05
    assert [file.name for file in tmp_path.iterdir()] == [NAME]


def test_the_time_of_a_phase_that_fails_is_added_once(tmp_path: Path) -> None:
    state = begun(tmp_path)

    def stopped() -> None:
        with state.timed("label"):
            time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    again = State.read(tmp_path)
    assert again.used == 1.0
    again.add_lost_time()
    assert 1.05 <= State.read(tmp_path).used < 3.0
    again.add_lost_time()
    assert State.read(tmp_path).used == again.used


def test_the_time_before_a_kill_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: Callable[..., Child]
) -> None:
    monkeypatch.setattr(module, "BEAT", 0.02)
    state = begun(tmp_path)

    def work() -> None:
        with state.timed("train"):
            time.sleep(60.0)

    process, clock = child(work), tmp_path / CLOCK
    while not clock.exists() or json.loads(clock.read_text())[1] < 0.1:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = State.read(tmp_path)
    again.add_lost_time()
    assert again.plain["seconds"]["train"] >= 0.1
    assert not clock.exists()


def test_a_kill_between_saving_and_the_end_of_a_phase_counts_once(tmp_path: Path) -> None:
    state = begun(tmp_path)
    with state.timed("label"):
        time.sleep(0.05)
    used = state.used
    (tmp_path / CLOCK).write_text(json.dumps(["label", used]))  # as if it had not been removed
    again = State.read(tmp_path)
    again.add_lost_time()
    assert again.used == used


@pytest.mark.parametrize("text", ["", "[1", "{}", '["train", "x"]', "[]"])
def test_a_damaged_clock_is_left_alone(tmp_path: Path, text: str) -> None:
    state = begun(tmp_path)
    (tmp_path / CLOCK).write_text(text)
    state.add_lost_time()
    assert state.used == 1.0
