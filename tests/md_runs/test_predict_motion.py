"""The script that predicts motion, from data to table, and its repetition."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "md_runs" / "predict_motion.py"


def run(folder: Path, *words: str) -> str:
    command = [sys.executable, str(SCRIPT), "--short", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_data_networks_and_table(tmp_path: Path) -> None:
    first = run(tmp_path)
    for name in ("EGNN", "HEGNN", "CG-EGNN", "constant velocity", "last position"):
        assert name in first
    assert all((tmp_path / "predict_motion" / name / "propagator").is_dir() for name in ("EGNN", "HEGNN", "CG-EGNN"))
    metrics = tmp_path / "predict_motion" / "HEGNN" / "metrics.csv"
    before = metrics.stat().st_mtime_ns
    again = run(tmp_path, "--resume")
    assert metrics.stat().st_mtime_ns == before  # a finished training is not repeated
    assert [line for line in again.splitlines() if "EGNN" in line] == [
        line for line in first.splitlines() if "EGNN" in line
    ]
