"""The folder of a run, and the paths in it.

recipe.yaml           the recipe with overrides applied and absolute paths, so that it can be run from here
run.json              kind, versions, fingerprints of the data files and how they were read, command, whether the run is set
                      up and finished
metrics.csv           one row per epoch
learning_curve.png    plot of the metrics
checkpoints/          last.ckpt (to resume), best.ckpt (averaged weights of the best validation)
KIND/                 the result, in the format of potentials/, named by its kind
evaluation.json       errors on the test part (or the validation part where there is none)
*.png                 further plots of the kind
.lock                 held by the process that runs here; says which one it is
bad_batch.extxyz      only after a loss that is not finite: the frames of that batch (or bad_batch.txt, their names)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlff_calc.bounded import parse_json, read_text, shorten
from mlff_calc.errors import TrainingError
from mlff_calc.whole_files import write_whole


@dataclass(frozen=True)
class RunFolder:
    """Paths inside the folder of a run."""

    path: Path

    @property
    def recipe(self) -> Path:
        """Copy of the recipe."""
        return self.path / "recipe.yaml"

    @property
    def record(self) -> Path:
        """Record of versions, data and state."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """CSV table with one row per epoch."""
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """Folder of `last.ckpt` and `best.ckpt`."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The checkpoint that a resumed run starts from."""
        return self.checkpoints / "last.ckpt"

    @property
    def best(self) -> Path:
        """Averaged weights of the best validation."""
        return self.checkpoints / "best.ckpt"

    @property
    def failure(self) -> Path:
        """Error of a child process, read by the process that started it."""
        return self.path / "failure.txt"

    @property
    def bad_batch(self) -> Path:
        """Frames whose loss was not finite."""
        return self.path / "bad_batch.extxyz"

    @property
    def bad_samples(self) -> Path:
        """Names of samples whose loss was not finite."""
        return self.path / "bad_batch.txt"

    def read_record(self) -> dict[str, Any]:
        """Read `run.json`.

        Raises:
            TrainingError: The file is missing, unreadable, or not the record of a run.
        """
        try:
            record = parse_json(read_text(self.record, TrainingError))
            _check_record(record)
        except (TrainingError, ValueError) as error:
            raise TrainingError(f"{self.record}: cannot be read ({error}); start anew with --overwrite") from error
        return dict(record)

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace `run.json`."""
        write_whole(self.record, json.dumps(record, indent=2) + "\n")


def _check_record(record: Any) -> None:  # noqa: ANN401
    """Check the entries of a record; raises a ValueError that names an invalid one."""
    if not isinstance(record, dict):
        raise ValueError(f"it holds {shorten(record)}")
    for key in ("set_up", "finished"):
        if not isinstance(record.get(key, False), bool):
            raise ValueError(f"its {key} is {shorten(record[key])}")
    data = record.get("data", None if record.get("set_up", True) else {})
    if not isinstance(data, dict) or not all(isinstance(part, dict) for part in data.values()):
        raise ValueError(f"its data are {shorten(data)}")
