"""Writing predictions and labels frame by frame, as extended xyz or JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np

from mlff_calc.datasets import Sample
from mlff_calc.training.potential.report import Prediction
from mlff_calc.whole_files import write_whole

SUFFIXES = (".extxyz", ".xyz", ".json")


def write_predictions(path: Path, samples: Sequence[Sample], predictions: Sequence[Prediction]) -> None:
    """Write labels (`REF_energy`, ...) and predictions (`mlff_energy`, ...) of every frame atomically.

    Args:
        path: File with a suffix of `SUFFIXES`; an older one is replaced.
        samples: Structures and labels.
        predictions: Predictions for each sample.

    Raises:
        OSError: The file cannot be written.
    """
    content = io.StringIO()
    if path.suffix.lower() == ".json":
        json.dump([_record(*pair) for pair in zip(samples, predictions, strict=True)], content, indent=1)
        content.write("\n")
    else:
        for sample, predicted in zip(samples, predictions, strict=True):
            atoms = sample.atoms.copy()
            for name, value in _values(sample, predicted).items():
                if value.ndim == 2 and not name.endswith("stress"):
                    atoms.set_array(name, value)
                else:
                    atoms.info[name] = float(value) if value.ndim == 0 else value
            atoms.info |= _origin(sample)
            ase.io.write(content, atoms, format="extxyz")
    write_whole(path, content.getvalue())


def _values(sample: Sample, predicted: Prediction) -> dict[str, np.ndarray]:
    labels = {f"REF_{name}": np.asarray(value) for name, value in sample.labels().items()}
    given = {name: value for name, value in predicted.items() if name != "stress" or sample.atoms.cell.rank == 3}
    return labels | {f"mlff_{name}": value for name, value in given.items()}  # without a volume there is no stress


def _origin(sample: Sample) -> dict[str, str | int]:
    found: dict[str, str | int] = {"file": sample.path.name, "frame": sample.frame}
    return found | ({"config_type": sample.config_type} if sample.config_type else {})


def _record(sample: Sample, predicted: Prediction) -> dict[str, object]:
    numbers = {"atomic_numbers": sample.atoms.numbers.tolist()}
    return _origin(sample) | numbers | {name: value.tolist() for name, value in _values(sample, predicted).items()}
