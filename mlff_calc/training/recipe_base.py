"""What recipes of all kinds have in common: optimizer, trainer, card, output, and the file they came from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from mlff_calc.bounded import read_text
from mlff_calc.errors import RecipeError
from mlff_calc.training.recipe_errors import describe_validation_error
from mlff_calc.training.recipe_section import Section
from mlff_calc.training.recipe_yaml import apply_overrides, copy_plain, read_yaml

Precision = Literal["float32", "mixed", "float64"]


class OptimizerSection(Section):
    """Optimizer, schedule, averaging and the budget of the run."""

    name: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = Field(2e-3, gt=0.0, le=1.0)
    weight_decay: float = Field(0.0, ge=0.0)
    beta2: float = Field(0.999, gt=0.0, lt=1.0)
    warmup_steps: int = Field(100, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    floor: float = Field(0.01, ge=0.0, le=1.0)
    gradient_clip: float | None = Field(10.0, gt=0.0)
    ema_decay: float | None = Field(0.999, gt=0.0, lt=1.0)
    batch_size: int = Field(8, ge=1)
    valid_batch_size: int | None = Field(None, ge=1)
    max_epochs: int | None = Field(None, ge=1)
    max_minutes: float | None = Field(None, gt=0.0)
    max_cpu_minutes: float | None = Field(None, gt=0.0)

    @property
    def judging_size(self) -> int:
        """Frames per batch where nothing is learned."""
        return self.valid_batch_size or self.batch_size

    @model_validator(mode="after")
    def _has_a_budget(self) -> OptimizerSection:
        if self.max_epochs is None and self.max_minutes is None and self.max_cpu_minutes is None:
            raise ValueError(
                "the run has no end; give max_epochs, max_minutes or max_cpu_minutes (the first one reached ends it)"
            )
        return self


class TrainerSection(Section):
    """Where and how the run is carried out."""

    device: str = "auto"
    n_devices: int = Field(1, ge=1)
    precision: Precision = "float32"
    seed: int = Field(0, ge=0)
    early_stop: int | None = Field(None, ge=1)
    compile: bool = False
    checkpoint_every: int = Field(1, ge=1)
    validate_every: int = Field(1, ge=1)

    @field_validator("device")
    @classmethod
    def _device_is_known(cls, value: str) -> str:
        if value not in ("auto", "cpu", "cuda"):
            raise ValueError("give auto, cpu or cuda")
        return value


class CardSection(Section):
    """What only the author knows and the card of the potential should say."""

    title: str | None = None
    level_of_theory: str | None = None
    data: str | None = None
    not_for: str | None = None
    licence: str | None = None


class TrainingRecipe(Section):
    """What every recipe holds; a kind of recipe adds what is trained, the data and the loss."""

    optimizer: OptimizerSection
    trainer: TrainerSection = TrainerSection()
    card: CardSection = CardSection()
    output: str | None = None

    _origin: Path = PrivateAttr(default=Path("recipe"))
    _raw: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _validates_within_the_budget(self) -> TrainingRecipe:
        every, epochs = self.trainer.validate_every, self.optimizer.max_epochs
        if epochs is not None and every > epochs:
            raise ValueError(
                f"trainer.validate_every is {every}, but the run ends after optimizer.max_epochs = {epochs}; "
                "lower validate_every, so that a best epoch can be chosen"
            )
        return self

    @property
    def origin(self) -> Path:
        """The file the recipe was read from."""
        return self._origin

    @property
    def raw(self) -> dict[str, Any]:
        """The recipe as written, with overrides applied and before defaults."""
        return self._raw

    def resolve(self, path: str) -> Path:
        """Absolute path of a file named in the recipe.

        Args:
            path: As written; relative to the folder of the recipe, `~` and environment variables allowed.

        Raises:
            RecipeError: An environment variable in the path is not set.
        """
        return (self._origin.parent / self.expanded(path)).resolve()

    def expanded(self, path: str) -> str:
        """A path as written, with `~` and environment variables replaced.

        Raises:
            RecipeError: An environment variable in the path is not set, or it holds a NUL character.
        """
        if "\0" in path:
            raise RecipeError(f"{self._origin}: the path {path!r} holds a NUL character; correct it")
        try:
            expanded = os.path.expandvars(str(Path(path).expanduser()))
        except RuntimeError as error:  # ~name of nobody
            raise RecipeError(f"{self._origin}: the path {path!r} names no home folder ({error}); write it out") from error
        if "$" in expanded:
            raise RecipeError(
                f"{self._origin}: the path {path!r} holds an environment variable that is not set; "
                "set it, or write the path out"
            )
        return expanded


R = TypeVar("R", bound=TrainingRecipe)


def parse_as(kind: type[R], data: dict[str, Any], origin: Path | str) -> R:
    """Check a recipe of one kind, given as a dict.

    Args:
        kind: The class of the recipe.
        data: The recipe as read from YAML.
        origin: The file it belongs to, for messages and relative paths.

    Raises:
        RecipeError: Unknown keys (with the nearest valid one), wrong types, values out of range.
    """
    try:
        recipe = kind.model_validate(data)
    except ValidationError as error:
        raise RecipeError(describe_validation_error(error, kind, data, str(origin))) from None
    recipe._origin = Path(origin).absolute()
    recipe._raw = copy_plain(data)
    return recipe


def read_recipe_file(path: Path | str, overrides: list[str] | tuple[str, ...] = ()) -> dict[str, Any]:
    """What a recipe file holds, with overrides applied, before it is checked.

    Args:
        path: YAML file.
        overrides: `section.key=value` strings that replace what the file says.

    Raises:
        RecipeError: The file is missing or is not YAML, or an override leads nowhere.
    """
    try:
        text = read_text(path, RecipeError)
    except RecipeError as error:
        raise RecipeError(
            f"{path}: cannot read the recipe: {error}; `mlff train --example --output recipe.yaml` writes one"
        ) from error
    return apply_overrides(read_yaml(text, str(path)), overrides)
