"""The recipe of a training run: one YAML file, checked as a whole before anything runs or is written.

Every section refuses keys it does not know and names the nearest one it does. Paths of data files are relative to the
folder of the recipe and may hold environment variables (`${MLFF_DATA}/rmd17/ethanol.npz`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from mlff_calc import datasets
from mlff_calc.datasets.weights import LARGEST
from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.networks.files import WEIGHTS, folder_of
from mlff_calc.potential import list_potentials
from mlff_calc.training.potential.section import PotentialSection
from mlff_calc.training.recipe_base import TrainingRecipe
from mlff_calc.training.recipe_errors import describe_validation_error
from mlff_calc.training.recipe_section import Section

Form = Literal["l2", "huber", "mse"]


def _as_value_error(check: Callable[[], object]) -> None:
    """Run a check of another room so that pydantic reports its finding with the key."""
    try:
        check()
    except DatasetError as error:
        raise ValueError(str(error)) from error


class LabelKeys(Section):
    """Names under which a file holds its labels (`atoms.info` or `atoms.arrays`, or ASE's own results)."""

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None
    virial_sign: Literal[1, -1] = 1
    vasp_stress: str | None = None
    config_type: str = "config_type"
    forces_sign: Literal[1, -1] = 1
    stress_order: str | None = None

    @model_validator(mode="after")
    def _reader_takes_them(self) -> LabelKeys:
        _as_value_error(self.for_reader)
        return self

    def for_reader(self) -> datasets.LabelKeys:
        """The keys as the readers take them."""
        return datasets.LabelKeys(**self.model_dump())


class Units(Section):
    """Units in which a file holds its labels and positions; `forces` and `stress` where they follow from no others."""

    energy: str = "eV"
    length: str = "Angstrom"
    forces: str | None = None
    stress: str | None = None

    @model_validator(mode="after")
    def _reader_takes_them(self) -> Units:
        _as_value_error(self.for_reader)
        return self

    def for_reader(self) -> datasets.Units:
        """The units as the readers take them."""
        return datasets.Units(**self.model_dump())


class Source(Section):
    """A data file, or those that a pattern matches, and how to read them; what is left out the `data` section says."""

    file: str
    index: str = ":"
    part: str | None = None
    format: str | None = None
    keys: LabelKeys | None = None
    units: Units | None = None


def _one_by_one(value: Any) -> Any:  # noqa: ANN401
    """What stands for a part of the data as a list of sources: a path, a source, or a list of these.

    A source with a list under `file` is one for each.
    """
    entries = value if isinstance(value, list) else [value]
    found: list[Any] = []
    for entry in entries:
        entry = {"file": entry} if isinstance(entry, str) else entry
        files = entry.get("file") if isinstance(entry, dict) else None
        if not isinstance(files, list):
            found.append(entry)
            continue
        if not files:
            raise ValueError("there is no file in the list under `file`; name at least one")
        found += [entry | {"file": file} for file in files]
    if not found:
        raise ValueError("there is no file in the list; name at least one")
    return found


class Split(Section):
    """How the frames of the `train` file are divided: a count (integer) or a fraction (0 to 1), drawn with a seed."""

    train: int | float | None = None
    valid: int | float | None = None
    test: int | float | None = None
    seed: int = Field(0, ge=0)

    @field_validator("train", "valid", "test")
    @classmethod
    def _count_or_fraction(cls, value: float | None) -> float | None:
        if value is None:
            return value
        if isinstance(value, bool) or value < 0 or (isinstance(value, float) and value > 1.0):
            raise ValueError("give a whole number of frames, or a fraction between 0.0 and 1.0")
        return value


class DataSection(Section):
    """Training, validation and test frames, from files of their own or from those of `train`, which are then split."""

    train: list[Source]
    valid: list[Source] | None = None
    test: list[Source] | None = None
    split: Split | None = None
    format: str | None = None
    keys: LabelKeys | None = None
    units: Units | None = None
    keep_isolated_atoms: bool = False

    @field_validator("train", "valid", "test", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:  # noqa: ANN401
        return None if value is None else _one_by_one(value)

    @model_validator(mode="after")
    def _validation_frames_come_from_one_place(self) -> DataSection:
        for part in ("valid", "test"):
            given = getattr(self, part) is not None
            split = self.split is not None and getattr(self.split, part) not in (None, 0)
            if given and split:
                raise ValueError(f"both `{part}` and `split.{part}` are given; keep one of them")
            if part == "valid" and not given and not split:
                raise ValueError("no validation frames; add `valid: {file: ...}`, or `split: {valid: 0.1}`")
        return self

    def sources(self, part: str) -> list[Source]:
        """The files of `train`, `valid` or `test` with the defaults of the section filled in; none where it names none."""
        filled = []
        for source in getattr(self, part) or []:
            fill = {name: getattr(self, name) for name in ("format", "keys", "units") if getattr(source, name) is None}
            filled.append(source.model_copy(update=fill))
        return filled


class LossSection(Section):
    """Weights and form of the loss; energies count per atom (eV), forces in eV/Angstrom, stress in eV/Angstrom^3."""

    energy: float = Field(1.0, ge=0.0)
    forces: float = Field(1.0, ge=0.0)
    stress: float = Field(0.0, ge=0.0)
    form: Form = "l2"
    huber_delta: float = Field(0.01, gt=0.0)
    contraction: float = Field(0.0, ge=0.0)
    contraction_every: int = Field(4, ge=1)
    spectral_radius: float = Field(0.7, gt=0.0)
    correction: float = Field(0.0, ge=0.0)
    correction_states: int = Field(1, ge=1, le=2)
    config_weights: dict[str, float] = Field(default_factory=dict)
    frame_weights: bool = True

    @field_validator("config_weights", mode="before")
    @classmethod
    def _weights_are_numbers(cls, value: Any) -> Any:  # noqa: ANN401
        if not isinstance(value, dict):
            raise ValueError("give a weight by config type, such as {surface: 4, Default: 1}")
        for name, weight in value.items():
            number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not number or not 0 <= weight <= LARGEST:
                raise ValueError(f"the weight of {name!r} is {weight!r}; give a number from 0 to {LARGEST:g}")
        return {str(name): weight for name, weight in value.items()}

    @model_validator(mode="after")
    def _something_to_learn(self) -> LossSection:
        if not self.weights():
            raise ValueError("all weights are 0; give energy, forces or stress a weight greater than 0")
        return self

    def weights(self) -> dict[str, float]:
        """Weights of the labels that take part."""
        return {name: getattr(self, name) for name in ("energy", "forces", "stress") if getattr(self, name) > 0.0}


class PotentialRecipe(TrainingRecipe):
    """The recipe of a potential. Build it with `load_recipe` or `parse_recipe`, which know the file it came from."""

    potential: PotentialSection | None = None
    fine_tune_from: str | None = None
    data: DataSection
    reference_energies: Literal["auto", "isolated", "fit"] | dict[str, float] = "auto"
    loss: LossSection = LossSection()

    @model_validator(mode="after")
    def _one_origin_of_the_architecture(self) -> PotentialRecipe:
        if (self.potential is None) == (self.fine_tune_from is None):
            raise ValueError("give exactly one of `potential` (a new architecture) and `fine_tune_from` (name or path)")
        return self

    @model_validator(mode="after")
    def _stress_is_there_to_learn(self) -> PotentialRecipe:
        if self.potential is not None and self.potential.forces == "direct" and self.loss.stress > 0.0:
            raise ValueError(
                f"loss.stress is {self.loss.stress:g}, but potential.forces is direct, which gives no stress; "
                "set loss.stress to 0, or write forces: gradient"
            )
        return self

    @model_validator(mode="after")
    def _contraction_is_of_a_fixed_point(self) -> PotentialRecipe:
        if self.loss.contraction == 0.0 or self.potential is None:
            return self
        from mlff_calc.backbones import is_fixed_point

        backbone = self.potential.backbone
        if not is_fixed_point(backbone.name) or self.potential.forces == "direct":
            raise ValueError(
                f"loss.contraction is {self.loss.contraction:g}, but backbone {backbone.name!r} with forces: "
                f"{self.potential.forces} solves for no adjoint; leave `contraction` out, or take backbone deq with "
                "gradient forces"
            )
        if backbone.config().get("gradient") == "implicit":
            raise ValueError(
                f"loss.contraction is {self.loss.contraction:g}, but gradient: implicit measures no spectral radius in "
                "training; leave `contraction` out, or write gradient: phantom"
            )
        return self

    @model_validator(mode="after")
    def _correction_is_of_a_fixed_point(self) -> PotentialRecipe:
        if self.loss.correction == 0.0:
            return self
        said = f"loss.correction is {self.loss.correction:g}, but "
        if self.trainer.compile:
            raise ValueError(
                f"{said}trainer.compile is true, and compiled solves do not tell the states on their way; "
                "set trainer.compile: false, or leave `correction` out"
            )
        if self.potential is None:
            return self  # the potential that is gone on from says, see training/potential/correction.py
        from mlff_calc.backbones import is_fixed_point

        backbone = self.potential.backbone
        if not is_fixed_point(backbone.name):
            raise ValueError(
                f"{said}backbone {backbone.name!r} solves for nothing; leave `correction` out, or take backbone deq"
            )
        if backbone.config().get("gradient") == "implicit":
            raise ValueError(
                f"{said}gradient: implicit is exact at the solution alone; leave `correction` out, or write "
                "gradient: phantom"
            )
        return self

    def start(self) -> Path | str:
        """The potential that `fine_tune_from` names: a path, or the name of one that ships.

        What lies beside the recipe comes first where it is a potential; any other folder of that name is not meant.

        Raises:
            RecipeError: An environment variable in the path is not set.
        """
        name = str(self.fine_tune_from)
        path = self.resolve(name)
        if (folder_of(path) / WEIGHTS).is_file():
            return path
        if name in [entry.name for entry in list_potentials()]:
            return name
        return path if path.exists() else name


def parse_sources(data: dict[str, Any], origin: str) -> list[Source]:
    """Check how data files are to be read, given as the `train` section of a recipe gives it.

    Args:
        data: `file`, a path or pattern or a list of them, and optionally `index`, `part`, `format`, `keys`, `units`.
        origin: Who asks, for messages.

    Raises:
        RecipeError: Unknown keys (with the nearest valid one), wrong values.
    """
    try:
        return [Source.model_validate(one) for one in _one_by_one(data)]
    except ValidationError as error:
        raise RecipeError(describe_validation_error(error, Source, data, origin)) from None
    except ValueError as error:
        raise RecipeError(f"{origin}: {error}") from None
