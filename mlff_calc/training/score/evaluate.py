"""Errors of a score model by noise level: the share of its target that it does not explain.

A share of 1 is that of a score of zero. The share that no model can explain is not 0: noise and forces of one frame are not
those of all frames from which a noisy structure may have come.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlff_calc.datasets import Kind
from mlff_calc.device import resolve_device
from mlff_calc.errors import DatasetError, EvaluationError
from mlff_calc.score import ScoreModel, load_score_model
from mlff_calc.score.graph import SCORE
from mlff_calc.training.data import generator_of
from mlff_calc.training.frames.read import read_sources
from mlff_calc.training.frames.recipe import Source
from mlff_calc.training.score.data import NoisyFrames, Structures
from mlff_calc.training.score.objective import ScoreObjective, noisy

LEVELS = 6
BATCH_SIZE = 64
WEIGHTED: tuple[Kind, ...] = ("forces",)


@dataclass(frozen=True)
class ScoreReport:
    """Result of `evaluate_score`.

    Attributes:
        frames: Number of frames.
        target: Name of the target.
        levels: Noise levels, Angstrom; the first is 0 where the frames have forces, which are the target there.
        unexplained: Unexplained share of the target at each level.
        parameters: Number of trained parameters.
        ms_per_frame: Time of one evaluation per frame, in milliseconds.
    """

    frames: int
    target: str
    levels: list[float]
    unexplained: list[float]
    parameters: int
    ms_per_frame: float

    def as_dict(self) -> dict[str, Any]:
        """Everything, fit for JSON."""
        return asdict(self)

    def rows(self) -> list[tuple[str, ...]]:
        """The table of the card."""
        pairs = zip(self.levels, self.unexplained, strict=True)
        return [("noise [Angstrom]", "unexplained share"), *((f"{s:.4g}", f"{share:.4f}") for s, share in pairs)]

    def as_text(self) -> str:
        """A table of plain text."""
        size = f"{self.parameters} parameters; {self.ms_per_frame:.3f} ms per frame"
        head = f"{self.frames} frames; target {self.target}; {size}"
        return "\n".join([head, *(f"{one:>18}  {other:>18}" for one, other in self.rows())])


def evaluate_score(model: ScoreModel, structures: Structures, *, batch_size: int = BATCH_SIZE) -> ScoreReport:
    """Compare a score model with the targets of frames at several noise levels.

    Args:
        model: Model, on any device; it is put in evaluation mode.
        structures: At least one frame of the model's molecule.
        batch_size: Number of frames evaluated at once.

    Raises:
        DatasetError: The frames are of another molecule, or lack forces that the target needs.
        EvaluationError: The model gives a value that is not finite.
    """
    if tuple(structures.numbers.tolist()) != model.topology.numbers:
        raise DatasetError("the frames hold other atoms than the score model, or another order of them")
    device = model.edges.device
    frames = NoisyFrames(structures, model.topology, model.kT, model.clip)
    objective = ScoreObjective(model.eval())
    bare = int((~np.isfinite(structures.forces).all(axis=(1, 2))).sum())
    if bare and model.target.name != "dsm":
        raise DatasetError(
            f"{bare} of {len(frames)} frames have no forces, and the target {model.target.name} of this model needs them; "
            "name their key, or leave these frames out"
        )
    labelled = not bare
    sigmas = model.schedule.sigmas(torch.linspace(0.0, 1.0, LEVELS))
    levels = [0.0, *sigmas.tolist()] if labelled else sigmas.tolist()
    unexplained, seconds = [], 0.0
    with torch.no_grad():
        for number, sigma in enumerate(levels):
            total, generator = 0.0, generator_of(number, device=device)
            for start in range(0, len(frames), batch_size):
                batch = frames.batch(range(start, min(start + batch_size, len(frames)))).to(device)
                level = torch.full((len(batch.frames),), sigma, dtype=torch.float64, device=device)
                batch.graph.update(noisy(batch.graph, level, generator, model.dimensions))
                began = time.perf_counter()
                outputs = {SCORE: model(batch.graph)[SCORE]}
                total += float(objective.errors_of(outputs, batch).sum())
                seconds += time.perf_counter() - began
            unexplained.append(total / len(frames))
    if not all(map(torch.isfinite, torch.tensor(unexplained))):
        raise EvaluationError("the score model gives values that are not finite; look for atoms at the same place")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    per_frame = 1000.0 * seconds / (len(levels) * len(frames))
    return ScoreReport(len(frames), model.target.name, levels, unexplained, parameters, per_frame)


def evaluate_score_files(
    folder: str | Path,
    sources: Sequence[tuple[Path, Source]],
    *,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    precision: str = "float32",
) -> ScoreReport:
    """Evaluate a score model, given by its folder, on files of frames.

    Raises:
        PotentialFileError: The folder holds no score model.
        DatasetError: A file cannot be read, or holds another molecule.
        OptionError: The device or precision is not available.
    """
    target = resolve_device(device)
    model = load_score_model(folder).to_precision(precision).to(target)
    return evaluate_score(model, Structures.of(read_sources(sources, WEIGHTED)), batch_size=batch_size)
