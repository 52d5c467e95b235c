"""`mlff scf`: table, JSON and messages."""

from __future__ import annotations

import json

import pytest
from ase.build import molecule
from ase.io import write

pytest.importorskip("pyscf")

LEVEL = ("--xc", "pbe", "--basis", "sto-3g", "--grid-level", "0")


@pytest.fixture
def work(tmp_path):
    frames = [molecule("H2O") for _ in range(2)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.01, seed=k)
    write(tmp_path / "water.extxyz", frames)
    return tmp_path


def test_starts_are_compared(mlff, work):
    done = mlff("scf", "minao", "water.extxyz", *LEVEL, "--starts", "huckel,previous", "--json", cwd=work)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["settings"]["basis"] == "sto-3g"
    rows = {row["start"]: row for row in found["starts"]}
    assert list(rows) == ["minao", "huckel", "previous"]
    assert all(row["structures"] == 2 and row["energy_difference"] < 1e-8 for row in rows.values())
    assert rows["previous"]["fock_builds"] > rows["previous"]["cycles"] > 1


def test_files_have_a_table_each(mlff, work):
    write(work / "other.extxyz", molecule("H2O"))
    files = ("water.extxyz", "other.extxyz")
    done = mlff("scf", "minao", *files, *LEVEL, "--starts", "previous", "--limit", "1", cwd=work)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines if "structures" in line] == list(files)
    assert lines[2].split()[-3:] == ["0", "%", "0"]
    done = mlff("scf", "minao", *files, *LEVEL, "--starts", "minao", "--limit", "1", "--json", cwd=work)
    assert [row["file"] for row in json.loads(done.stdout)["starts"]] == list(files)


def test_dynamics_are_compared_and_kept(mlff, work):
    words = ("bench", "scf", "minao", "H2O", *LEVEL, "--steps", "7", "--skip", "1", "--starts", "minao,aspc", "--json", "-")
    done = mlff(*words, cwd=work)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = found["structures"][0]["rows"]
    assert [row["start"] for row in rows] == ["minao", "aspc"]
    assert rows[1]["cycles"] <= rows[0]["cycles"]
    assert rows[1]["from_minao"] < 0.01
    assert all(row["steps"] == 6 and row["fallbacks"] == 0 for row in rows)
    assert json.loads(mlff(*words, cwd=work).stdout)["structures"] == found["structures"]


def test_a_table_is_shown(mlff, work):
    done = mlff("scf", "huckel", "water.extxyz", *LEVEL, "--limit", "1", cwd=work)
    assert done.returncode == 0, done.stderr
    assert "Fock builds" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == ["minao", "huckel", "previous"]


def test_bad_input_is_refused(mlff, work):
    for words, match in (
        (("minao", "absent.xyz"), "there is no file absent.xyz"),
        (("minao", "water.extxyz", "--starts", "model"), "no model"),
        (("minao", "water.extxyz", "--starts", "minoa"), "did you mean 'minao'"),
        (("minao", "water.extxyz", "--xc", "pbeee"), "unknown functional"),
        (("minao", "water.extxyz", "--charge", "1"), "odd"),
    ):
        done = mlff("scf", *words, cwd=work)
        assert done.returncode != 0
        assert match in done.stderr, done.stderr
