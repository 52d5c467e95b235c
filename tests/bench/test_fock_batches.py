"""The benchmark of predicted Fock matrices does its work, and refuses unknown molecules."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("pyscf")


def test_rows_of_batches(mlff, tmp_path):
    words = ("--molecule", "H2O", "--basis", "sto-3g", "--sizes", "1,3", "--channels", "2", "--hidden", "2", "--layers", "1")
    done = mlff("bench", "fock-batches", *words, "--rounds", "1", "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "times faster" in done.stdout
    one, three = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert (one["molecules"], three["molecules"], one["ratio"]) == (1, 3, 1.0)
    assert three["ratio"] == pytest.approx(one["ms"] / three["ms"])
    assert one["gflop"] == pytest.approx(three["gflop"])
    assert min(one["ms"], one["network_ms"], one["training_ms"], one["overlap_ms"]) > 0.0


def test_an_unknown_molecule_is_refused(mlff, tmp_path):
    done = mlff("bench", "fock-batches", "--molecule", "ethanole", cwd=tmp_path)
    assert done.returncode == 1
    assert "no molecule 'ethanole'" in done.stderr
