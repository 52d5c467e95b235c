"""A potential with heads of errors that was not distilled: its threshold, from labelled frames that it has not learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlff_calc.datasets.sample import Sample
from mlff_calc.distillation.calibration import Calibration, calibrate, threshold_in_words
from mlff_calc.distillation.students import Students
from mlff_calc.errors import DatasetError, OptionError
from mlff_calc.graph.domain import SPREAD
from mlff_calc.networks.catalogue import find_network
from mlff_calc.networks.files import read_header
from mlff_calc.potential import Potential, load_potential
from mlff_calc.potential.evaluate import check_elements
from mlff_calc.sampling.systems import Systems

ENOUGH = 40
"""Smallest number of frames. Raising it asks for more labels, and gives a surer threshold."""
HEADING = "## Threshold of the spread"
"""Heading of the section in the card."""


@dataclass(frozen=True)
class Threshold:
    """What was measured.

    Attributes:
        spread: Spread of a force (eV/Angstrom) above which the potential warns.
        calibration: The bound of errors as a function of the spread.
        outside: Share of the frames above the threshold.
        covered: Share of the frames whose worst force is within its bound.
    """

    spread: float
    calibration: Calibration
    outside: float
    covered: float


def measured_threshold(potential: Potential, samples: Sequence[Sample], tolerance: float) -> Threshold:
    """Measure the spread at which the worst force of 90 of 100 frames is wrong by no more than a tolerance.

    Args:
        potential: Potential with heads of errors.
        samples: Frames with forces that it has not learned.
        tolerance: Accepted error of the worst force of a frame, eV/Angstrom.

    Raises:
        OptionError: The potential has no heads of errors, or the tolerance is not positive.
        DatasetError: There are too few frames with forces.
        UnknownElementError: An element that the potential does not know.
    """
    if not 0.0 < tolerance < np.inf:
        raise OptionError(f"the tolerance is {tolerance:g} eV/Angstrom; give a positive number")
    if not potential.error_heads:
        raise OptionError("the potential has no heads of errors; train it with the section potential.uncertainty")
    labelled = [sample for sample in samples if sample.forces is not None]
    if len(labelled) < ENOUGH:
        raise DatasetError(f"{len(labelled)} of {len(samples)} frames have forces; a threshold needs at least {ENOUGH}")
    systems, positions = Systems.of([sample.atoms for sample in labelled])
    check_elements(systems.numbers, potential, "the frames")
    found = Students([potential]).judge(systems, positions)
    away = found.forces - np.concatenate([sample.forces for sample in labelled])
    errors = systems.maxima(np.linalg.norm(away, axis=1))
    spreads = systems.maxima(found.spreads)
    calibration = calibrate(spreads, errors)
    spread = calibration.threshold(tolerance)
    return Threshold(
        spread, calibration, float((spreads > spread).mean()), float((errors <= calibration.bound(spreads)).mean())
    )


def calibrated_copy(
    name: str | Path, samples: Sequence[Sample], tolerance: float, output: Path, *, overwrite: bool = False
) -> Threshold:
    """Write a copy of a potential that knows its threshold, with a section in its card.

    Args:
        name: Name or folder of the potential.
        samples: See `measured_threshold`.
        tolerance: See `measured_threshold`.
        output: Folder to write.
        overwrite: Whether to replace it.

    Raises:
        PotentialFileError: No such potential, or the folder is there.
        OptionError, DatasetError: See `measured_threshold`; or the potential has no domain.
    """
    folder, potential = find_network(name), load_potential(name)
    if potential.domain is None:
        raise OptionError(f"{name} does not say what it was trained on, where a threshold would stand; train it again")
    found = measured_threshold(potential, samples, tolerance)
    potential.domain = {**potential.domain, SPREAD: found.spread}
    texts = {
        option: (folder / file).read_text(encoding="utf-8") if (folder / file).is_file() else ""
        for option, file in (("card", "card.md"), ("recipe", "recipe.yaml"))
    }
    words = threshold_in_words(found.spread, tolerance, found.calibration.n_frames)
    texts["card"] = texts["card"].partition(HEADING)[0].rstrip("\n") + f"\n\n{HEADING}\n\n{words}\n"
    provenance = {**read_header(folder).get("provenance", {}), "calibration": found.calibration.plain()}
    potential.save(output, **texts, provenance=provenance, overwrite=overwrite)
    return found
