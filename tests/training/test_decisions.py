"""Decisions that a run takes from its data are recorded, and kept by a resumed run, also in older folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
import yaml
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.errors import RecipeError, TrainingError
from mlff_calc.potential import load_potential
from mlff_calc.training import run
from mlff_calc.training.frames.read import read_frames
from mlff_calc.training.potential.build import force_scale
from mlff_calc.training.recipe import load_recipe
from mlff_calc.training.run import train

Project = Callable[..., Path]
HARTREE = {"energy": "Hartree", "length": "Angstrom"}
PER_ANGSTROM = "data.units.forces=Hartree/Angstrom"
OLD_WAY = ["reference_energies=fit", "data.keep_isolated_atoms=true"]


@pytest.fixture
def in_hartree(project: Project) -> Callable[..., Path]:
    """Convert the labels of the project to Hartree and Hartree/Angstrom, and optionally append isolated atoms."""

    def make(*, n_isolated: int = 0, **changes: Any) -> Path:
        path = project(stress=False, **({"data__units": HARTREE, "optimizer__max_epochs": 1} | changes))
        frames = ase.io.read(path.parent / "cu.extxyz", ":")
        for atoms in frames:
            results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
            atoms.calc = SinglePointCalculator(atoms, **{k: v / units.Hartree for k, v in results.items()})
        for _ in range(n_isolated):
            atom = Atoms("Cu", info={"config_type": "IsolatedAtom"})
            atom.calc = SinglePointCalculator(atom, energy=-1.25, forces=[[0.0, 0.0, 0.0]])
            frames.append(atom)
        ase.io.write(path.parent / "cu.extxyz", frames)
        return path

    return make


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Train until just before the result is written, so that the folder is that of a run to be resumed."""

    def make(path: Path, *overrides: str, old: bool = False) -> Path:
        with monkeypatch.context() as patch:
            patch.setattr(run, "_write", lambda *args, **options: None)
            train(path, overrides=overrides)
        folder = path.parent / "run"
        if old:  # a version that used forces per Angstrom, fitted, kept isolated atoms, and recorded none of it
            record = json.loads((folder / "run.json").read_text())
            recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
            del record["reference_energies"]
            for mark in record["data"].values():
                mark.pop("units", None), mark.pop("isolated_atoms", None)
            recipe.get("data", {}).get("units", {}).pop("forces", None)
            recipe["data"].pop("keep_isolated_atoms", None), recipe.pop("reference_energies", None)
            (folder / "run.json").write_text(json.dumps(record))
            (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        return folder

    return make


@pytest.mark.parametrize("energy", ["Hartree", "ry"])
def test_forces_of_an_ambiguous_unit_are_not_trained_on(in_hartree: Project, energy: str) -> None:
    path = in_hartree(data__units={"energy": energy, "length": "Angstrom"})
    expected = rf"of .*cu\.extxyz is not .*{energy}/Bohr, .* \(--set data\.units\.forces={energy}/Angstrom, if"
    with pytest.raises(RecipeError, match=expected):
        train(path)
    own = in_hartree(data={"train": {"file": "cu.extxyz", "units": HARTREE}, "split": {"train": 12, "valid": 4}})
    with pytest.raises(RecipeError, match="write forces: Hartree/Angstrom among the units of that file"):
        train(own)
    assert not (path.parent / "run").exists()
    path = in_hartree(data__units={"energy": energy, "length": "Angstrom"})
    said = load_recipe(path, [f"data.units.forces={energy}/Bohr"])
    assert force_scale(read_frames(said)["train"]) > 0.0
    assert read_frames(load_recipe(path, ["loss.forces=0"]))["train"].samples[0].forces is not None  # with a warning


def test_the_record_contains_how_the_data_were_read(in_hartree: Project, stopped: Callable[..., Path]) -> None:
    path = in_hartree(n_isolated=2)
    folder = stopped(path, PER_ANGSTROM)
    record = json.loads((folder / "run.json").read_text())
    assert record["reference_energies"] == "from isolated atoms"
    factors = {"energy": units.Hartree, "length": 1.0, "forces": units.Hartree}
    assert record["data"]["train"]["units"] == [pytest.approx(factors)] == record["data"]["valid"]["units"]
    assert record["data"]["train"]["isolated_atoms"] == 2
    changes: list[tuple[str, Any]] = [
        ("its reference energies were 'fitted to the training energies' when",
         lambda r: r.update(reference_energies="fitted to the training energies")),
        ("isolated_atoms of `train` were 3 when .* but are 2 from", lambda r: r["data"]["train"].update(isolated_atoms=3)),
        ("frames of `valid` were 5 when .* but are 4 from", lambda r: r["data"]["valid"].update(frames=5)),
        ("factors of its units of `train` were", lambda r: r["data"]["train"]["units"][0].update(forces=51.4)),
        ("factors of its units of `test` were None", lambda r: r["data"]["test"].pop("units")),
    ]  # fmt: skip
    for expected, change in changes:
        other = json.loads(json.dumps(record))
        change(other)
        (folder / "run.json").write_text(json.dumps(other))
        with pytest.raises(TrainingError, match=expected):
            train(path, overrides=[PER_ANGSTROM], resume=True)
    (folder / "run.json").write_text(json.dumps(record))
    result = train(path, overrides=[PER_ANGSTROM], resume=True)
    assert load_potential(result.model).config["reference_energies"] == {"29": pytest.approx(-1.25 * units.Hartree)}


def test_an_older_run_with_isolated_atoms_continues_by_its_rules(in_hartree: Project, stopped: Callable[..., Path]) -> None:
    path = in_hartree(n_isolated=1)
    folder = stopped(path, PER_ANGSTROM, *OLD_WAY, old=True)
    cures = [f"--set {one}" for one in OLD_WAY]
    with pytest.raises(RecipeError, match=r"\(--set data\.units\.forces=Hartree/Angstrom, if it is that\)"):
        train(path, resume=True)
    with pytest.raises(TrainingError, match=f"leave out the 1 isolated atoms .* with {' '.join(cures)}, or start anew"):
        train(path, overrides=[PER_ANGSTROM], resume=True)
    with pytest.raises(TrainingError, match=f"began with {cures[1]}, or"):
        train(path, overrides=[PER_ANGSTROM, OLD_WAY[0]], resume=True)
    with pytest.raises(TrainingError, match=f"began with {cures[0]}, or"):
        train(path, overrides=[PER_ANGSTROM, OLD_WAY[1]], resume=True)
    with pytest.raises(RecipeError, match=r"had another recipe: optimizer\.max_epochs"):
        train(path, overrides=[PER_ANGSTROM, *OLD_WAY, "optimizer.max_epochs=2"], resume=True)
    with pytest.raises(TrainingError, match=r"last\.ckpt: potential\.heads\.energy\.scale of the run is"):
        train(path, overrides=["data.units.forces=Hartree/Bohr", *OLD_WAY], resume=True)
    assert not (folder / "potential").exists()
    result = train(path, overrides=[PER_ANGSTROM, *OLD_WAY], resume=True)
    energies = load_potential(result.model).config["reference_energies"]
    assert energies["29"] != pytest.approx(-1.25 * units.Hartree, abs=1.0)


def test_a_fine_tuned_run_continues(in_hartree: Project, stopped: Callable[..., Path]) -> None:
    path = in_hartree()
    start = train(path, overrides=[PER_ANGSTROM], output=path.parent / "start").model
    recipe = yaml.safe_load(path.read_text())
    del recipe["potential"]
    path.write_text(yaml.safe_dump(recipe | {"fine_tune_from": str(start)}))
    folder = stopped(path, PER_ANGSTROM)
    assert json.loads((folder / "run.json").read_text())["reference_energies"] == "fitted to the training energies"
    assert train(path, overrides=[PER_ANGSTROM], resume=True).model == folder / "potential"


def test_a_newer_run_does_not_change_its_ways(in_hartree: Project, stopped: Callable[..., Path]) -> None:
    path = in_hartree(n_isolated=1)
    stopped(path, PER_ANGSTROM)
    with pytest.raises(RecipeError, match="another recipe: reference_energies was 'auto', is 'fit'"):
        train(path, overrides=[PER_ANGSTROM, "reference_energies=fit"], resume=True)


def test_constants_of_the_checkpoint_are_those_of_the_data(
    in_hartree: Project, stopped: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_hartree()
    stopped(path, PER_ANGSTROM)
    monkeypatch.setattr("mlff_calc.training.potential.build.reference_energies", lambda *args: {29: -29.0})
    words = r"last\.ckpt: potential\.heads\.energy\.reference_energies of .* would give \[-29\.0\]"
    with pytest.raises(TrainingError, match=words):
        train(path, overrides=[PER_ANGSTROM], resume=True)
