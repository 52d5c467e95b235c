"""Sections common to recipes of all kinds: optimizer, trainer, card and output."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from mlff_calc.bounded import read_text
from mlff_calc.datasets import PARTS
from mlff_calc.errors import RecipeError
from mlff_calc.networks.catalogue import list_networks
from mlff_calc.networks.files import WEIGHTS, folder_of
from mlff_calc.training.recipe_errors import describe_validation_error
from mlff_calc.training.recipe_section import Section
from mlff_calc.training.recipe_yaml import apply_overrides, copy_plain, read_yaml

Precision = Literal["float32", "mixed", "float64"]


class OptimizerSection(Section):
    """Optimizer, schedule, averaging and the budget of the run."""

    name: Literal["adamw", "adam"] = "adamw"
    """Optimizer: AdamW or Adam."""
    learning_rate: float = Field(2e-3, gt=0.0, le=1.0)
    """Largest learning rate, reached at the end of the warm-up."""
    weight_decay: float = Field(0.0, ge=0.0)
    """Weight decay of the matrices of linear maps; biases, norms and embeddings do not decay."""
    beta2: float = Field(0.999, gt=0.0, lt=1.0)
    """Decay rate of Adam's running mean square of gradients."""
    warmup_steps: int = Field(100, ge=0)
    """Number of steps in which the learning rate rises from 0."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up: falling to `floor` with a cosine, or constant."""
    floor: float = Field(0.01, ge=0.0, le=1.0)
    """Learning rate at the end of the budget, as a share of the largest one."""
    gradient_clip: float | None = Field(10.0, gt=0.0)
    """Largest norm of the gradient; a larger gradient is scaled down. null turns it off."""
    ema_decay: float | None = Field(0.999, gt=0.0, lt=1.0)
    """Decay rate of the running average of weights, which is validated and kept. null turns averaging off."""
    batch_size: int = Field(8, ge=1)
    """Number of frames in a training batch, per device."""
    valid_batch_size: int | None = Field(None, ge=1)
    """Number of frames in a batch in validation and tests; null for `batch_size`."""
    max_epochs: int | None = Field(None, ge=1)
    """Budget in passes over the training frames. At least one budget is needed; the first one used up ends the run."""
    max_minutes: float | None = Field(None, gt=0.0)
    """Budget in time by the clock [min]."""
    max_cpu_minutes: float | None = Field(None, gt=0.0)
    """Budget in processor time of all threads, which a busy machine does not shorten [min]."""

    @property
    def judging_size(self) -> int:
        """Number of frames per batch in validation and tests."""
        return self.valid_batch_size or self.batch_size

    @model_validator(mode="after")
    def _has_a_budget(self) -> OptimizerSection:
        if self.max_epochs is None and self.max_minutes is None and self.max_cpu_minutes is None:
            raise ValueError(
                "the run has no budget; give max_epochs, max_minutes or max_cpu_minutes (the first one reached ends it)"
            )
        return self


class TrainerSection(Section):
    """Device, precision, seed and schedule of checks."""

    device: str = "auto"
    """Device: auto (a GPU where there is one), cpu or cuda."""
    n_devices: int = Field(1, ge=1)
    """Number of devices that train together, each with its own batches."""
    precision: Precision = "float32"
    """Arithmetic of the network in training."""
    seed: int = Field(0, ge=0)
    """Seed of initial weights, order of frames and all other random numbers."""
    early_stop: int | None = Field(None, ge=1)
    """Number of validations without improvement after which the run ends; null for never."""
    compile: bool = False
    """Switch for compiled training: minutes to start, then several times faster."""
    checkpoint_every: int = Field(1, ge=1)
    """Number of epochs between checkpoints."""
    validate_every: int = Field(1, ge=1)
    """Number of epochs between validations."""

    @field_validator("device")
    @classmethod
    def _device_is_known(cls, value: str) -> str:
        if value not in ("auto", "cpu", "cuda"):
            raise ValueError("give auto, cpu or cuda")
        return value


class CardSection(Section):
    """Texts by the author for the card."""

    title: str | None = None
    """Title of the card."""
    level_of_theory: str | None = None
    """Method of the reference values, such as PBE/def2-SVP."""
    data: str | None = None
    """Origin of the data, in words."""
    not_for: str | None = None
    """Uses that the author warns against."""
    licence: str | None = None
    """Licence of weights and data."""


