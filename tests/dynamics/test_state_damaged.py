"""States whose entries are of another kind than a run writes end in one clear error."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ase.build import molecule

from mlff_calc.dynamics.state import RunState, load_state
from mlff_calc.errors import SimulationError

VALUES = [None, -1, "x", [1], 1.5, True]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state.json"
    RunState(atoms=molecule("H2O"), options={"a": 1}, step=3).save(path, sync=False)
    assert load_state(path).step == 3
    return path


@pytest.mark.parametrize("key", ["atoms", "options", "step", "internals", "rng", "fit", "trajectory", "log_size"])
@pytest.mark.parametrize("value", VALUES)
def test_entries_of_another_kind(state: Path, key: str, value: Any) -> None:
    content = json.loads(state.read_text())
    state.write_text(json.dumps(content | {key: value}))
    with pytest.raises(SimulationError, match="Start over with --overwrite"):
        load_state(state)


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "3", '{"format_version": ' + "9" * 5000 + "}", "\0"])
def test_no_state_at_all(state: Path, text: str) -> None:
    state.write_text(text)
    with pytest.raises(SimulationError, match="is not a saved state"):
        load_state(state)


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.json")
    with pytest.raises(SimulationError, match="is a pipe"):
        load_state(tmp_path / "state.json")
