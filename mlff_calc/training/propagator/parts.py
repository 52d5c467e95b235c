"""The samples a recipe names, read and checked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlff_calc.datasets import PARTS
from mlff_calc.datasets.motion import MotionSample, motion_files, read_motion_parts
from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.propagator import Propagator
from mlff_calc.training.fingerprints import fingerprint_all
from mlff_calc.training.propagator.recipe import MotionRecipe

MotionParts = dict[str, list[MotionSample]]


@dataclass(frozen=True)
class Inputs:
    """What a propagator takes in.

    Attributes:
        kinds: Kinds of particles.
        n_scalars: Numbers that belong to each particle.
        n_edge_scalars: Numbers that belong to each edge.
    """

    kinds: frozenset[int]
    n_scalars: int
    n_edge_scalars: int

    @classmethod
    def of_samples(cls, samples: Sequence[MotionSample]) -> Inputs:
        """Of training samples; numbers of scalars are those of the first one."""
        kinds = frozenset(int(kind) for sample in samples for kind in set(sample.kinds.tolist()))
        return cls(kinds, *_widths(samples[0]))

    @classmethod
    def of_propagator(cls, propagator: Propagator) -> Inputs:
        """Of a propagator."""
        return cls(frozenset(propagator.kinds), propagator.n_scalars, propagator.n_edge_scalars)

    def check(self, samples: Sequence[MotionSample], who: str) -> None:
        """Refuse samples of another kind of system.

        Args:
            samples: What is to be predicted.
            who: Whose inputs these are, for the message.

        Raises:
            DatasetError: Kinds that are not known, other numbers of scalars; names the sample.
        """
        for sample in samples:
            unknown = sorted(set(sample.kinds.tolist()) - self.kinds)
            if unknown:
                raise DatasetError(
                    f"{sample.place}: kinds of particles {_listed(unknown)}, but {who} {_listed(self.kinds)}; take data of "
                    "the same kinds, or train on these"
                )
            found, known = _widths(sample), (self.n_scalars, self.n_edge_scalars)
            if found != known:
                raise DatasetError(
                    f"{sample.place}: {found[0]} scalars per particle and {found[1]} per edge, but {who} {known[0]} and "
                    f"{known[1]}; take data in the same format, or train on these"
                )


def _widths(sample: MotionSample) -> tuple[int, int]:
    return sample.scalars.shape[1], sample.edge_scalars.shape[1]


def _listed(kinds: Sequence[int] | frozenset[int]) -> str:
    return " ".join(map(str, sorted(kinds)))


def read_parts(recipe: MotionRecipe) -> MotionParts:
    """Read all parts of the data of a recipe.

    Returns:
        `train`, `valid`, and `test` unless `data.limit.test` is 0.

    Raises:
        RecipeError: The file is not there, or velocities are to be learnt that it does not hold.
        DatasetError: The file cannot be read as the recipe says; kinds or scalars of a later part that `train` lacks.
    """
    path = data_path(recipe)
    limits = {part: getattr(recipe.data.limit, part) for part in PARTS}
    wanted: dict[str, int | None] = {part: limit for part, limit in limits.items() if limit != 0}
    parts = read_motion_parts(path, wanted, format=recipe.data.format, **recipe.data.reading())
    known = Inputs.of_samples(parts["train"])
    for part, samples in parts.items():
        known.check(samples, f"the training samples of {path} have")
        if recipe.loss.velocities > 0.0:
            _check_velocities(recipe, part, samples)
    return parts


def _check_velocities(recipe: MotionRecipe, part: str, samples: Sequence[MotionSample]) -> None:
    lacking = [sample for sample in samples if sample.target_velocities is None]
    if lacking:
        raise RecipeError(
            f"{recipe.origin}: loss.velocities is {recipe.loss.velocities:g}, but {len(lacking)} samples of `{part}` have "
            f"no velocities at the later time (the first is {lacking[0].place}); set loss.velocities: 0 and "
            "propagator.predict_velocities: false"
        )


def data_path(recipe: MotionRecipe) -> Path:
    """The data file or folder.

    Raises:
        RecipeError: It is not there.
    """
    path = recipe.resolve(recipe.data.file)
    if not path.exists():
        raise RecipeError(f"{recipe.origin}: data.file: there is no file {path}; check the spelling")
    return path


def data_fingerprint(path: Path, format: str | None = None) -> dict[str, Any]:
    """Name, size in bytes and SHA-256 of the data; of a skeleton and its motions, of all files that are read together.

    Args:
        path: The file or folder.
        format: As in `read_motion`.

    Raises:
        DatasetError: No data that `read_motion` knows.
    """
    return fingerprint_all(motion_files(path, format), path.name)
