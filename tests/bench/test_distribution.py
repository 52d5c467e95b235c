"""The study of heads of properties under label noise, on a few tiny trainings."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from mlff_calc.bench.studies.distribution_arms import DistributionStudy, summary
from mlff_calc.errors import BenchmarkError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random, frames = np.random.default_rng(0), []
    for _ in range(40):
        atoms = molecule("H2O")
        atoms.positions += random.normal(scale=0.1, size=(3, 3))
        atoms.info["length"] = float(atoms.get_distance(0, 1))
        frames.append(atoms)
    ase.io.write(tmp_path / "water.extxyz", frames, format="extxyz")
    return tmp_path / "water.extxyz"


def test_arms_are_trained_once_and_judged_without_noise(data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    arms = ["scalar", "three histograms, 10"]
    study = DistributionStudy(data, "length", tmp_path / "out", arms, ["tails"], 0.5, (0,), epochs=1, train=16)
    rows = study.run(told.append)
    assert [row["arm"] for row in rows] == arms
    assert len(told) == 2
    assert rows[0]["ratio"] == 1.0
    assert rows[0]["mae"] < rows[0]["noisy mae"]
    assert rows[1]["ratio"] == pytest.approx(rows[1]["mae"] / rows[0]["mae"])
    assert all(not row["failed"] and 0.0 <= row["coverage90"] <= 1.0 for row in rows)
    again = DistributionStudy(data, "length", tmp_path / "out", arms, ["tails"], 0.5, (0,), epochs=1, train=16).run()
    assert again == rows
    assert [row["mae"] for row in summary(rows)] == [row["mae"] for row in rows]
    with pytest.raises(BenchmarkError, match="choose another"):
        DistributionStudy(data, "length", tmp_path / "out", arms, ["tails"], 0.1, (0,), epochs=1, train=16).run()


def test_names_that_are_unknown(data: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="unknown noise 'tail': did you mean 'tails'"):
        DistributionStudy(data, "length", tmp_path, noises=["tail"]).run()
    with pytest.raises(BenchmarkError, match="unknown arm"):
        DistributionStudy(data, "length", tmp_path, arms=["vector"]).run()
