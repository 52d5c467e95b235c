"""Fine-tuning of potentials with heads of errors, or to potentials with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest
import torch
import yaml

from mlff_calc.errors import RecipeError
from mlff_calc.potential import build_potential, load_potential
from mlff_calc.training.run import train

Project = Callable[..., Path]


def started(project: Project, tmp_path: Path, **changes: object) -> tuple[Path, Path]:
    """Train a start for one epoch; return it, and a recipe without the section `potential` that continues it."""
    path = project(optimizer__max_epochs=1, **changes)
    start = train(path, output=tmp_path / "start").model
    recipe = yaml.safe_load(path.read_text())
    del recipe["potential"]
    path.write_text(yaml.safe_dump(recipe | {"fine_tune_from": str(start), "output": "tuned"}))
    return start, path


def change(path: Path, **entries: object) -> Path:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | entries))
    return path


def test_new_elements_have_new_centres_and_others_stay(project: Project, tmp_path: Path) -> None:
    start, path = started(project, tmp_path, potential__uncertainty={}, potential__elements=["Cu", "Au"])
    frames = ase.io.read(path.parent / "cu.extxyz", ":")
    for atoms in frames:
        atoms.symbols[:] = "Ag"
    ase.io.write(path.parent / "cu.extxyz", frames)
    tuned = load_potential(train(change(path, fine_tuning={"new_elements": "add"})).model)
    assert list(tuned.elements) == [29, 47, 79]
    for head, before in zip(tuned.error_heads, load_potential(start).error_heads, strict=True):
        assert torch.equal(head.distance.centres[[0, 2]], before.distance.centres)
        assert bool(head.distance.centres[1].any())


def test_heads_of_errors_are_added_to_a_start_without_them(project: Project, tmp_path: Path) -> None:
    start, path = started(project, tmp_path)
    with pytest.raises(RecipeError, match="bins of head 'energy_error' are 7"):
        train(change(path, potential={"uncertainty": {"bins": 7}}))
    tuned = load_potential(train(change(path, potential={"uncertainty": {"bins": 40}})).model)
    assert [(head.title, head.bins, int(head.calibrated)) for head in tuned.error_heads] == [
        ("energy_error", 40, 4),
        ("force_error", 40, 4),
    ]
    energy = load_potential(start).heads["energy"]
    assert all(float(head.scale) == float(energy.scale) for head in tuned.error_heads)


@pytest.mark.parametrize("asked", [None, {"bins": 96}])
def test_other_heads_of_errors_than_those_of_the_start_are_refused(project: Project, tmp_path: Path, asked: dict) -> None:
    _, path = started(project, tmp_path, potential__uncertainty={})
    with pytest.raises(RecipeError, match=r"potential\.uncertainty is .*'bins': 48.* in .*start"):
        train(change(path, potential={"uncertainty": asked}))
    assert not (tmp_path / "tuned").exists()


def test_the_same_heads_of_errors_may_be_repeated(project: Project, tmp_path: Path) -> None:
    _, path = started(project, tmp_path, potential__uncertainty={})
    tuned = load_potential(train(change(path, potential={"uncertainty": {}})).model)
    assert [head.title for head in tuned.error_heads] == ["energy_error", "force_error"]


@pytest.mark.usefixtures("drawn_plots")
def test_heads_of_errors_are_added_to_a_potential_that_stays_as_it_is(project: Project, tmp_path: Path) -> None:
    start, path = started(project, tmp_path)
    before = load_potential(start)
    path = change(path, potential={"uncertainty": {}}, fine_tuning={"freeze": "start"})
    tuned = load_potential(train(path).model)
    assert tuned.error_heads
    own = before.state_dict()
    assert all(torch.equal(tuned.state_dict()[name], value) for name, value in own.items())
    assert tuned.config["reference_energies"] == before.config["reference_energies"]
    fresh = build_potential(tuned.config, seed=5)
    heads = [name for name in tuned.state_dict() if name not in own and name.endswith("weight")]
    assert heads
    assert all(not torch.equal(tuned.state_dict()[name], fresh.state_dict()[name]) for name in heads)


def test_nothing_to_train_is_refused(project: Project, tmp_path: Path) -> None:
    _, path = started(project, tmp_path)
    with pytest.raises(RecipeError, match=r"fine_tuning\.freeze is start, and nothing is left to train; add heads that"):
        train(change(path, fine_tuning={"freeze": "start"}))
