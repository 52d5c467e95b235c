"""The study of error bars on hot frames, on a tiny training."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.bench.studies.uncertainty import UncertaintyStudy, auroc, compared
from mlff_calc.errors import BenchmarkError

BACKBONE = {"name": "hegnn", "cutoff": 3.0, "l_max": 1, "channels": 4, "n_layers": 1}


def frames(file: Path, size: float, n: int) -> Path:
    random, made = np.random.default_rng(0), []
    for _ in range(n):
        atoms = molecule("H2O")
        atoms.positions += random.normal(scale=size, size=(3, 3))
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        made.append(atoms)
    ase.io.write(file, made)
    return file


def test_hot_frames_are_told_by_heads_and_committee(tmp_path: Path) -> None:
    cold, hot = frames(tmp_path / "cold.extxyz", 0.02, 24), frames(tmp_path / "hot.extxyz", 0.2, 6)
    study = UncertaintyStudy(cold, tmp_path / "out", hot, members=2, epochs=1, parts=(12, 4), backbone=BACKBONE)
    told: list[str] = []
    found = study.run(told.append)
    assert [(row["error bars"], row["of"]) for row in found["signals"]] == [
        (name, of) for name in ("heads", "committee") for of in ("energy", "forces")
    ]
    assert found["signals"][1]["auroc"] > 0.9
    assert found["times"][0]["ratio"] > 0.0
    assert study.run()["signals"] == found["signals"]
    with pytest.raises(BenchmarkError, match="choose another"):
        UncertaintyStudy(cold, tmp_path / "out", hot, members=3, epochs=1, parts=(12, 4), backbone=BACKBONE).run()


def test_files_that_do_not_do(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="no file"):
        UncertaintyStudy(tmp_path / "none.xyz", tmp_path / "out").run()
    with pytest.raises(BenchmarkError, match="leave at least 3"):
        UncertaintyStudy(frames(tmp_path / "few.extxyz", 0.02, 7), tmp_path / "out", parts=(4, 2)).run()


def test_figures() -> None:
    assert auroc(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 1.0
    assert auroc(np.array([1.0, 3.0]), np.array([2.0, 3.0])) == pytest.approx(0.625)
    one = {name: np.array([1.0, 2.0, 3.0]) for name in ("error", "std", "frame", "limit")}
    found = compared(one, one | {"error": np.array([3.0, 2.0, 0.5])})
    assert (found["cold rank"], found["hot rank"]) == pytest.approx((1.0, -1.0))
    assert found["hot covered"] == pytest.approx(2.0 / 3.0)
