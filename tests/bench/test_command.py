"""`mlff bench` as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def mlff(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlff_calc.cli.main", "bench", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_steps_as_json_and_as_a_table(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "b.json"
    done = mlff("--systems", "ethanol,si8", "--steps", "2", "--no-compile", "--json", str(file))
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
        (["memory", "--batch-sizes", "many"], "no comma-separated list"),
    ],
)
def test_bad_input_gives_one_message(words: list[str], message: str) -> None:
    done = mlff(*words)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
