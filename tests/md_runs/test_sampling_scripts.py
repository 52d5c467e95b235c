"""The scripts of samples: a score model, a replica exchange."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest

Script = Callable[..., str]


def test_score_sampling(tmp_path: Path, script: Script) -> None:
    place = tmp_path / "made"
    shown = script("score_sampling.py", "--output", place)
    assert "effective number of samples" in shown
    assert len(ase.io.read(place / "drawn_optimal.extxyz", ":")) == 8
    made = (place / "optimal" / "run.json").stat().st_mtime_ns
    script("score_sampling.py", "--resume", "--output", place)
    assert (place / "optimal" / "run.json").stat().st_mtime_ns == made


def test_replica_exchange(tmp_path: Path, script: Script) -> None:
    pytest.importorskip("pymbar")
    shown = script("replica_exchange.py", "--output", tmp_path / "made.extxyz")
    assert "accepted swaps" in shown
    frames = ase.io.read(tmp_path / "made.extxyz", ":")
    assert sum(atoms.info["weight"] for atoms in frames) == pytest.approx(1.0, abs=1e-5)
