"""The study of learned functionals: parts of its sets, the table of its arms, what it keeps, and what it refuses."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlff_calc.bench.studies import functional_arms
from mlff_calc.bench.studies.functional_arms import summary
from mlff_calc.bench.studies.functional_sets import (
    LARGER_DISTORTIONS,
    OTHER_MOLECULES,
    SETS,
    TRAIN,
    set_of,
    structures_of,
)

pytest.importorskip("pyscf")
Mlff = Callable[..., subprocess.CompletedProcess[str]]
WORDS = ("--basis", "sto-3g", "--grid-level", "0", "--method", "hf", "--train", "6", "--valid", "2", "--test", "2")
TINY = ("--seeds", "1", "--epochs", "2", "--filters", "2", "--arms", "local", *WORDS)


def test_parts_are_the_same_at_every_call_and_share_no_structure() -> None:
    again = structures_of(SETS["molecules"], TRAIN)
    found = structures_of(SETS["molecules"], TRAIN)
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(found, again, strict=True))
    assert [len(one) for one in found[:5]] == [3, 4, 5, 4, 3]
    others = structures_of(SETS["molecules"], OTHER_MOLECULES)
    assert not {str(one.symbols) for one in found} & {str(one.symbols) for one in others}
    assert structures_of(SETS["water"], OTHER_MOLECULES) == []
    wide, narrow = (structures_of(SETS["water"], part)[:30] for part in (LARGER_DISTORTIONS, TRAIN))
    spread = [np.std([one.positions for one in each], axis=0).mean() for each in (wide, narrow)]
    assert 1.6 < spread[0] / spread[1] < 2.5
    assert set_of("water", method=None, train=7).train == 7


@pytest.mark.electronic
def test_the_command_labels_trains_judges_and_keeps(tmp_path: Path, mlff: Mlff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functional_arms, "STEPS", 4)
    words = ("bench", "functional", "water", *TINY, "-o", "made", "--json", "rows.json")
    done = mlff(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    arms = ["base + constants", "base", "local", "base + difference", "force field"]
    assert {row["arm"] for row in rows} == set(arms)
    assert [row["failed"] for row in rows] == [""] * len(rows)
    of = {(row["arm"], row["test"]): row for row in rows}
    assert of["local", "in distribution"]["minutes"] > 0.0
    assert of["local", "in distribution"]["mae"] < of["base", "in distribution"]["mae"]
    assert of["local", "in distribution"]["mae"] != of["base + constants", "in distribution"]["mae"]
    assert of["base", "in distribution"]["relative"] == of["base + constants", "in distribution"]["relative"]
    assert "larger distortions: errors in mHa" in done.stdout
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "made").rglob("*") if path.is_file()}
    assert len([path for path in kept if path.parent == tmp_path / "made" / "densities"]) == 6 + 2 + 2 + 2
    assert mlff(*words, cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "rows.json").read_text())["rows"] == rows
    assert {path: path.stat().st_mtime_ns for path in kept if path.suffix != ".json"} == {
        path: time for path, time in kept.items() if path.suffix != ".json"
    }
    other = mlff("bench", "functional", "water", *TINY, "--test", "3", "-o", "made", cwd=tmp_path)
    assert other.returncode == 1
    assert "choose another --output" in " ".join(other.stderr.split())


def test_means_and_ranges_are_over_seeds_that_did_not_fail() -> None:
    row = functional_arms._row
    rows = [row("full", "t", 0, mae=1e-3), row("full", "t", 1, mae=3e-3), row("full", "t", 2, failed="no")]
    (line,) = summary(rows)
    assert (line["seeds"], line["mae"], line["mae range"], line["cycles"]) == (2, 2.0, "1 to 3", "-")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("watre",), "did you mean"),
        (("water", "--arms", "ful"), "unknown arm"),
        (("water", "--arms", ";", "--no-rivals"), "no arms"),
    ],
)
def test_unknown_names_are_refused(words: tuple[str, ...], said: str, mlff: Mlff, tmp_path: Path) -> None:
    done = mlff("bench", "functional", *words, *WORDS, "-o", "made", cwd=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr.lower()
