"""`mlff bench`, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest


def test_steps_as_json_and_as_a_table(tmp_path: Path, mlff: Callable) -> None:
    file = tmp_path / "sub" / "b.json"
    done = mlff("bench", "--systems", "ethanol,si8", "--steps", "2", "--no-compile", "--json", str(file))
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert [row["system"] for row in result["timings"]] == ["ethanol", "si8"]
    assert all(row["steps"] == 2 for row in result["timings"])
    assert result["threads"] == 1
    assert result["machine"]["torch"]
    assert "ethanol" in done.stdout
    assert "µs/edge" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--systems", "ethanl"], "did you mean 'ethanol'?"),
        (["peers", "--only", "nequib"], "did you mean 'nequip'?"),
        (["scaling", "--sizes", "8,100"], "the nearest have 8, 64, 216"),
        (["memory", "--batch-sizes", "many"], "not a comma-separated list"),
    ],
)
def test_bad_input_gives_one_message(mlff: Callable, words: list[str], message: str) -> None:
    done = mlff("bench", *words)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
