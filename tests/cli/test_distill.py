"""`mlff distill` at the command line."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest
import yaml
from ase import Atoms

from mlff_calc.distillation.example import EXAMPLE_RECIPE
from mlff_calc.distillation.recipe import parse_distillation

Mlff = Callable[..., subprocess.CompletedProcess[str]]
TOY = Path(__file__).parents[1] / "distillation" / "toy_teacher.py"
SMALL = {
    "student.potential.backbone.channels": 8, "student.potential.backbone.l_max": 1, "student.steps": 6,
    "student.final_steps": 6, "student.committee": 1, "budget.rounds": 0, "explore.replicas": 3, "explore.steps": 20,
    "explore.reactive": "true",
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path) -> Path:
    shutil.copy(TOY, tmp_path / "toy_teacher.py")
    ase.io.write(tmp_path / "cu2.xyz", Atoms("Cu3", [[0, 0, 0], [2.5, 0, 0], [1.2, 2.2, 0]]))
    return tmp_path


def test_from_a_teacher_and_a_file_to_a_potential_that_goes_on(here: Path, mlff: Mlff) -> None:
    """A whole run, and a round more: 6 seconds."""
    settings = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    line = ("distill", "--teacher", "toy_teacher:calculator", "--structures", "cu2.xyz", "--labels", 50, "-o", "run")
    told = mlff(*line, *settings, cwd=here)
    assert told.returncode == 0, told.stderr
    assert "round 0: " in told.stdout
    assert "mlff md run/potential --structure STRUCTURE --domain stop" in told.stdout
    assert "valid MAE" not in told.stderr
    again = mlff("distill", "--resume", "-o", "run", cwd=here)
    assert again.returncode == 1
    assert "is finished; give minutes or labels to go on with it" in again.stderr
    other = mlff("distill", "--resume", "-o", "run", "--labels", 60, "--set", "student.steps=7", cwd=here)
    assert other.returncode == 1
    assert "student.steps was 6, is 7" in other.stderr
    more = mlff("distill", "--resume", "-o", "run", "--labels", 60, "--quiet", cwd=here)
    assert more.returncode == 0, more.stderr
    assert "round 1" not in more.stdout
    assert (here / "run" / "labels" / "round-001.extxyz").is_file()


def test_the_example_is_valid_and_its_comments_are_the_defaults(here: Path, mlff: Mlff) -> None:
    assert mlff("distill", "--example", cwd=here).stdout == EXAMPLE_RECIPE
    written = mlff("distill", "--example", "-o", "recipe.yaml", cwd=here)
    assert "mlff distill recipe.yaml" in written.stdout
    assert "exists already" in mlff("distill", "--example", "-o", "recipe.yaml", cwd=here).stderr
    plain = yaml.safe_load(EXAMPLE_RECIPE)
    plain = {name: section or {} for name, section in plain.items()}
    recipe = parse_distillation(plain, "example")
    for section in ("systems", "explore", "student", "label", "stop", "budget"):
        text = re.search(rf"^{section}:.*?(?=^\S)", EXAMPLE_RECIPE, flags=re.MULTILINE | re.DOTALL)[0]
        for key, value in re.findall(r"^  # (\w+): (\S+?)(?:\s|$)", text, flags=re.MULTILINE):
            default = type(getattr(recipe, section)).model_fields[key].default
            if isinstance(default, bool | int | float):
                assert default == yaml.safe_load(value), f"{section}.{key}"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "give a recipe"),
        (("--teacher", "emt"), "give a recipe"),
        (("--resume",), "give the folder of the run that goes on as --output"),
        (("recipe.yaml", "--teacher", "emt"), "has a teacher and structures already"),
        (("recipe.yaml",), "recipe.yaml"),
        (("-t", "emt", "-s", "nowhere.xyz", "--labels", "50", "-o", "run"), "nowhere.xyz"),
        (("-t", "emt", "-s", "cu2.xyz", "-o", "run"), "there is no budget"),
        (("-t", "emt", "-s", "cu2.xyz", "--labels", "50"), "there is no folder for the run"),
        (("-t", "emtt", "-s", "cu2.xyz", "--labels", "50", "-o", "run"), "did you mean 'emt'"),
        (("-t", "mace-mp", "-s", "cu2.xyz", "--labels", "50", "-o", "run"), "brings no weights"),
        (("-t", "emt", "-s", "cu2.xyz", "--labels", "50", "-o", "run", "--workers", "0"), "label.workers"),
        (("-t", "emt", "-s", "cu2.xyz", "--labels", "50", "-o", "run", "--environment", "no"), "is no interpreter"),
    ],
)
def test_wrong_command_lines_are_one_message(here: Path, mlff: Mlff, words: tuple[str, ...], expected: str) -> None:
    told = mlff("distill", *words, cwd=here)
    assert told.returncode in (1, 2)
    assert expected in " ".join(told.stderr.split())
    assert "Traceback" not in told.stderr
    assert not (here / "run").exists()
