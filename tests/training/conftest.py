"""A tiny data set with energies, forces and stress from a classical potential, and recipes for it."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.training import plots


def copper_frames(n: int, seed: int, *, stress: bool = True) -> list:
    """Return rattled copper cells of 2 atoms with labels from EMT."""
    generator = np.random.default_rng(seed)
    frames = []
    for index in range(n):
        atoms = bulk("Cu", "fcc", a=3.7, cubic=False).repeat((2, 1, 1))
        atoms.positions += generator.normal(scale=0.08, size=atoms.positions.shape)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        if stress:
            results["stress"] = atoms.get_stress()
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info["config_type"] = "even" if index % 2 == 0 else "odd"
        frames.append(atoms)
    return frames


@functools.cache
def copper_file(*, stress: bool) -> str:
    """Return the text of the file of frames, which is the same in all tests."""
    stream = io.StringIO()
    ase.io.write(stream, copper_frames(20, 1, stress=stress), format="extxyz")
    return stream.getvalue()


def tiny_recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    recipe = {
        "potential": {"backbone": {"name": "hegnn", "cutoff": 3.2, "l_max": 1, "channels": 4, "n_layers": 1}},
        "data": {"train": "cu.extxyz", "split": {"train": 12, "valid": 4, "test": 4, "seed": 3}},
        "loss": {"energy": 1.0, "forces": 1.0},
        "optimizer": {"batch_size": 4, "max_epochs": 4, "warmup_steps": 3, "learning_rate": 5e-3},
        "trainer": {"device": "cpu", "seed": 5},
        "card": {"title": "tiny copper", "level_of_theory": "EMT"},
        "output": "run",
    }
    for dotted, value in changes.items():
        place = recipe
        *parents, last = dotted.split("__")
        for key in parents:
            place = place.setdefault(key, {})
        place[last] = value
    return recipe


@pytest.fixture
def drawn_plots() -> None:
    """Draw plots in this test. They take half the time of a tiny run, so other tests leave these files empty."""


@pytest.fixture(autouse=True)
def plots_are_drawn_on_request(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "drawn_plots" not in request.fixturenames:
        monkeypatch.setattr(plots, "learning_curve", lambda metrics, target: target.write_bytes(b""))
        monkeypatch.setattr(plots, "parity", lambda pairs, target, title="": target.write_bytes(b""))


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Function that writes the data set and a recipe, and returns the path of the recipe."""

    def make(*, stress: bool = True, **changes: Any) -> Path:
        (tmp_path / "cu.extxyz").write_text(copper_file(stress=stress))
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(tiny_recipe(tmp_path, **changes)))
        return path

    return make


@pytest.fixture(scope="session")
def motion_recipe() -> Callable[..., dict[str, Any]]:
    """Function that makes the recipe of a tiny propagator; keywords such as `trainer__seed` change values."""
    return _motion_recipe


def _motion_recipe(**changes: Any) -> dict[str, Any]:
    recipe: dict[str, Any] = {
        "propagator": {"backbone": {"name": "hegnn", "l_max": 1, "channels": 8, "n_layers": 2, "moves": True}},
        "data": {"file": "nbody.npz"},
        "optimizer": {"batch_size": 8, "max_epochs": 4, "warmup_steps": 3, "learning_rate": 5e-3},
        "trainer": {"device": "cpu", "seed": 5},
        "card": {"title": "four charges"},
        "output": "run",
    }
    for dotted, value in changes.items():
        place = recipe
        *parents, last = dotted.split("__")
        for key in parents:
            place = place.setdefault(key, {})
        place[last] = value
    return recipe
