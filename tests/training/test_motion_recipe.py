"""Recipes of propagators: valid ones, and errors of invalid ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlff_calc.errors import RecipeError
from mlff_calc.training.propagator.example import EXAMPLE_MOTION_RECIPE
from mlff_calc.training.recipe import load_recipe, parse_recipe
from mlff_calc.training.recipe_yaml import apply_overrides, read_yaml

Recipe = Callable[..., dict[str, Any]]


def refusal(data: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(data, "my.yaml")
    return str(caught.value)


def test_the_example_is_valid_and_comments_on_other_options() -> None:
    recipe = parse_recipe(read_yaml(EXAMPLE_MOTION_RECIPE, "example"), "example")
    assert recipe.output == "runs/my-propagator"
    shown = EXAMPLE_MOTION_RECIPE
    for line in ("forces", "potential:"):
        assert line not in shown
    whole = read_yaml(
        "\n".join(line.replace("# ", "", 1) if _is_default(line) else line for line in shown.splitlines()), ""
    )
    assert parse_recipe(whole, "example").model_dump() == recipe.model_dump() | {
        "propagator": recipe.propagator.model_dump()
        | {"backbone": recipe.propagator.backbone.model_dump() | {"cutoff": "auto", "avg_num_neighbors": "auto"}},
        "optimizer": recipe.optimizer.model_dump() | {"valid_batch_size": 100, "max_minutes": 30.0, "max_cpu_minutes": 30.0},
        "trainer": recipe.trainer.model_dump() | {"early_stop": 50},
    }


def _is_default(line: str) -> bool:
    text = line.strip()
    return line.startswith("  ") and text.startswith("# ") and ":" in text.split("#")[1]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.horizn=5", "data.horizn: unknown key 'horizn'; did you mean 'horizon'?"),
        ("propagator.backbone.chanels=8", "unknown option 'chanels' of backbone 'hegnn'; did you mean 'channels'?"),
        ("propagator.backbone.name=egnn", "propagator.backbone.name: unknown backbone 'egnn'"),
        ("propagator.backbone.cutoff=large", "propagator.backbone.cutoff: cutoff of backbone 'hegnn' is 'large'"),
        ("propagator.backbone.l_max=-1", "l_max is -1"),
        ("potential={backbone: {name: hegnn}}", "it has the sections potential and propagator, each of another kind"),
        ("data.format=npz", "data.format: 'npz': give one of nbody, md17, mocap, asf_amc"),
        ("data.horizon=0", "data.horizon: 0 is out of range; give a value >= 1"),
        ("data.limit.valid=0", "data.limit.valid: 0 is out of range"),
        ("loss.velocities=1", "loss.velocities is 1, but propagator.predict_velocities is false"),
        ("propagator.predict_velocities=true", "loss.velocities is 0, so nothing would train them"),
        ("loss.positions=0", "loss: all weights are 0"),
        ("loss.form=huber", "loss.form: 'huber' is not a choice; give 'mse' or 'l2'"),
        ("trainer.precision=mixed", "trainer.precision is mixed, which propagators do not have"),
        ("optimizer.max_epochs=null", "the run has no budget"),
        ("trainer.validate_every=9", "trainer.validate_every is 9, but the run ends after optimizer.max_epochs = 4"),
    ],
)
def test_bad_values_name_place_value_and_cure(motion_recipe: Recipe, override: str, expected: str) -> None:
    assert expected in refusal(apply_overrides(motion_recipe(), [override]))


def test_the_section_determines_the_kind_of_a_recipe(motion_recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(motion_recipe()))
    assert type(load_recipe(path)).__name__ == "MotionRecipe"
    misspelt = motion_recipe()
    misspelt["propagater"] = misspelt.pop("propagator")
    path.write_text(yaml.safe_dump(misspelt))
    with pytest.raises(RecipeError, match=r"unknown key 'propagater'; did you mean 'propagator'\?"):
        load_recipe(path)
