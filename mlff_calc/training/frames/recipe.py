"""Recipes of kinds that learn from frames of structures: files, keys, units, split and weights of frames.

Paths of data files are relative to the folder of the recipe and may hold environment variables
(`${MLFF_DATA}/rmd17/ethanol.npz`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator, model_validator

from mlff_calc import datasets
from mlff_calc.datasets.splits import compositions, split_indices
from mlff_calc.datasets.weights import LARGEST
from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.training.recipe_base import TrainingRecipe
from mlff_calc.training.recipe_errors import describe_validation_error
from mlff_calc.training.recipe_section import Section


class LabelKeys(Section):
    """Names under which a file holds its labels (`atoms.info` or `atoms.arrays`, or ASE's own results)."""

    energy: str | None = None
    """Name of the total energy."""
    forces: str | None = None
    """Name of the forces."""
    stress: str | None = None
    """Name of a stress, tensile positive: 3 x 3, 9 numbers, or 6 numbers xx yy zz yz xz xy."""
    virial: str | None = None
    """Name of a virial (stress times minus the volume), 3 x 3, 9 or 6 numbers."""
    virial_sign: Literal[1, -1] = 1
    """Sign of the virial: 1 if it is positive in compression, -1 for the opposite sign."""
    vasp_stress: str | None = None
    """Name of a stress as VASP prints it: kbar, positive in compression, 6 numbers xx yy zz xy yz zx."""
    config_type: str = "config_type"
    """Name of the kind of configuration, by which errors are listed and frames weighted."""
    forces_sign: Literal[1, -1] = 1
    """Sign of the forces: -1 if the file holds the gradient of the energy."""
    stress_order: str | None = None
    """Order of the six components if it differs in the file, such as `xx yy zz xy xz yz`."""

    @model_validator(mode="after")
    def _reader_takes_them(self) -> LabelKeys:
        self.for_reader()
        return self

    def for_reader(self) -> datasets.LabelKeys:
        """Return the keys in the form that readers take."""
        return datasets.LabelKeys(**self.model_dump())


class Units(Section):
    """Units in which a file holds its labels and positions; `forces` and `stress` if they do not follow from the others."""

    energy: str = "eV"
    """Unit of energies and virials."""
    length: str = "Angstrom"
    """Unit of positions and cells."""
    forces: str | None = None
    """Unit of forces, such as Hartree/Bohr; null for energy over length."""
    stress: str | None = None
    """Unit of stress, such as GPa; null for energy over cubed length."""

    @model_validator(mode="after")
    def _reader_takes_them(self) -> Units:
        self.for_reader()
        return self

    def for_reader(self) -> datasets.Units:
        """Return the units in the form that readers take."""
        return datasets.Units(**self.model_dump())


def _or_list_of(schema: dict[str, Any]) -> None:
    """Extend the schema of a field to accept one entry, a path in place of a source, or a list of these."""
    of_one = schema.pop("type", None) == "string"
    items = schema.pop("items", None) or next((one["items"] for one in schema.pop("anyOf", []) if "items" in one), None)
    one = [{"type": "string"}] if of_one else [{"type": "string"}, items]
    null = [{"type": "null"}] if "default" in schema else []
    schema["anyOf"] = [*one, {"type": "array", "items": {"anyOf": one}, "minItems": 1}, *null]


class Source(Section):
    """A data file, or the files that a pattern matches, and how to read them; missing keys are taken from `data`."""

    file: str = Field(json_schema_extra=_or_list_of)
    """Path relative to the recipe, or a list; environment variables and patterns (`surfaces/*.extxyz`) are allowed."""
    index: str = ":"
    """Frames to read, as in ASE: `:100`, `::10`, `-1`."""
    part: str | None = None
    """Part of an rMD17 archive: train or test."""
    format: str | None = None
    """Format by ASE's name, npz or rmd17; null to decide by the name of the file."""
    keys: LabelKeys | None = None
    """Names of the labels in this file; null for those of `data`."""
    units: Units | None = None
    """Units of this file; null for those of `data`."""

    def reading(self) -> dict[str, Any]:
        """Return the arguments of `datasets.read_structures` besides the path."""
        return {
            "index": self.index,
            "keys": None if self.keys is None else self.keys.for_reader(),
            "format": self.format,
            "part": self.part,
            "units": None if self.units is None else self.units.for_reader(),
        }


def _one_by_one(value: Any) -> Any:  # noqa: ANN401
    """Convert the entry for a part of the data (a path, a source, or a list of these) to a list of sources.

    A source with a list under `file` becomes one source for each file.
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
    """Random division of the frames of `train`, by counts (integers) or fractions (0 to 1)."""

    by: Literal["frame", "composition"] = "frame"
    """What is drawn: single frames, or compositions with all their frames, so that no part has a molecule of another one."""
    train: int | float | None = None
    """Number or share of training frames (or compositions); null for the rest."""
    valid: int | float | None = None
    """Number or share of validation frames (or compositions)."""
    test: int | float | None = None
    """Number or share of test frames (or compositions)."""
    seed: int = Field(0, ge=0)
    """Seed of the draw."""

    def drawn(self, structures: Sequence[Any], what: str) -> dict[str, NDArray[np.int64]]:
        """Return the indices of frames by part; parts without frames are left out.

        Args:
            structures: Frames, with ASE's atoms as `atoms`.
            what: Beginning of an error: recipe, key and file.

        Raises:
            RecipeError: See `split_indices`.
        """
        groups = compositions(one.atoms for one in structures) if self.by == "composition" else np.arange(len(structures))
        n, of = int(groups.max(initial=-1)) + 1, "frames" if self.by == "frame" else "compositions"
        try:
            found = split_indices(n, self.train, self.valid, self.test, self.seed, of)
        except DatasetError as error:
            raise RecipeError(f"{what}: {error}") from error
        if self.by == "composition":
            found = {part: np.flatnonzero(np.isin(groups, drawn)) for part, drawn in found.items()}
        return {part: indices for part, indices in found.items() if len(indices)}

    @field_validator("train", "valid", "test")
    @classmethod
    def _count_or_fraction(cls, value: float | None) -> float | None:
        if value is None:
            return value
        if isinstance(value, bool) or value < 0 or (isinstance(value, float) and value > 1.0):
            raise ValueError("give a whole number of frames, or a fraction between 0.0 and 1.0")
        return value


def refuse_two_origins(data: Any) -> None:  # noqa: ANN401
    """Check that the frames of `valid` and `test` come from files or from `split`, and that there are validation frames.

    Args:
        data: Section with `valid`, `test` and `split`.

    Raises:
        ValueError: They come from both, or there are no validation frames.
    """
    for part in ("valid", "test"):
        given = getattr(data, part) is not None
        split = data.split is not None and getattr(data.split, part) not in (None, 0)
        if given and split:
            raise ValueError(f"both `{part}` and `split.{part}` are given; keep one of them")
        if part == "valid" and not given and not split:
            raise ValueError("no validation frames; add `valid: {file: ...}`, or `split: {valid: 0.1}`")


class DataSection(Section):
    """Training, validation and test frames, from separate files or by splitting those of `train`."""

    train: list[Source] = Field(json_schema_extra=_or_list_of)
    """Training files, as a path, a source, or a list of these."""
    valid: list[Source] | None = Field(None, json_schema_extra=_or_list_of)
    """Validation files, instead of `split.valid`."""
    test: list[Source] | None = Field(None, json_schema_extra=_or_list_of)
    """Test files, instead of `split.test`."""
    split: Split | None = None
    """Division of the frames of `train`."""
    format: str | None = None
    """Format of all files without their own."""
    keys: LabelKeys | None = None
    """Names of the labels in all files without their own."""
    units: Units | None = None
    """Units of all files without their own."""
    keep_isolated_atoms: bool = False
    """Switch for training on frames of isolated atoms like on all others."""

    @field_validator("train", "valid", "test", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:  # noqa: ANN401
        return None if value is None else _one_by_one(value)

    @model_validator(mode="after")
    def _validation_frames_come_from_one_place(self) -> DataSection:
        refuse_two_origins(self)
        return self

    def sources(self, part: str) -> list[Source]:
        """Return the files of `train`, `valid` or `test` with the defaults of the section filled in; may be empty."""
        filled = []
        for source in getattr(self, part) or []:
            fill = {name: getattr(self, name) for name in ("format", "keys", "units") if getattr(source, name) is None}
            filled.append(source.model_copy(update=fill))
        return filled


class FrameLoss(Section):
    """Weights of frames in a loss; a kind adds the weights of its terms."""

    config_weights: dict[str, float] = Field(default_factory=dict)
    """Weights of frames by config type; 1 for all others."""
    frame_weights: bool = True
    """Switch for using weights in the frames (`config_weight`, `config_energy_weight`, ...)."""

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

    def weights(self) -> dict[str, float]:
        """Return the weights above 0 of the labels that the loss reads: of energy, forces and stress."""
        raise NotImplementedError


class FramesRecipe(TrainingRecipe):
    """Base of recipes whose data are frames."""

    data: DataSection
    """Training, validation and test frames."""
    loss: FrameLoss
    """Weights and form of the loss."""

    def listed_elements(self) -> list[str]:
        """Return the chemical symbols that the recipe lists besides those of the training frames."""
        return []


def parse_sources(data: dict[str, Any], origin: str) -> list[Source]:
    """Check how data files are to be read, given in the form of the section `train` of a recipe.

    Args:
        data: `file`, a path or pattern or a list of them, and optionally `index`, `part`, `format`, `keys`, `units`.
        origin: Origin of the request, for messages.

    Raises:
        RecipeError: There are unknown keys (with the nearest valid one) or wrong values.
    """
    try:
        return [Source.model_validate(one) for one in _one_by_one(data)]
    except ValidationError as error:
        raise RecipeError(describe_validation_error(error, Source, data, origin)) from None
    except ValueError as error:
        raise RecipeError(f"{origin}: {error}") from None
