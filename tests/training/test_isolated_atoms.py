"""Frames of isolated atoms give reference energies, and are training frames only if the recipe says so."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
import torch
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.networks import read_header
from mlff_calc.potential import load_potential
from mlff_calc.training.frames.read import read_frames
from mlff_calc.training.potential.build import new_potential
from mlff_calc.training.potential.finetune import start_from
from mlff_calc.training.recipe import load_recipe
from mlff_calc.training.run import train

Project = Callable[..., Path]
E0 = -1.25


def isolated(symbol: str = "Cu", energy: float | None = E0, config_type: str = "IsolatedAtom", **cell: Any) -> Atoms:
    atoms = Atoms(symbol, **cell)
    results: dict[str, Any] = {"forces": [[0.0, 0.0, 0.0]] * len(atoms)} | ({} if energy is None else {"energy": energy})
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info["config_type"] = config_type
    return atoms


@pytest.fixture
def with_isolated(project: Project) -> Callable[..., Path]:
    """The twenty frames of `cu.extxyz` with isolated atoms between them, at frame 7 and at the end."""

    def make(*extra: Atoms, **changes: Any) -> Path:
        path = project(**changes)
        frames = ase.io.read(path.parent / "cu.extxyz", ":")
        first, *rest = extra or (isolated(),)
        ase.io.write(path.parent / "cu.extxyz", [*frames[:7], first, *frames[7:], *rest])
        return path

    return make


def references(path: Path, *overrides: str) -> dict[str, float]:
    recipe = load_recipe(path, list(overrides))
    potential, _ = new_potential(recipe, read_frames(recipe)["train"])
    return dict(potential.config["reference_energies"])


def test_by_default_they_are_the_reference_and_no_frames(with_isolated: Project) -> None:
    path = with_isolated(isolated(config_type="isolated_atom"), isolated("Ag", -7.0))
    parts = read_frames(load_recipe(path))
    assert {part: len(frames) for part, frames in parts.items()} == {"train": 12, "valid": 4, "test": 4}
    assert all(len(sample.atoms) == 2 for frames in parts.values() for sample in frames.samples)
    assert references(path) == {"29": E0}
    assert references(path, "reference_energies=isolated") == {"29": E0}


def test_the_recipe_decides(with_isolated: Project) -> None:
    path = with_isolated()
    fitted = references(path, "reference_energies=fit")["29"]
    frames = read_frames(load_recipe(path))["train"].samples
    assert fitted == pytest.approx(sum(sample.energy for sample in frames) / (2 * len(frames)))
    assert references(path, "reference_energies={Cu: -3.5}") == {"29": -3.5}
    kept = read_frames(load_recipe(path, ["data.keep_isolated_atoms=true", "data.split.train=null"]))
    assert sum(len(frames) for frames in kept.values()) == 21
    assert references(path, "data.keep_isolated_atoms=true") == {"29": E0}


def test_without_such_frames_energies_are_fitted(project: Project) -> None:
    path = project()
    assert references(path) == references(path, "reference_energies=fit")
    with pytest.raises(RecipeError, match=r"reference_energies is isolated, but .*cu\.extxyz holds no such frame; mark"):
        references(path, "reference_energies=isolated")


@pytest.mark.parametrize(
    ("extra", "error", "expected"),
    [
        ([isolated("Ag", -7.0)], RecipeError, r"holds none with an energy of Cu; add such frames, or write .*: fit"),
        ([isolated("Ag", -7.0), isolated(energy=None)], RecipeError, r"of Cu \(there is no energy in .*, frame 21\)"),
        ([isolated(), isolated(energy=-1.3)], DatasetError, r"isolated atoms of Cu disagree: -1\.25 eV in .* 7, -1\.3 eV"),
        ([isolated("Cu2", -2.0)], DatasetError, r"cu\.extxyz, frame 7: .* but it has 2 atoms \(Cu2\)"),
        ([isolated(cell=[3, 9, 9], pbc=True)], DatasetError, r"frame 7: is marked .* repeats it 2 times within .* 3\.2"),
    ],
)
def test_invalid_references_are_refused(with_isolated: Project, extra: list[Atoms], error: type, expected: str) -> None:
    path = with_isolated(*extra)
    with pytest.raises(error, match=expected):
        train(path)
    assert not (path.parent / "run").exists()


def test_without_energies_they_are_left_out_and_energies_are_fitted(with_isolated: Project) -> None:
    path = with_isolated(isolated(energy=None))
    assert references(path) == references(path, "reference_energies=fit")
    with pytest.raises(RecipeError, match="holds 1 such frames without an energy"):
        references(path, "reference_energies=isolated")


def test_other_files_must_agree_and_may_hold_nothing_else(with_isolated: Project) -> None:
    path = with_isolated(data={"train": "cu.extxyz", "valid": "valid.extxyz"})
    frames = [atoms for atoms in ase.io.read(path.parent / "cu.extxyz", ":4")]
    for atoms in frames:
        atoms.positions[1] += 0.05
    ase.io.write(path.parent / "valid.extxyz", [*frames, isolated()])
    assert len(read_frames(load_recipe(path))["valid"]) == 4
    ase.io.write(path.parent / "valid.extxyz", [*frames, isolated(energy=-9.0)])
    with pytest.raises(DatasetError, match=r"disagree: -1\.25 eV in .*cu\.extxyz, frame 7, -9 eV .*valid\.extxyz, frame 4"):
        read_frames(load_recipe(path))
    ase.io.write(path.parent / "valid.extxyz", [isolated()])
    with pytest.raises(DatasetError, match=r"valid\.extxyz: no frames for `valid` beside isolated atoms"):
        read_frames(load_recipe(path))


def test_a_run_records_the_source_of_its_references(with_isolated: Project, caplog: pytest.LogCaptureFixture) -> None:
    path = with_isolated(optimizer__max_epochs=1, optimizer__warmup_steps=1)
    with caplog.at_level(logging.INFO, "mlff_calc"):
        result = train(path)
    said = "reference energies from isolated atoms: Cu -1.25 eV"
    left = "1 frames of isolated atoms are in no part of the data"
    for text in (caplog.text, result.summary(), (result.model / "card.md").read_text()):
        assert said in text
        assert left in text
    assert json.loads((result.folder / "evaluation.json").read_text())["notes"] == [said, left]
    header = read_header(result.model)
    assert header["provenance"]["reference_energies"] == "from isolated atoms"
    assert header["provenance"]["data"]["train"]["isolated_atoms"] == 1
    assert load_potential(result.model).config["reference_energies"] == {"29": E0}

    recipe = yaml.safe_load(path.read_text())
    del recipe["potential"]
    path.write_text(yaml.safe_dump(recipe | {"fine_tune_from": "run/potential", "output": "tuned"}))
    for overrides, expected in ([], None), (["reference_energies=isolated"], E0), (["reference_energies={Cu: -2}"], -2.0):
        tuned = load_recipe(path, overrides)
        found = start_from(tuned, read_frames(tuned)["train"])[0].config["reference_energies"]["29"]
        assert (found == expected) if expected is not None else (found != E0)


def test_kept_isolated_atoms_are_trained_on(with_isolated: Project) -> None:
    path = with_isolated(
        data={"train": {"file": "cu.extxyz", "index": ":9"}, "valid": {"file": "cu.extxyz", "index": "9:"}},
        optimizer__max_epochs=1, optimizer__warmup_steps=1,
    )  # fmt: skip
    result = train(path, overrides=["data.keep_isolated_atoms=true", "loss.config_weights={IsolatedAtom: 3}"])
    assert "1 frames of isolated atoms are among the other frames" in result.summary()
    assert "weights of IsolatedAtom: 1 frames, energy 3" in result.summary()
    with pytest.raises(DatasetError, match="names 'IsolatedAtom', but no training frame has this config type"):
        train(path, overrides=["loss.config_weights={IsolatedAtom: 3}"], output=path.parent / "other")


@pytest.mark.parametrize("given", ["isolated", "{Cu: -400.0}", "fit"])
def test_a_new_potential_begins_at_the_mean_that_references_leave(with_isolated: Project, given: str) -> None:
    recipe = load_recipe(with_isolated(), [f"reference_energies={given}"])
    frames = read_frames(recipe)["train"]
    potential, graphs = new_potential(recipe, frames)
    batch = graphs.batch(list(range(len(graphs))))
    off = (potential.eval()(batch.graph)["energy"].detach() - batch.labels["energy"]).abs() / 2
    assert float(off.max()) < 1.5  # a random network is off by some tenths of an eV
    same, _ = new_potential(load_recipe(recipe.origin, ["reference_energies=fit"]), frames)
    assert torch.equal(potential.heads["energy"].last.bias, same.heads["energy"].last.bias) == (given == "fit")
