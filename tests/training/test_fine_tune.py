"""Fine-tuning: the potential from which a run starts, and what the run takes over from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest
import yaml
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.errors import DatasetError, PotentialFileError
from mlff_calc.graph.domain import domain_of, united
from mlff_calc.potential import build_potential, list_potentials, load_potential
from mlff_calc.training.frames.read import read_frames
from mlff_calc.training.recipe import load_recipe
from mlff_calc.training.recipe_copies import runnable_recipe
from mlff_calc.training.run import train

Project = Callable[..., Path]


def test_fine_tuning_starts_from_a_potential(project: Project, tmp_path: Path) -> None:
    path = project()
    start = train(path, output=tmp_path / "start")
    frames = ase.io.read(path.parent / "cu.extxyz", ":")
    for atoms in frames:  # imitates another method, with energies shifted by a constant per atom
        atoms.calc.results["energy"] += 1000.0 * len(atoms)
    ase.io.write(path.parent / "cu.extxyz", frames)
    recipe = yaml.safe_load(path.read_text())
    del recipe["potential"]
    recipe |= {"fine_tune_from": str(start.model), "output": "tuned"}
    recipe["optimizer"] |= {"learning_rate": 1e-9, "max_epochs": 1}
    path.write_text(yaml.safe_dump(recipe))
    tuned = train(path)
    before, after = load_potential(start.model), load_potential(tuned.model)
    shift = after.config["reference_energies"]["29"] - before.config["reference_energies"]["29"]
    assert shift == pytest.approx(1000.0, abs=0.5)
    assert tuned.report.errors["forces"].mae == pytest.approx(start.report.errors["forces"].mae, rel=1e-3)

    for atoms in frames:
        atoms.symbols[0] = "Ag"
    ase.io.write(path.parent / "cu.extxyz", frames)
    with pytest.raises(DatasetError, match=r"cu.extxyz holds Ag, but the potential .* knows only Cu"):
        train(path, output=tmp_path / "silver")
    assert not (tmp_path / "silver").exists()


def test_the_domain_is_that_of_the_start_and_of_the_new_frames(project: Project, tmp_path: Path) -> None:
    path = project(optimizer__max_epochs=1)
    start = load_potential(train(path, output=tmp_path / "start").model)
    frames = ase.io.read(path.parent / "cu.extxyz", ":")
    for atoms in frames:  # the labels are not adapted, which does not matter here
        results = dict(atoms.calc.results)
        atoms.set_cell(atoms.cell * 1.1, scale_atoms=True)
        atoms.calc = SinglePointCalculator(atoms, **results)
    ase.io.write(path.parent / "cu.extxyz", frames)
    recipe = yaml.safe_load(path.read_text())
    del recipe["potential"]
    path.write_text(yaml.safe_dump(recipe | {"fine_tune_from": str(tmp_path / "start" / "potential"), "output": "tuned"}))
    tuned = load_potential(train(path).model)
    scaled = domain_of((sample.atoms for sample in read_frames(load_recipe(path))["train"].samples), start.cutoff)
    assert tuned.domain == united(start.domain, scaled) != scaled
    assert tuned.domain["nearest"]["Cu"][0] == [start.domain["nearest"]["Cu"][0][0], scaled["nearest"]["Cu"][0][1]]


@pytest.mark.parametrize("domain", [{"cutoff": 9.0, "nearest": {}}, {"cutoff": 3.2, "nearest": {"Cu": 3}}])
def test_a_damaged_domain_of_the_start_is_refused_first(project: Project, tmp_path: Path, domain: dict) -> None:
    path = project()
    recipe = yaml.safe_load(path.read_text())
    config = recipe.pop("potential") | {"elements": [29], "reference_energies": {"29": 0.0}, "scale": 1.0}
    start = build_potential(config | {"avg_num_neighbors": 12.0}, seed=0)
    start.domain = domain
    start.save(str(tmp_path / "start"))
    path.write_text(yaml.safe_dump(recipe | {"fine_tune_from": str(tmp_path / "start"), "output": "tuned"}))
    with pytest.raises(PotentialFileError, match=r"cutoff 9.0 Angstrom, and its cutoff is 3\.2|not what training writes"):
        train(path)
    assert not (tmp_path / "tuned").exists()


def test_a_folder_that_only_has_the_name_of_a_potential_is_not_the_start(project: Project, tmp_path: Path) -> None:
    name = list_potentials()[0].name
    path = project()
    recipe = yaml.safe_load(path.read_text())
    del recipe["potential"]
    path.write_text(yaml.safe_dump(recipe | {"fine_tune_from": name, "output": "tuned"}))
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").write_text("data of another run")
    with pytest.raises(DatasetError, match=f"holds Cu, but the potential '{name}' knows only"):
        train(path)
    loaded = load_recipe(path)
    assert loaded.start() == name
    assert runnable_recipe(loaded, tmp_path / "tuned")["fine_tune_from"] == name

    config = {"backbone": {"name": "equiformer", "cutoff": 3.2, "l_max": 1, "channels": 4, "n_layers": 1}}
    build_potential(config | {"elements": ["Cu"]}, seed=0).save(tmp_path / name, overwrite=True)
    assert loaded.start() == tmp_path / name
    assert runnable_recipe(loaded, tmp_path / "tuned")["fine_tune_from"] == str(tmp_path / name)
    (tmp_path / "notes").mkdir()
    with pytest.raises(PotentialFileError, match=r"notes is not a network: a network is a folder that holds"):
        train(path, overrides=["fine_tune_from=notes"])
