"""Fock matrices by flow and by regression: rivals without a network, and the study that trains all arms."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from mlff_calc.bench.child import measure_matrices
from mlff_calc.bench.studies import fock_flow
from mlff_calc.bench.studies.fock_flow import FlowStudy, summary
from mlff_calc.bench.studies.fock_rivals import OneShot, nearest, rivals
from mlff_calc.datasets.matrix_frames import MatrixFrame
from mlff_calc.electronic.hamiltonian import build_hamiltonian
from mlff_calc.electronic.hamiltonian.predict import predict_fock
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import BenchmarkError

from ..electronic.hamiltonian.turning import random_turn
from ..training.test_hamiltonian import BASIS, NETWORK, water_frames, written

Mlff = Callable[..., subprocess.CompletedProcess[str]]
TINY = {key: NETWORK[key] for key in ("l_max", "channels", "hidden", "products", "layers")}


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_nearest_frame_is_turned_with_its_matrix(mirrored: bool) -> None:
    known = water_frames(12)
    teacher = build_hamiltonian(NETWORK | {"basis": BASIS, "target": "means"}, seed=1).to_precision("float64")
    turn = random_turn(3, mirrored=mirrored).numpy()
    moved = Atoms(known[5].numbers, known[5].positions @ turn.T + 2.0)
    fock = predict_fock(teacher, [moved])[0] - 3.0 * np.eye(7)  # as the matrices of `water_frames`
    asked = replace(known[5], positions=moved.positions, fock=fock, initial=fock + 0.1)
    assert nearest(known, [asked])[0] == [5]
    found = rivals(known, [asked], OrbitalBasis.from_dict(BASIS))
    assert np.abs(found["nearest frame"][0] - fock).max() < 1e-10
    assert np.abs(known[5].fock - fock).max() > 1e-3
    assert np.array_equal(found["minao"][0], asked.initial)
    change = found["nearest change"][0] - asked.initial
    assert np.allclose(np.linalg.eigvalsh(change), np.linalg.eigvalsh(known[5].fock - known[5].initial))


def test_rivals_of_other_molecules_are_left_out() -> None:
    known = [replace(one, initial=None) for one in water_frames(3)]
    assert [*rivals(known, known, OrbitalBasis.from_dict(BASIS))] == ["nearest frame"]
    swapped = replace(known[0], numbers=known[0].numbers[::-1])
    assert rivals(known, [swapped], OrbitalBasis.from_dict(BASIS)) == {}


@pytest.mark.electronic
def test_one_shot_energies_are_those_of_the_density() -> None:
    from mlff_calc.electronic.scf.labels import label

    settings = SCFSettings("pbe", "sto-3g", grid_level=0)
    atoms = molecule("H2O")
    made = label(atoms, settings, gradient=False)
    frame = MatrixFrame(atoms.numbers, atoms.positions, made.fock, made.overlap, made.initial, made.energy)
    energies = OneShot([frame], settings.to_dict())
    assert abs(energies([made.fock])) < 1e-7
    assert energies([made.initial]) > 1e-4
    assert OneShot([replace(frame, energy=None)], settings.to_dict())([made.fock]) is None


def test_the_command_trains_tunes_and_keeps(tmp_path: Path, mlff: Mlff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fock_flow, "NETWORK", TINY)
    written(tmp_path / "water.h5")
    words = ["bench", "fock-flow", "water.h5", "--seeds", "1", "--valid", "4", "--test", "4", "--energies", "0"]
    words += ["--no-memory", "--arms", "regression, tuned;flow, GOE", "-o", "made", "--epochs", "2", "--json"]
    done = mlff(*words, "rows.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "rows.json").read_text())
    rows = {row["arm"]: row for row in found["rows"]}
    flows = ["flow, GOE, n = 1", "flow, GOE, n = 3", "flow, GOE, n = 10"]
    assert [*rows] == ["minao", "nearest frame", "nearest change", "regression, tuned", *flows]
    tuned = rows["regression, tuned"]
    assert tuned["failed"] == tuned["noise"] == tuned["memory"] == ""
    first = json.loads((tmp_path / "made" / "0-regression" / "result.json").read_text())["errors"]["0"]
    assert tuned["minutes"] > first["minutes"]  # of both trainings
    assert all(rows[name]["noise"] > 0.0 for name in flows)
    assert rows[flows[2]]["ms"] > rows[flows[0]]["ms"]
    line = next(line for line in found["summary"] if line["arm"] == "minao")
    assert line["all"] == pytest.approx(1e6 * rows["minao"]["all"])
    assert "regression, tuned" in done.stdout
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "made").rglob("*.ckpt")}
    assert len(kept) == 6
    assert mlff(*words, "again.json", cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "again.json").read_text())["rows"] == found["rows"]
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "made").rglob("*.ckpt")}
    other = mlff(*words, "other.json", "--epochs", "3", cwd=tmp_path)
    assert other.returncode == 1
    assert "choose another --output" in " ".join(other.stderr.split())
    model = tmp_path / "made" / "0-regression" / "hamiltonian"
    used = measure_matrices(str(model), str(tmp_path / "water.h5"), 1000)
    assert used["memory_mib"] >= used["base_mib"] > 10.0


def test_arms_that_fail_do_not_end_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fock_flow, "NETWORK", TINY)
    written(tmp_path / "water.h5")
    study = FlowStudy(
        tmp_path / "water.h5", tmp_path / "made", 1, [0], ["regression"], valid=4, test=4, energies=0, memory=False
    )
    assert [row["failed"] for row in study.run()] == [""] * 4
    weights = tmp_path / "made" / "0-regression" / "hamiltonian" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    more = replace(study, arms=["regression, tuned", "regression, no H_init"])
    rows = more.run()
    assert [bool(row["failed"]) for row in rows] == [False, False, False, True, False]
    assert "delete" in rows[3]["failed"]
    lines = {line["arm"]: line for line in summary(rows)}
    assert lines["regression, tuned"]["all"] == "-"
    assert lines["regression, no H_init"]["all"] < 1e7
    assert more.run() == rows
    (tmp_path / "made" / "0-regression_no_H_init" / "result.json").unlink()
    monkeypatch.setattr(fock_flow, "predict_fock", lambda network, part, **_: [np.full((7, 7), np.nan)] * len(part))
    assert "is not finite after 0 steps" in more.run()[-1]["failed"]


def test_studies_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "water.h5"
    with pytest.raises(BenchmarkError, match="there is no file"):
        FlowStudy(path, tmp_path / "made").run()
    with pytest.raises(BenchmarkError, match="unknown arm 'flaw': did you mean 'flow'"):
        FlowStudy(path, tmp_path / "made", arms=["flaw"]).run()
    with pytest.raises(BenchmarkError, match="no arms or seeds"):
        FlowStudy(path, tmp_path / "made", seeds=[]).run()
