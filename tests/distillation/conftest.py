"""Fixtures of distillation: a folder in which teachers' processes find the toy teacher, and a small recipe."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase import Atoms

from mlff_calc.distillation.teachers import Teacher, teacher_of

TOY = Path(__file__).with_name("toy_teacher.py")


def tetrahedron(scale: float = 2.5) -> Atoms:
    corners = [[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
    atoms = Atoms("Cu4", corners)
    atoms.positions *= scale / 8**0.5
    return atoms


def copy_toys(folder: Path) -> None:
    shutil.copy(TOY, folder / "toy_teacher.py")
    ase.io.write(folder / "cu4.xyz", tetrahedron())


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Present folder with the toy teacher and a file of structures."""
    copy_toys(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def toy(toys: Path) -> Callable[..., Teacher]:
    """Function that makes the toy teacher with options."""
    return lambda **options: teacher_of("toy_teacher:calculator", options)


def small(**more: Any) -> dict[str, Any]:
    """A recipe that runs in seconds; sections are updated by those given."""
    recipe: dict[str, Any] = {
        "teacher": {"python": "toy_teacher:calculator"},
        "systems": {"files": ["cu4.xyz"]},
        "student": {
            "committee": 1, "steps": 6, "final_steps": 6,
            "potential": {"backbone": {"name": "hegnn", "cutoff": 4.0, "l_max": 1, "channels": 8, "n_layers": 1}},
        },
        "explore": {"replicas": 3, "steps": 20, "timestep": 2.0, "reactive": True, "temperatures": [300.0]},
        "budget": {"labels": 50, "rounds": 1},
        "label": {"timeout": 20.0},
    }  # fmt: skip
    for section, values in more.items():
        recipe[section] = {**recipe.get(section, {}), **values} if isinstance(values, dict) else values
    return recipe
