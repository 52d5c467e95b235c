"""Reading and checking the samples that a recipe names, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlff_calc.datasets import PARTS
from mlff_calc.datasets.motion import MotionSample, motion_files, read_motion_parts
from mlff_calc.datasets.motion.windows import read_run, split_run, window_samples
from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.propagator import Propagator
from mlff_calc.training.fingerprints import fingerprint_all
from mlff_calc.training.propagator.recipe import MotionRecipe

MotionParts = dict[str, list[MotionSample]]


@dataclass(frozen=True)
class Inputs:
    """Inputs that a propagator takes.

    Attributes:
        kinds: Kinds of particles.
        n_scalars: Number of scalars of each particle.
        n_edge_scalars: Number of scalars of each edge.
    """

    kinds: frozenset[int]
    n_scalars: int
    n_edge_scalars: int

    @classmethod
    def of_samples(cls, samples: Sequence[MotionSample]) -> Inputs:
        """Read the inputs of training samples; the numbers of scalars are those of the first one."""
        kinds = frozenset(int(kind) for sample in samples for kind in set(sample.kinds.tolist()))
        return cls(kinds, *_widths(samples[0]))

    @classmethod
    def of_propagator(cls, propagator: Propagator) -> Inputs:
        """Read the inputs of a propagator."""
        return cls(frozenset(propagator.kinds), propagator.n_scalars, propagator.n_edge_scalars)

    def check(self, samples: Sequence[MotionSample], who: str) -> None:
        """Check that samples have these inputs.

        Args:
            samples: Samples to check.
            who: Owner of the inputs, for the message.

        Raises:
            DatasetError: Kinds are unknown or numbers of scalars differ; the message names the sample.
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
        RecipeError: The file is missing, or lacks velocities that are to be learned.
        DatasetError: The file cannot be read as the recipe says, or a part has kinds or scalars that `train` lacks.
    """
    path = recipe.data_file(folder=True)
    limits = {part: getattr(recipe.data.limit, part) for part in PARTS}
    wanted: dict[str, int | None] = {part: limit for part, limit in limits.items() if limit != 0}
    parts = read_samples(path, wanted, format=recipe.data.format, **recipe.data.reading(recipe.trainer.seed))
    known = Inputs.of_samples(parts["train"])
    for part, samples in parts.items():
        known.check(samples, f"the training samples of {path} have")
        if recipe.loss.velocities > 0.0:
            _check_velocities(recipe, part, samples)
    return parts


def read_samples(
    path: Path,
    limits: Mapping[str, int | None],
    *,
    format: str | None = None,
    n_times: int | None = None,
    irregular: bool = True,
    seed: int = 0,
    **reading: Any,  # noqa: ANN401
) -> MotionParts:
    """Read samples by part: pairs of frames, or several later frames of each first one.

    Args:
        path: File or folder.
        limits: Largest number of pairs, or of first frames, by part; `all` for all parts.
        format: Format as in `read_motion`.
        n_times: Number of later times of each first frame; None for pairs of frames.
        irregular: Whether later times are drawn.
        seed: Seed of the draw.
        reading: Further options of `read_motion`.

    Raises:
        DatasetError: See `read_motion`; or the horizon is missing or does not fit the times.
    """
    if n_times is None:
        asked: dict[str | None, int | None] = {None if part == "all" else part: limit for part, limit in limits.items()}
        found = read_motion_parts(path, asked, format=format, **reading)
        return {part or "all": samples for part, samples in found.items()}
    if format not in (None, "md17") or reading.get("start") is not None:
        raise DatasetError(f"{path}: several times are read from trajectories of molecules; leave format and start out")
    run = read_run(path)
    if reading.get("heavy_atoms", True):
        run = run.of_atoms(np.flatnonzero(run.numbers > 1))
    horizon = reading["horizon"] * run.timestep
    parts = split_run(run, horizon, limits, n_times=n_times, irregular=irregular, seed=seed)
    edges = {key: reading[key] for key in ("hops", "neighbors") if key in reading}
    return {part: window_samples(windows, **edges) for part, windows in parts.items()}


def _check_velocities(recipe: MotionRecipe, part: str, samples: Sequence[MotionSample]) -> None:
    lacking = [sample for sample in samples if sample.target_velocities is None]
    if lacking:
        raise RecipeError(
            f"{recipe.origin}: loss.velocities is {recipe.loss.velocities:g}, but {len(lacking)} samples of `{part}` have "
            f"no velocities at the later time (the first is {lacking[0].place}); set loss.velocities: 0 and "
            "propagator.predict_velocities: false"
        )


def data_fingerprint(path: Path, format: str | None = None) -> dict[str, Any]:
    """Return name, size in bytes and SHA-256 of the data; for a skeleton and its motions, of all files read together.

    Args:
        path: File or folder.
        format: Format as in `read_motion`.

    Raises:
        DatasetError: `read_motion` does not know such data.
    """
    return fingerprint_all(motion_files(path, format), path.name)
