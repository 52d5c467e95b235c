"""Functionals as a trainable kind: rounds of densities, constants of elements, resuming, judging, and refused data.

Molecules of two atoms in sto-3g on the coarsest grid, where an SCF takes some hundredths of a second.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.io import read, write
from ase.units import Bohr, Hartree

pytest.importorskip("pyscf")

from mlff_calc.datasets.convert import write_frames
from mlff_calc.datasets.keys import ENERGY
from mlff_calc.datasets.labelling import label_structures
from mlff_calc.electronic.functional import build_functional, load_functional
from mlff_calc.electronic.scf.energy_labels import EnergyLabels
from mlff_calc.electronic.scf.energy_level import EnergyLevel
from mlff_calc.electronic.scf.frozen import FrozenDensity, freeze
from mlff_calc.electronic.scf.functional_engine import rks
from mlff_calc.electronic.scf.pyscf_door import build_mole
from mlff_calc.errors import DatasetError, OptionError, RecipeError, TrainingError
from mlff_calc.training import run
from mlff_calc.training.data import generator_of
from mlff_calc.training.folder import RunFolder
from mlff_calc.training.functional.build import FunctionalTraining, new_functional
from mlff_calc.training.functional.constants import fit_constants, independent, without_constants
from mlff_calc.training.functional.data import read_parts
from mlff_calc.training.functional.evaluate import evaluate_functional
from mlff_calc.training.functional.example import EXAMPLE_FUNCTIONAL_RECIPE
from mlff_calc.training.functional.rivals import rival_energies
from mlff_calc.training.functional.rounds import density_path
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.training.run import train

from .changes import with_changes

pytestmark = pytest.mark.electronic
NETWORK = {"basis": "sto-3g", "grid_level": 0, "filters": 3, "channels": 4, "width": 4, "cutoff": 4.0}


def hydrogens(n: int, seed: int = 0) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    lengths = 0.5 * rng.random(n) + np.where(np.arange(n) % 2, 0.85, 0.65)
    return [Atoms("HF" if k % 2 else "H2", [[0, 0, 0], [0, 0, length]]) for k, length in enumerate(lengths)]


@pytest.fixture(scope="module")
def energies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("energies") / "data.extxyz"
    label_structures(hydrogens(14), EnergyLabels(EnergyLevel.of("hf", "sto-3g"), gradient=True), path)
    return path


def recipe_of(energies: Path, folder: Path, **changes: Any) -> Any:
    shutil.copy(energies, folder / "data.extxyz")
    recipe: dict[str, Any] = {
        "functional": dict(NETWORK),
        "densities": {"epochs": 12},
        "data": {"train": "data.extxyz", "split": {"valid": 2, "test": 4}},
        "optimizer": {"learning_rate": 0.05, "batch_size": 2, "max_epochs": 24, "ema_decay": None, "warmup_steps": 1},
        "trainer": {"device": "cpu", "validate_every": 3, "checkpoint_every": 3},
        "output": "run",
    }
    return parse_recipe(with_changes(recipe, changes), folder / "recipe.yaml")


@pytest.fixture(scope="module")
def trained(energies: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("trained")
    return folder, train(recipe_of(energies, folder))


def test_the_example_is_a_recipe() -> None:
    recipe = parse_recipe(yaml.safe_load(EXAMPLE_FUNCTIONAL_RECIPE), "example.yaml")
    assert (recipe.trainer.precision, recipe.densities.epochs) == ("float64", 60)


def test_a_trained_functional_is_nearer_than_its_base_and_tells_its_rounds(trained: tuple[Path, Any]) -> None:
    folder, result = trained
    errors = result.report.errors
    assert errors["functional"].mae < 0.6 * errors["base + constants"].mae < 0.6 * errors["base"].mae
    assert errors["functional"].forces is not None
    network = load_functional(folder / "run" / "functional")
    assert network.config["level"] == "hf/sto-3g, conv_tol 1e-09 Ha"
    assert sorted(network.config["constants"]) == ["1", "9"]
    densities = folder / "run" / "checkpoints" / "densities"
    rounds = json.loads((densities / "rounds.json").read_text())
    assert [(one["round"], one["frames"], one["kept"]) for one in rounds] == [(0, 10, 0), (1, 10, 0)]
    assert rounds[0]["jump"] is None
    assert 0.0 < rounds[1]["jump"] < 3.0  # mHa, of second order
    assert not list(densities.glob("round-*"))  # they are large
    card = (folder / "run" / "functional" / "card.md").read_text()
    assert "densities of round 1: 10 frames" in card
    assert "hf/sto-3g" in card


def test_energies_of_the_report_are_self_consistent(trained: tuple[Path, Any], energies: Path) -> None:
    network = load_functional(trained[0] / "run" / "functional")
    atoms = read(energies, 1)
    found, mf = freeze(network, atoms)
    sample = read_parts_of(energies)[1]
    report = evaluate_functional(network, [sample])
    error = found.energy - sample.energy / Hartree
    assert report.errors["functional"].mae == pytest.approx(abs(error), abs=1e-7)
    assert mf.e_tot == pytest.approx(found.energy, abs=1e-12)
    assert report.errors["functional"].relative == 0.0


def read_parts_of(path: Path) -> list[Any]:
    from mlff_calc.datasets import read_structures

    return read_structures(path)


def test_the_gradient_at_a_frozen_density_is_that_of_whole_scfs(energies: Path) -> None:
    """dE/dtheta of the self-consistent energy equals the explicit derivative (Hellmann-Feynman)."""
    network = build_functional(NETWORK | {"elements": [1, 9]}, seed=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    atoms, parameter, step = read(energies, 1), network.readout[0].weight, 1e-3
    frozen, _ = freeze(network, atoms, conv_tol=1e-11)
    energy = network(frozen.grid(), torch.from_numpy(atoms.positions / Bohr))
    (slope,) = torch.autograd.grad(energy.sum(), parameter)
    ends = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            parameter[0, 0] += sign * step
        ends.append(freeze(network, atoms, conv_tol=1e-11)[0].energy)
        with torch.no_grad():
            parameter[0, 0] -= sign * step
    assert float(slope[0, 0]) == pytest.approx((ends[0] - ends[1]) / (2.0 * step), rel=1e-4)


def test_a_batch_at_frozen_densities_has_the_energies_of_the_scfs(energies: Path, tmp_path: Path) -> None:
    recipe = recipe_of(energies, tmp_path)
    parts = read_parts(recipe)
    training = FunctionalTraining(recipe, new_functional(recipe, parts), parts)
    folder = RunFolder(tmp_path / "run")
    folder.checkpoints.mkdir(parents=True)
    training.begin(folder)
    batch = training.train.batch([0, 1, 2], 0, generator_of(0))
    outputs = training.objective.forward(training.network, training.objective.prepare("train", batch, generator_of(0)))
    for k in range(3):
        frozen = FrozenDensity.load(density_path(folder.checkpoints / "densities" / "round-0", k))
        assert float(outputs[ENERGY][k].detach()) == pytest.approx(frozen.energy * Hartree, abs=1e-8)
    left = [
        float(batch.labels[ENERGY][k]) + Hartree * training.network.constant(training.rounds.structures[k].numbers)
        for k in range(3)
    ]
    assert left == pytest.approx([parts["train"].samples[k].energy for k in range(3)], abs=1e-9)
    path = density_path(folder.checkpoints / "densities" / "round-0", 4)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"000004.safetensors cannot be read .*remove it, and --resume"):
        training.train.batch([4], 0, generator_of(0))


def test_a_run_that_is_stopped_goes_on_to_the_same_weights(
    energies: Path, tmp_path: Path, trained: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlff_calc.training.functional import rounds

    save, count = FrozenDensity.save, [0]

    def stopped(self: FrozenDensity, path: Path) -> None:
        count[0] += 1
        if count[0] == 13:  # in the middle of the first refresh
            raise KeyboardInterrupt
        save(self, path)

    monkeypatch.setattr(FrozenDensity, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(recipe_of(energies, tmp_path))
    monkeypatch.undo()
    converged: list[int] = []
    call = rounds.Refresh.__call__

    def counted(self: rounds.Refresh, item: tuple[int, Atoms]) -> float:
        converged.append(item[0])
        return call(self, item)

    monkeypatch.setattr(rounds.Refresh, "__call__", counted)
    result = train(recipe_of(energies, tmp_path), resume=True)
    assert converged == list(range(2, 10))  # what was converged before is not converged again
    one, two = (load_functional(each / "run" / "functional") for each in (trained[0], tmp_path))
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name]), name
    assert result.report.errors["functional"].mae == pytest.approx(trained[1].report.errors["functional"].mae, abs=1e-8)


def test_a_loss_of_recorded_fields_trains_too(energies: Path, tmp_path: Path) -> None:
    """Its energies are self-consistent for the present weights, so that a refresh of the densities moves nothing."""
    densities = {"epochs": 3, "loss": "unrolled", "cycles": 8}
    data = {"train": {"file": "data.extxyz", "index": "::2"}, "split": {"valid": 2, "test": 2}}  # hydrogen alone
    recipe = recipe_of(energies, tmp_path, densities=densities, optimizer__max_epochs=3, data=data)
    parts = read_parts(recipe)
    training = FunctionalTraining(recipe, new_functional(recipe, parts), parts)
    folder = RunFolder(tmp_path / "whole")
    folder.checkpoints.mkdir(parents=True)
    training.begin(folder)
    with torch.no_grad():
        training.network.weights.shift.fill_(0.3)
    batch = training.train.batch([0, 1], 0, generator_of(0))
    graph = training.objective.prepare("train", batch, generator_of(0))
    outputs = training.objective.forward(training.network, graph)
    for k in range(2):
        energy = freeze(training.network, training.rounds.structures[k])[0].energy
        constant = training.network.constant(training.rounds.structures[k].numbers)
        assert float(outputs[ENERGY][k].detach()) / Hartree == pytest.approx(energy - constant, abs=1e-8)
    training.objective.loss(outputs, replace(batch, graph=graph)).backward()
    slopes = [one.grad for one in training.network.parameters() if one.grad is not None]
    assert sum(float(one.abs().sum()) for one in slopes) > 0.0
    errors = train(recipe).report.errors
    assert errors["functional"].mae < errors["base + constants"].mae


def test_best_weights_are_those_of_the_last_round(trained: tuple[Path, Any]) -> None:
    record = json.loads((trained[0] / "run" / "run.json").read_text())
    assert record["best_epoch"] > 12


def test_constants_are_those_of_least_squares() -> None:
    water, hydrogen = np.array([8, 1, 1]), np.array([1, 1])
    found = fit_constants([water, hydrogen, water], [0.5, 0.2, 0.5])
    assert found == pytest.approx({1: 0.1, 8: 0.3})
    alone = fit_constants([water], [0.5])
    assert alone[8] + 2.0 * alone[1] == pytest.approx(0.5)


def changed(energies: Path, folder: Path, change: Callable[[int, Atoms], None]) -> Path:
    frames = read(energies, ":")
    for k, atoms in enumerate(frames):
        energy = atoms.get_potential_energy()
        atoms.calc = None
        atoms.info["energy"] = energy
        change(k, atoms)
    path = folder / "changed.extxyz"
    write(path, frames)
    return path


def test_wrong_units_are_told_by_the_first_frame(energies: Path, tmp_path: Path) -> None:
    recipe = recipe_of(energies, tmp_path, data__units={"energy": "Hartree"})
    with pytest.raises(RecipeError, match=r"data.extxyz, frame \d: the energy is .*base functional gives .*units.energy"):
        train(recipe)


def test_energies_of_two_levels_are_refused(energies: Path, tmp_path: Path, trained: tuple[Path, Any]) -> None:
    mixed = changed(energies, tmp_path, lambda k, atoms: atoms.info.update(level="pbe/sto-3g") if k == 3 else None)
    with pytest.raises(DatasetError, match="energies of different levels are mixed"):
        train(recipe_of(mixed, tmp_path))
    write_frames(tmp_path / "mixed.h5", read_parts_of(mixed))
    with pytest.raises(DatasetError, match=r"mixed.h5, frame \d.*mixed.h5, frame \d"):
        read_parts(recipe_of(energies, tmp_path, data__train="mixed.h5"))
    other = changed(energies, tmp_path, lambda k, atoms: atoms.info.update(level="pbe/sto-3g"))
    network = load_functional(trained[0] / "run" / "functional")
    with pytest.raises(DatasetError, match=r"of the level 'pbe/sto-3g', and the functional was trained on 'hf/sto-3g"):
        evaluate_functional(network, read_parts_of(other))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda k, atoms: atoms.info.pop("energy") if k == 0 else None, "has no energy"),
        (lambda k, atoms: atoms.info.update(charge=1) if k == 0 else None, "an odd number of electrons"),
        (lambda k, atoms: atoms.info.update(multiplicity=3) if k == 0 else None, "only closed shells"),
    ],
)
def test_frames_that_are_no_labelled_closed_shells_are_refused(
    energies: Path, tmp_path: Path, change: Callable[[int, Atoms], None], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        train(recipe_of(changed(energies, tmp_path, change), tmp_path))


def test_charges_of_the_training_are_known(trained: tuple[Path, Any], tmp_path: Path) -> None:
    random, frames = np.random.default_rng(0), hydrogens(14)[::2]
    for _ in range(3):
        ion = Atoms("H3", 0.9 * np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.87, 0]]) + 0.05 * random.normal(size=(3, 3)))
        ion.info["charge"] = 1
        frames.insert(0, ion)
    path = tmp_path / "ions.extxyz"
    label_structures(frames, EnergyLabels(EnergyLevel.of("hf", "sto-3g")), path)
    recipe = recipe_of(path, tmp_path, optimizer__max_epochs=2, trainer__validate_every=2, data__split={"valid": 3})
    ion_network = load_functional(train(recipe).model)
    assert ion_network.config["charges"] == [0, 1]
    assert rks(ion_network, build_mole(frames[0], "sto-3g")).mol.charge == 1
    neutral, samples = load_functional(trained[0] / "run" / "functional"), read_parts_of(path)[:4]
    with pytest.raises(OptionError, match="trained on neutral molecules; set allow_charge=True"):
        rks(neutral, build_mole(frames[0], "sto-3g"))
    report = evaluate_functional(neutral, samples)
    assert report.other_charges == 3
    assert "4 molecules; 3 of them with charges that were not trained on" in report.as_text()


def test_a_frame_that_does_not_converge_is_named(energies: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"data.extxyz, frame \d: the SCF of .* did not converge in two attempts"):
        train(recipe_of(energies, tmp_path, densities__max_cycle=1))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("functional__basis", "sto3", "unknown basis 'sto3'"),
        ("functional__base", "pbee", "did you mean 'pbe'|Input should be|pbe"),
        ("trainer__precision", "float32", "float64"),
        ("trainer__validate_every", 13, "more than densities.epochs"),
        ("trainer__n_devices", 2, "train on one device"),
        ("densities__cycles", 9, "densities.cycles is for densities.loss: unrolled"),
        ("densities__loss", "unroled", "unrolled"),
        ("trainer__compile", True, "not compiled"),
    ],
)
def test_options_that_cannot_be_are_refused(energies: Path, tmp_path: Path, key: str, value: object, message: str) -> None:
    with pytest.raises((RecipeError, OptionError), match=message):
        train(recipe_of(energies, tmp_path, **{key: value}))
    assert not (tmp_path / "run").exists()


def test_eval_judges_a_file(trained: tuple[Path, Any], energies: Path, tmp_path: Path, mlff: Callable[..., Any]) -> None:
    done = mlff("eval", trained[0] / "run" / "functional", energies, "--limit", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["molecules"] == 2
    assert set(found["errors"]) == {"functional", "base + constants", "base"}
    other = tmp_path / "other.extxyz"
    write(other, Atoms("HCl", [[0, 0, 0], [0, 0, 1.28]], info={"REF_energy": -12500.0}))
    for words, message in (
        ((energies, "--horizon", "2"), "--horizon does not apply"),
        ((other, "--key", "energy=REF_energy"), "other.extxyz, frame 0 holds Cl, and the functional was trained on H, F"),
        ((energies, "--unit", "energy=Hartree", "--limit", "2"), "frame 0: the energy is .* --unit energy="),
    ):
        told = mlff("eval", trained[0] / "run" / "functional", *words)
        assert told.returncode in (1, 2)
        assert told.stderr.count("mlff: error: ") == 1
        assert re.search(message, told.stderr), told.stderr


def test_without_pyscf_a_training_says_what_to_install(
    energies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyscf.dft.libxc", None)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"pip install .mlff_calc\[electronic\]"):
        train(recipe_of(energies, tmp_path))
    assert not (tmp_path / "run").exists()


def test_rivals_are_trained_on_the_same_energies(trained: tuple[Path, Any], energies: Path) -> None:
    samples = read_parts_of(energies)[:8]
    base = build_functional(NETWORK | {"elements": [1, 9]}, seed=0)
    bases = np.array([freeze(base, sample.atoms)[0].energy for sample in samples])
    found = rival_energies(samples, bases, samples[:2], bases[:2], steps=30)
    wanted = np.array([sample.energy for sample in samples[:2]]) / Hartree
    assert np.abs(found["base + difference"] - wanted).max() < 0.06
    assert np.abs(found["force field"] - wanted).max() < 0.06
    with pytest.raises(DatasetError, match="rivals need 8 energies or more, not 3"):
        rival_energies(samples[:3], bases[:3], samples, bases)


def test_relative_errors_are_those_that_constants_cannot_explain() -> None:
    numbers = torch.tensor([1, 1, 1, 9, 1, 1, 1, 9, 1, 9])
    system = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    wrong = torch.tensor([1.0, 5.0, 1.2, 5.4, 5.5], dtype=torch.float64)
    left, free = without_constants(wrong, numbers, system)
    means = torch.tensor([1.1, 5.3, 1.1, 5.3, 5.3], dtype=torch.float64)
    torch.testing.assert_close(left, wrong - means, rtol=0.0, atol=1e-12)
    assert free == 3
    weights = torch.tensor([1.0, 0.0, 1.0, 3.0, 1.0], dtype=torch.float64)
    left, free = without_constants(wrong, numbers, system, weights)
    expected = (wrong - torch.tensor([1.1, 0.0, 1.1, 5.425, 5.425], dtype=torch.float64)) * weights.sqrt()
    torch.testing.assert_close(left, expected, rtol=0.0, atol=1e-12)
    assert independent([np.array([1, 1]), np.array([1, 9]), np.array([1, 9])]) == 2


def test_constants_of_relative_errors_are_fitted_at_the_end(energies: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="more than 2 frames"):
        train(recipe_of(energies, tmp_path, loss__relative=True, data__split={"valid": 3}), output=tmp_path / "no")
    recipe = recipe_of(
        energies, tmp_path, loss__relative=True, optimizer__batch_size=4, optimizer__learning_rate=0.002,
        optimizer__max_epochs=6, densities__epochs=3, data__split={"valid": 3},
    )  # fmt: skip
    found = train(recipe, output=tmp_path / "run")
    parts = read_parts(recipe)
    network = load_functional(found.model)
    row = found.report.errors["base + constants"]
    assert row.mae < 0.1 * found.report.errors["base"].mae
    assert network.config["base_constants"].keys() == network.config["constants"].keys() == {"1", "9"}
    errors = [
        one.energy / Hartree - freeze(network, one.atoms)[0].energy for one in parts["train"].samples if one.energy
    ]
    formulas = [str(one.atoms.symbols) for one in parts["train"].samples]
    for formula in set(formulas):
        mine = [error for error, other in zip(errors, formulas, strict=True) if other == formula]
        assert abs(np.mean(mine)) < 1e-5


def test_constants_of_relative_errors_are_the_same_in_a_run_that_was_killed_at_its_end(
    energies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(
        energies, tmp_path, loss__relative=True, optimizer__batch_size=4, optimizer__max_epochs=6, densities__epochs=3,
        data__split={"valid": 3},
    )  # fmt: skip
    whole = load_functional(train(recipe, output=tmp_path / "whole").model)

    def killed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, output=tmp_path / "parts")
    parts = load_functional(train(recipe, output=tmp_path / "parts", resume=True).model)
    assert parts.config["constants"] == whole.config["constants"] != whole.config["base_constants"]
    assert parts.config["base_constants"] == whole.config["base_constants"]


def test_relative_errors_of_recorded_fields_are_refused(energies: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"relative needs densities\.loss: frozen"):
        recipe_of(energies, tmp_path, loss__relative=True, densities__loss="unrolled")
