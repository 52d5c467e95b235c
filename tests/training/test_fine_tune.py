"""Fine-tuning: which potential a run starts from, and what it keeps of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest
import yaml

from mlff_calc.errors import DatasetError, PotentialFileError
from mlff_calc.potential import build_potential, list_potentials, load_potential
from mlff_calc.training.recipe import load_recipe
from mlff_calc.training.recipe_copies import runnable_recipe
from mlff_calc.training.run import train

Project = Callable[..., Path]


def test_fine_tuning_starts_from_a_potential(project: Project, tmp_path: Path) -> None:
    path = project()
    start = train(path, output=tmp_path / "start")
    frames = ase.io.read(path.parent / "cu.extxyz", ":")
    for atoms in frames:  # another method: energies shifted by a constant per atom
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
    with pytest.raises(PotentialFileError, match=r"notes is not a potential: a potential is a folder that holds"):
        train(path, overrides=["fine_tune_from=notes"])
