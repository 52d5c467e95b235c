"""Errors of a propagator on samples of motion, compared with those of two guesses that need no network.

| row | positions | velocities |
|---|---|---|
| propagator | as predicted | as predicted |
| constant velocity | x + v t | v |
| last position | x | |

Mean squares are over particles and components, in the units of the data.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlff_calc.datasets.motion import MotionSample
from mlff_calc.device import resolve_device
from mlff_calc.errors import EvaluationError
from mlff_calc.networks import trained_reading
from mlff_calc.propagator import Propagator, load_propagator
from mlff_calc.training.data import Batch
from mlff_calc.training.propagator.data import MotionPairs
from mlff_calc.training.propagator.parts import Inputs, read_samples
from mlff_calc.training.sums import ErrorSums

MODEL, CONSTANT_VELOCITY, LAST_POSITION = "propagator", "constant_velocity", "last_position"
BATCH_SIZE = 100
"""Default number of samples evaluated at once; a larger one takes more memory."""


@dataclass(frozen=True)
class MotionError:
    """Error of one quantity, in the units of the data.

    Attributes:
        mse: Mean square, over particles and components.
        rmse: Square root of `mse`.
    """

    mse: float
    rmse: float


@dataclass(frozen=True)
class MotionReport:
    """Result of `evaluate_propagator`.

    Attributes:
        samples: Number of samples.
        errors: Errors by `propagator`, `constant_velocity`, `last_position`, then by `positions`, `velocities` (where
            the propagator predicts them and the data contain them).
        parameters: Number of trained parameters of the propagator.
        batch_size: Number of samples evaluated at once, at most the number of samples.
        ms_per_batch: Median time of a full batch, in milliseconds.
    """

    samples: int
    errors: dict[str, dict[str, MotionError]]
    parameters: int
    batch_size: int
    ms_per_batch: float

    def as_dict(self) -> dict[str, Any]:
        """Everything, fit for JSON."""
        return asdict(self)

    def rows(self) -> list[tuple[str, ...]]:
        """The table of the card."""
        found = [(row.replace("_", " "), name, error) for row, each in self.errors.items() for name, error in each.items()]
        return [("", "quantity", "MSE", "RMSE"), *((r, name, f"{e.mse:.6g}", f"{e.rmse:.5g}") for r, name, e in found)]

    def as_text(self) -> str:
        """A table of plain text."""
        quantities = list(self.errors[MODEL])
        head = "".join(f" {f'{name} MSE':>16} {'RMSE':>11}" for name in quantities)
        lines = [
            f"{self.samples} samples; {self.parameters} parameters; "
            f"{self.ms_per_batch:.2f} ms per batch of {self.batch_size}",
            f"{'':<20}{head}  units of the data",
        ]
        for row, found in self.errors.items():
            cells = [found.get(name) for name in quantities]
            shown = "".join(f" {'':>28}" if e is None else f" {e.mse:>16.6g} {e.rmse:>11.5g}" for e in cells)
            lines.append(f"{row.replace('_', ' '):<20}{shown}".rstrip())
        return "\n".join(lines)


def evaluate_propagator(
    propagator: Propagator,
    samples: Sequence[MotionSample],
    *,
    batch_size: int = BATCH_SIZE,
    device: str | torch.device = "cpu",
) -> MotionReport:
    """Compare a propagator with samples, and with two guesses that need no network.

    Args:
        propagator: Propagator on `device`; it is put in evaluation mode.
        samples: At least one sample.
        batch_size: Number of samples evaluated at once.
        device: Device of the propagator.

    Raises:
        DatasetError: The propagator does not know the kinds or scalars of a sample; the message names it.
        StructureError: A sample cannot be a graph; the message names it.
        EvaluationError: The propagator gives a value that is not finite; the message names the sample.
    """
    Inputs.of_propagator(propagator).check(samples, "the propagator knows")
    pairs = MotionPairs(samples)
    batch_size = min(batch_size, len(pairs))
    propagator.eval()
    target = torch.device(device)
    sums = {MODEL: ErrorSums(), CONSTANT_VELOCITY: ErrorSums(), LAST_POSITION: ErrorSums()}
    times: list[float] = []
    with torch.no_grad():
        propagator(pairs.batch(list(range(batch_size))).to(target).graph)  # warms up
        for start in range(0, len(pairs), batch_size):
            batch = pairs.batch(list(range(start, min(start + batch_size, len(pairs)))))
            outputs, seconds = _timed(propagator, batch.to(target).graph)
            if not times or len(batch.frames) == batch_size:
                times.append(seconds)
            _refuse_not_finite(outputs, batch, samples)
            for row, guess in ({MODEL: outputs} | _guesses(batch, "velocities" in outputs)).items():
                for name, value in guess.items():
                    sums[row].add_pairs(name, value, batch.labels[name])
    errors = {
        row: {name: MotionError(mse, math.sqrt(mse)) for name, mse in found.mean_squares().items()}
        for row, found in sums.items()
    }
    n_parameters = sum(parameter.numel() for parameter in propagator.parameters())
    return MotionReport(len(samples), errors, n_parameters, batch_size, 1000.0 * statistics.median(times))


def _timed(propagator: Propagator, graph: dict[str, Tensor]) -> tuple[dict[str, Tensor], float]:
    """Return outputs on the CPU and the seconds they took; copying them to the CPU waits for the device."""
    began = time.perf_counter()
    outputs = {name: value.cpu() for name, value in propagator(graph).items()}
    return outputs, time.perf_counter() - began


def _guesses(batch: Batch, velocities: bool) -> dict[str, dict[str, Tensor]]:
    """Return the two guesses for a batch."""
    graph = batch.graph
    times = graph["horizon"].index_select(0, graph["system_index"]).unsqueeze(1)
    moving = {"positions": graph["positions"] + graph["velocities"] * times}
    if velocities:
        moving["velocities"] = graph["velocities"]
    return {CONSTANT_VELOCITY: moving, LAST_POSITION: {"positions": graph["positions"]}}


def _refuse_not_finite(outputs: dict[str, Tensor], batch: Batch, samples: Sequence[MotionSample]) -> None:
    """Refuse outputs that are not finite; an error of NaN would hide all other samples."""
    for name, value in outputs.items():
        bad = (~torch.isfinite(value)).any(dim=1).nonzero().flatten()
        if len(bad):
            sample = samples[batch.frames[int(batch.graph["system_index"][bad[0]])]]
            raise EvaluationError(
                f"{sample.place}: the propagator gives {name} that are not finite; look for particles that are very near or "
                "very fast there, try --precision float64, or leave the sample out"
            )


def evaluate_motion_file(
    folder: str | Path,
    data: str | Path,
    *,
    part: str | None = "test",
    format: str | None = None,
    reading: dict[str, Any] | None = None,
    limit: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    precision: str = "float32",
) -> MotionReport:
    """Evaluate a propagator, given by its folder, on a file of motion.

    Args:
        folder: Folder of the propagator.
        data: File or folder that `read_motion` reads.
        part: `train`, `valid` or `test`; None for all of them.
        format: Format of the file; None to tell by content.
        reading: `horizon`, `start`, `hops`, `heavy_atoms`, `neighbors`, where they should differ from training.
        limit: Number of samples to use, from the first on, or of first frames with several times; None for all.
        batch_size: Number of samples evaluated at once.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        precision: `float32` or `float64`.

    Raises:
        PotentialFileError: The folder holds no propagator.
        DatasetError: The file cannot be read, or is of a kind that the propagator does not know.
        OptionError: The device or precision is not available.
        EvaluationError: The propagator gives a value that is not finite; the message names the sample.
    """
    target = resolve_device(device)
    propagator = load_propagator(folder).to_precision(precision).to(target).eval()
    asked = trained_reading(folder) | {key: value for key, value in (reading or {}).items() if value is not None}
    name = part or "all"
    samples = read_samples(Path(data), {name: limit}, format=format, **asked)[name]
    return evaluate_propagator(propagator, samples, batch_size=batch_size, device=target)
