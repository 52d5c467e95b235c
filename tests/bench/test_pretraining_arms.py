"""The study of pretrainings, on a few tiny trainings."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.bench.studies.pretraining_arms import PretrainingStudy, StartedPotential, summary
from mlff_calc.errors import BenchmarkError
from mlff_calc.pretraining import load_pretraining


def written(path: Path, names: list[str], n: int) -> Path:
    random, frames = np.random.default_rng(0), []
    for k in range(n):
        atoms = molecule(names[k % len(names)])
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")
    return path


def study_in(folder: Path, **changes: object) -> PretrainingStudy:
    structures = written(folder / "structures.extxyz", ["CH3OH", "H2O"], 20)
    given = {
        "structures": structures, "files": [written(folder / "water.extxyz", ["H2O"], 24)], "output": folder / "out",
        "arms": ["scratch", "denoising", "georecon"], "labels": (8,), "seeds": (0,), "epochs": 1, "tuned": 1, "test": 6,
        "backbone": {"name": "hegnn", "l_max": 1, "channels": 8, "n_layers": 1, "cutoff": 3.0},
    }  # fmt: skip
    return PretrainingStudy(**(given | changes))  # type: ignore[arg-type]


def test_arms_start_from_their_pretrainings_and_are_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: dict[str, float] = {}
    prepare = StartedPotential.prepare

    def watched(self: StartedPotential, recipe: object, parts: object) -> object:
        prepared = prepare(self, recipe, parts)  # type: ignore[arg-type]
        name = "new" if self.start is None else self.start.parent.name
        begun[name] = float(prepared.network.backbone.species.weight.detach().sum())
        return prepared

    monkeypatch.setattr(StartedPotential, "prepare", watched)
    study = study_in(tmp_path)
    pretrained, rows = study.run()
    assert [row["arm"] for row in pretrained] == ["denoising", "georecon"]
    assert all(not row["failed"] for row in [*pretrained, *rows])
    assert 0.0 < pretrained[1]["own"] != pretrained[1]["exchanged"]
    for arm in ("denoising", "georecon"):
        backbone = load_pretraining(tmp_path / "out" / f"pretraining-0-{arm}" / "pretraining").backbone
        assert begun[f"pretraining-0-{arm}"] == pytest.approx(float(backbone.species.weight.detach().sum()))
    assert len(set(begun.values())) == 3
    assert study.run() == (pretrained, rows)
    found = {line["arm"]: line for line in summary(rows)}
    assert found["scratch"]["energy over scratch"] == 1.0
    one, other = (next(row for row in rows if row["arm"] == arm) for arm in ("georecon", "denoising"))
    assert found["georecon"]["forces over denoising"] == pytest.approx(one["forces"] / other["forces"])
    with pytest.raises(BenchmarkError, match="choose another"):
        study_in(tmp_path, epochs=2).run()
    again = study_in(tmp_path)
    written(again.files[0], ["H2O"], 25)
    with pytest.raises(BenchmarkError, match="labels-water holds results"):
        again.run()


def test_an_arm_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    study = study_in(tmp_path, arms=["supervised", "scratch"])
    frames = ase.io.read(study.structures, index=":")
    for atoms in frames:
        atoms.calc = None
    ase.io.write(study.structures, frames, format="extxyz")
    pretrained, rows = study.run()
    assert "has no energy" in pretrained[0]["failed"]
    assert [bool(row["failed"]) for row in rows] == [True, False]
    assert summary(rows)[0]["energy"] == "-"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": ["denoise"]}, "unknown arm 'denoise': did you mean 'denoising'"),
        ({"files": [Path("absent.extxyz")]}, "there is no file absent.extxyz"),
        ({"labels": ()}, "there are no arms, seeds, labels or files"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(BenchmarkError, match=words):
        study_in(tmp_path, **changes).run()
