"""The recipe of a distillation: one YAML file, checked as a whole before anything runs or is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, ValidationError

from mlff_calc.distillation.sections import (
    BudgetSection,
    ExploreSection,
    LabelSection,
    StopSection,
    StudentSection,
    SystemsSection,
    TeacherSection,
)
from mlff_calc.errors import RecipeError
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.training.recipe_base import TrainingRecipe, read_recipe_file
from mlff_calc.training.recipe_errors import describe_validation_error
from mlff_calc.training.recipe_section import Section

BACKBONE: dict[str, Any] = {"name": "hegnn", "cutoff": 5.0, "l_max": 2, "channels": 32, "n_layers": 2}
"""Backbone of students by default."""
OPTIMIZER: dict[str, Any] = {"learning_rate": 0.004, "warmup_steps": 20, "batch_size": 8, "ema_decay": 0.99}
"""Optimizer of students by default."""


class DistillationRecipe(Section):
    """Recipe of a distillation."""

    teacher: TeacherSection = TeacherSection()
    """What gives the labels."""
    systems: SystemsSection
    """Structures to begin with."""
    explore: ExploreSection = ExploreSection()
    """Dynamics of the students, by which new frames are found."""
    student: StudentSection = StudentSection()
    """What is trained."""
    label: LabelSection = LabelSection()
    """How labels are made."""
    stop: StopSection = StopSection()
    """When it is good enough."""
    budget: BudgetSection
    """What it may cost."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of everything random."""
    output: str | None = None
    """Folder of the run, relative to the recipe; `mlff distill --output` replaces it."""

    _origin: Path = PrivateAttr(default=Path("recipe"))
    _raw: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def origin(self) -> Path:
        """File that the recipe was read from."""
        return self._origin

    @property
    def tolerance(self) -> float:
        """Accepted error of the worst force of a frame, eV/Angstrom."""
        return 2.0 * self.stop.target if self.stop.tolerance is None else self.stop.tolerance

    @property
    def batch_size(self) -> int:
        """Number of frames in a batch of a training."""
        return int(self.student.optimizer.get("batch_size", OPTIMIZER["batch_size"]))

    def resolve(self, path: str) -> Path:
        """Absolute path of a file named in the recipe."""
        return (self._origin.parent / Path(path).expanduser()).resolve()

    def fixed(self) -> dict[str, Any]:
        """What may not change when a run is resumed, by name; the teacher is compared by itself."""
        whole = self.model_dump(mode="json", exclude={"output", "budget", "teacher"})
        for name in ("workers", "timeout"):
            del whole["label"][name]
        whole["systems"]["files"] = [str(self.resolve(file)) for file in self.systems.files]
        return whole

    def training(
        self, origin: Path | str, data: dict[str, Any], budget: dict[str, Any], seed: int, **more: Any
    ) -> TrainingRecipe:
        """The recipe of one training.

        Args:
            origin: File that it stands for, whose folder its paths are relative to.
            data: Section `data`.
            budget: Budget of the optimizer.
            seed: Seed of the training.
            more: Further sections, and `uncertainty` and `stress` (whether there is one to learn).

        Raises:
            RecipeError: The sections of the student do not make a recipe.
        """
        potential = {"backbone": BACKBONE, **self.student.potential}
        if isinstance(potential["backbone"], dict) and "name" not in potential["backbone"]:
            potential["backbone"] = BACKBONE | potential["backbone"]
        if more.pop("uncertainty", False) and potential.get("uncertainty") is None:
            potential["uncertainty"] = {}
        loss = dict(self.student.loss)
        if more.pop("stress", False) and "stress" not in loss:
            loss = {"energy": 8.0, "forces": 1.0, "stress": 10.0, "form": "mse"} | loss
        return parse_recipe(
            {
                "potential": potential, "data": data, **({"loss": loss} if loss else {}),
                "optimizer": {**OPTIMIZER, **self.student.optimizer, **budget},
                "trainer": {"device": "cpu", **self.student.trainer, "seed": seed}, **more,
            },
            origin,
        )  # fmt: skip


def parse_distillation(data: dict[str, Any], origin: Path | str) -> DistillationRecipe:
    """Check a recipe given as a dict.

    Raises:
        RecipeError: There are unknown keys, wrong types or values out of range; the text names file, key and cure.
    """
    try:
        recipe = DistillationRecipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(describe_validation_error(error, DistillationRecipe, data, str(origin))) from None
    recipe._origin, recipe._raw = Path(origin).absolute(), data
    recipe.training(f"{origin}: student", {"train": "train.extxyz", "valid": "valid.extxyz"}, {"max_epochs": 1}, 0)
    return recipe


def load_distillation(path: Path | str, overrides: list[str] | tuple[str, ...] = ()) -> DistillationRecipe:
    """Read and check a recipe.

    Args:
        path: YAML file.
        overrides: `section.key=value` strings that replace values of the file.

    Raises:
        RecipeError: The file is missing, not YAML, or not a valid recipe.
    """
    return parse_distillation(read_recipe_file(path, overrides), path)
