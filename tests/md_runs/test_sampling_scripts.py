"""The scripts of samples: a score model, a replica exchange."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ase.io
import pytest

RUNS = Path(__file__).resolve().parents[2] / "md_runs"


def run(script: str, *words: str, cwd: Path) -> str:
    command = [sys.executable, str(RUNS / script), *words]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_score_sampling(tmp_path: Path) -> None:
    shown = run("score_sampling.py", "--short", cwd=tmp_path)
    assert "effective number of samples" in shown
    assert len(ase.io.read(tmp_path / "score_sampling" / "drawn_optimal.extxyz", ":")) == 8
    made = (tmp_path / "score_sampling" / "optimal" / "run.json").stat().st_mtime_ns
    run("score_sampling.py", "--short", "--resume", cwd=tmp_path)
    assert (tmp_path / "score_sampling" / "optimal" / "run.json").stat().st_mtime_ns == made


def test_replica_exchange(tmp_path: Path) -> None:
    pytest.importorskip("pymbar")
    shown = run("replica_exchange.py", "--short", cwd=tmp_path)
    assert "accepted swaps" in shown
    frames = ase.io.read(tmp_path / "replica_exchange.extxyz", ":")
    assert sum(atoms.info["weight"] for atoms in frames) == pytest.approx(1.0, abs=1e-5)
