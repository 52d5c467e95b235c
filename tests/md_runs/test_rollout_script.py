"""The script of rollouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Script = Callable[..., str]


def test_rollout(tmp_path: Path, script: Script) -> None:
    place = tmp_path / "made"
    shown = script("rollout.py", "--output", place)
    assert "rotor of the mean structure" in shown
    assert "ms per step" in shown
    assert (place / "valence.png").is_file()
    made = (place / "valence" / "run.json").stat().st_mtime_ns
    script("rollout.py", "--resume", "--output", place)
    assert (place / "valence" / "run.json").stat().st_mtime_ns == made
