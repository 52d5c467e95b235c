"""Starts of the SCF in dynamics: results are kept, and those of other settings are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from ase.build import molecule

pytest.importorskip("pyscf")

from mlff_calc.bench.studies.scf_dynamics import SCFDynamics
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import BenchmarkError, OptionError


@pytest.fixture
def study(tmp_path: Path) -> SCFDynamics:
    settings = SCFSettings("hf", "sto-3g")
    return SCFDynamics(molecule("HF"), settings, tmp_path / "kept", ("minao", "previous"), steps=8, skip=2)


def test_finished_starts_are_kept_and_others_go_on(study: SCFDynamics) -> None:
    done: list[str] = []
    first, second = study.run(lambda start, step: done.append(start))
    assert done == ["minao"] * 9 + ["previous"] * 9
    assert (first.steps, first.from_minao) == (6, 0.0)
    assert second.cycles < first.cycles
    assert 0.0 < second.from_minao < 1e-3
    assert abs(first.drift) < 5.0 * first.drift_error + 0.01
    assert first.drift_error < first.plain_drift_error
    (study.output / "previous.json").write_text("{")  # as a crash of the machine may leave it
    done.clear()
    again = study.run(lambda start, step: done.append(start))
    assert done == ["previous"] * 9
    assert again[0] == first
    assert again[1].drift == second.drift


def test_all_starts_begin_with_the_same_velocities(study: SCFDynamics) -> None:
    study.run()
    kept = [json.loads((study.output / f"{start}.json").read_text())["series"] for start in study.starts]
    assert kept[0]["velocities"][0] == kept[1]["velocities"][0]
    assert max(map(abs, kept[0]["velocities"][0][0])) > 0.0


def test_other_settings_models_and_short_runs_are_refused(study: SCFDynamics) -> None:
    replace(study, starts=("minao",)).run()
    with pytest.raises(BenchmarkError, match="another --output"):
        replace(study, temperature=100.0).run()
    file = study.output / "minao.json"
    file.rename(study.output / "model.json")
    with pytest.raises(BenchmarkError, match="of the model , not mine"):
        replace(study, starts=("model",), model_name="mine").run()
    kept = json.loads(file.with_name("model.json").read_text())
    file.with_name("model.json").write_text(json.dumps(kept | {"model": "mine (aaaaaaaaaaaa)"}))
    with pytest.raises(BenchmarkError, match=r"of the model mine \(aaaaaaaaaaaa\), not mine \(bbbbbbbbbbbb\)"):
        replace(study, starts=("model",), model=SimpleNamespace(sha256="b" * 64), model_name="mine").run()
    with pytest.raises(BenchmarkError, match="too few"):
        replace(study, steps=6).run()
    with pytest.raises(BenchmarkError, match="no starts"):
        replace(study, starts=()).run()
    with pytest.raises(OptionError, match="unknown start"):
        replace(study, starts=("minoa",)).run()
