"""Batches against single runs: both do their work, and bad input is refused."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("rdkit")

from mlff_calc.bench import batches
from mlff_calc.potential import build_potential


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "SINGLE_STEPS", 10)
    backbone = {"name": "hegnn", "channels": 8, "n_layers": 1, "l_max": 1, "cutoff": 4.0}
    config = {"backbone": backbone, "elements": ["H", "C", "O"], "scale": 1.0, "repulsion": {"name": "zbl"}}
    build_potential(config, seed=0).save(tmp_path / "small")
    return ["bench", "batches", "--potential", "small", "--molecules", "CO,ethanol", "--conformers", "3", "--replicas", "2",
            "--xtb", "0", "--rounds", "1", "--no-compile", "--fmax", "0.5"]  # fmt: skip


def test_rows_of_batches_and_single_runs(small, tmp_path, mlff):
    done = mlff(*small, "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "batch / single" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["molecule"] for row in found["dynamics"]] == ["CO", "ethanol"]
    assert all(row["ratio"] > 0.0 and row["replicas"] == 2 for row in found["dynamics"])
    batch, single = found["relaxations"][:2]
    assert (batch["program"], single["program"]) == ("one batch", "one by one, ASE")
    assert batch["structures"] == single["structures"] == 3
    assert batch["steps"] > 0
    assert single["steps"] > 0
    assert batch["converged"] == single["converged"] == 1.0
    assert single["ratio"] == pytest.approx(single["ms"] / batch["ms"])


def test_bad_input(small, tmp_path, mlff):
    for more, text in ((["--molecules", ","], "nothing to time"), (["--molecules", "CS"], "element S")):
        refused = mlff(*small, *more, cwd=tmp_path)
        assert refused.returncode == 1
        assert text in " ".join(refused.stderr.split())


def test_recall(tmp_path, mlff):
    words = ["bench", "recall", "--molecules", "O,CC", "-c", "ase.calculators.emt:EMT", "-n", "2", "--seeds", "1",
             "--fmax", "0.1"]  # fmt: skip
    done = mlff(*words, "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["molecule"] for row in found["rows"]] == ["O", "CC"]
    assert all(row["reference"] >= 1 for row in found["rows"])
    assert found["rows"][0]["ours"] == found["rows"][0]["mmff"] == 1.0  # water has one
    assert set(found["means"]) == {"ours", "mmff", "etkdg"}
