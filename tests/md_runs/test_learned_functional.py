"""The script of learned functionals, with an untrained one in a small basis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ase.io import read

pytest.importorskip("pyscf")

from mlff_calc.electronic.functional import build_functional


@pytest.mark.electronic
def test_learned_functional(tmp_path: Path, script: Callable[..., str]) -> None:
    config = {"basis": "sto-3g", "grid_level": 0, "elements": [1, 8], "reweight": "local", "readout": False}
    folder = build_functional(config, seed=0).save(tmp_path / "functional", card="# one", recipe="")
    shown = script("learned_functional.py", "--functional", folder, "--output", tmp_path / "made")
    assert "energy minimum: -20" in shown
    assert "dipole moment" in shown
    assert len(read(tmp_path / "made" / "trajectory.traj", ":")) == 1
