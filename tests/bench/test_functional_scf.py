"""`mlff bench functional-scf`: all ways take turns on one molecule, and a wrong name is one error."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("pyscf")
pytestmark = pytest.mark.electronic
SMALL = ("--basis", "sto-3g", "--grid-level", "0", "--rounds", "1")


def test_times_of_a_small_molecule(mlff, tmp_path):
    done = mlff("bench", "functional-scf", "H2", *SMALL, "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "times libxc" in done.stdout
    (row,) = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert (row["molecule"], row["atoms"], row["orbitals"]) == ("H2", 2, 2)
    assert 1 <= row["cycles"] <= 8
    assert row["ratio"] == pytest.approx(row["seconds"] / row["libxc_s"])
    per_build = row["torch_s"] / (row["torch_cycles"] + 1), row["seconds"] / (row["cycles"] + 2)
    assert row["torch_ratio"] == pytest.approx(per_build[0] / per_build[1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("H3O",), "H3O"),
        (("H2", "--functional", "nowhere"), "nowhere"),
        (("H2", "--base", "pbee"), "pbe"),
        (("H2", "--basis", "sto3"), "unknown basis 'sto3'"),
        (("NO",), "only closed shells"),
    ],
)
def test_wrong_input_is_one_error(mlff, tmp_path, words, message):
    done = mlff("bench", "functional-scf", *words, "--rounds", "1", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("mlff: error: ")) == (1, 1)
    assert message in done.stderr