class TrainingRecipe(Section):
    """Base of all recipes; each kind adds what is trained, the data and the loss."""

    optimizer: OptimizerSection
    """Optimizer, schedule, averaging and the budget of the run."""
    trainer: TrainerSection = TrainerSection()
    """Device, precision and seed."""
    card: CardSection = CardSection()
    """Texts by the author for the card."""
    output: str | None = None
    """Folder of the run, relative to the recipe; `mlff train --output` replaces it."""

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

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Translate a recipe of earlier versions to today's keys.

        Raises:
            ValueError: Old and new keys contradict each other.
        """
        return data

    def with_paths(self, change: Callable[[str], str]) -> dict[str, Any]:
        """Return a copy of `raw` with other paths; a kind with paths outside `data.file` and the parts extends this.

        Args:
            change: Function from an old path to a new one.
        """
        raw = copy_plain(self._raw)
        data = raw.get("data")
        if isinstance(data, dict):
            for key in ("file", *PARTS):  # one file with all parts, or files for each
                if data.get(key) is not None:
                    data[key] = _changed(data[key], change)
        return raw

    @property
    def origin(self) -> Path:
        """File that the recipe was read from."""
        return self._origin

    @property
    def raw(self) -> dict[str, Any]:
        """Recipe as written, with overrides but without defaults."""
        return self._raw

    def resolve(self, path: str) -> Path:
        """Return the absolute path of a file named in the recipe.

        Args:
            path: Path as written, relative to the folder of the recipe; `~` and environment variables are allowed.

        Raises:
            RecipeError: An environment variable in the path is not set.
        """
        return (self._origin.parent / self.expanded(path)).resolve()

    def data_file(self, *, folder: bool = False) -> Path:
        """Return the absolute path of the data, where recipes of the kind name one file.

        Args:
            folder: Whether it may be a folder.

        Raises:
            RecipeError: It does not exist.
        """
        path = self.resolve(self.data.file)  # type: ignore[attr-defined]
        if not (path.is_file() or (folder and path.is_dir())):
            raise RecipeError(f"{self.origin}: data.file: there is no file {path}; check the spelling")
        return path

    def network_named(self, name: str, kind: str | None) -> Path | str:
        """Return the network that a key of the recipe names: a path, or the name of a shipped one.

        A network beside the recipe comes first; other folders of that name are ignored.

        Args:
            name: Value of the key.
            kind: Kind of the network; None for any.

        Raises:
            RecipeError: An environment variable in the path is not set.
        """
        path = self.resolve(name)
        if (folder_of(path) / WEIGHTS).is_file():
            return path
        if name in [entry.name for entry in list_networks() if kind in (None, entry.kind)]:
            return name
        return path if path.exists() else name

    def with_network(self, name: str, kind: str | None, change: Callable[[str], str]) -> str:
        """Return the changed path of such a network; names of shipped ones stay. Arguments are those of the two above."""
        is_path = Path(name).expanduser().is_absolute() or isinstance(self.network_named(name, kind), Path)
        return change(name) if is_path else name

    def expanded(self, path: str) -> str:
        """Replace `~` and environment variables in a path.

        Raises:
            RecipeError: An environment variable in the path is not set, or the path holds a NUL character.
        """
        if "\0" in path:
            raise RecipeError(f"{self._origin}: the path {path!r} holds a NUL character; correct it")
        try:
            expanded = os.path.expandvars(str(Path(path).expanduser()))
        except RuntimeError as error:  # unknown user in ~name
            raise RecipeError(f"{self._origin}: the path {path!r} names no home folder ({error}); write it out") from error
        if "$" in expanded:
            raise RecipeError(
                f"{self._origin}: the path {path!r} holds an environment variable that is not set; "
                "set it, or write the path out"
            )
        return expanded


def _changed(source: Any, change: Callable[[str], str]) -> Any:  # noqa: ANN401
    """Change the paths in a part of the data (a path, a source, or a list of these)."""
    if isinstance(source, str):
        return change(source)
    if isinstance(source, list):
        return [_changed(one, change) for one in source]
    return source | {"file": _changed(source["file"], change)} if "file" in source else source


R = TypeVar("R", bound=TrainingRecipe)


def parse_as(kind: type[R], data: dict[str, Any], origin: Path | str) -> R:
    """Check a recipe of one kind, given as a dict.

    Args:
        kind: Class of the recipe.
        data: Recipe as read from YAML.
        origin: File of the recipe, for messages and relative paths.

    Raises:
        RecipeError: There are unknown keys, wrong types or values out of range.
    """
    written = data
    try:
        data = kind.upgraded(data)
    except ValueError as error:
        raise RecipeError(f"{origin}: {error}") from None
    try:
        recipe = kind.model_validate(data)
    except ValidationError as error:
        raise RecipeError(describe_validation_error(error, kind, data, str(origin), written)) from None
    recipe._origin = Path(origin).absolute()
    recipe._raw = copy_plain(data)
    return recipe


def read_recipe_file(path: Path | str, overrides: list[str] | tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a recipe file and apply overrides, without checking the recipe.

    Args:
        path: YAML file.
        overrides: `section.key=value` strings that replace values of the file.

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
