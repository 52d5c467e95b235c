"""The script that predicts motion, from data to table, and its repetition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def test_data_networks_and_table(script: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = script("predict_motion.py")
    for name in ("EGNN", "HEGNN", "CG-EGNN", "constant velocity", "last position"):
        assert name in first
    assert all((tmp_path / "predict_motion" / name / "propagator").is_dir() for name in ("EGNN", "HEGNN", "CG-EGNN"))
    metrics = tmp_path / "predict_motion" / "HEGNN" / "metrics.csv"
    before = metrics.stat().st_mtime_ns
    again = script("predict_motion.py", "--resume")
    assert metrics.stat().st_mtime_ns == before  # a finished training is not repeated
    assert [line for line in again.splitlines() if "EGNN" in line] == [
        line for line in first.splitlines() if "EGNN" in line
    ]
