"""Training of students: files of frames, recipes, and runs that are finished, gone on with or begun anew."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from mlff_calc.distillation.labels import write_frames
from mlff_calc.distillation.recipe import DistillationRecipe
from mlff_calc.distillation.students import Students
from mlff_calc.errors import TrainingError
from mlff_calc.potential import Potential, load_potential
from mlff_calc.sampling.systems import Systems
from mlff_calc.training.metrics import read_metrics
from mlff_calc.training.run import train

VALID = 10
"""One of so many frames chooses the best epoch and is not learned. Raising it learns more frames, and chooses less well."""
CHECKS = 10
"""Number of validations in a training of a round."""
TRIAL = 20
"""Number of steps of a training that is timed."""


def divided(frames: Sequence[Atoms]) -> tuple[list[Atoms], list[Atoms]]:
    """Frames to learn and frames to choose the best epoch by, which are never the same."""
    valid = list(frames[VALID - 1 :: VALID]) or list(frames[-1:])
    if len(frames) < VALID:
        return list(frames[:-1]), valid
    return [frame for k, frame in enumerate(frames) if k % VALID != VALID - 1], valid


def train_student(
    recipe: DistillationRecipe,
    frames: Sequence[Atoms],
    folder: Path,
    seed: int,
    *,
    data_name: str,
    steps: int | None = None,
    minutes: float | None = None,
    test: Sequence[Atoms] = (),
    uncertainty: bool = False,
    stress: bool = False,
    card: dict[str, str] | None = None,
    expected: int = 0,
    resume: bool = False,
) -> Potential:
    """Train a student, unless it is there already.

    Args:
        recipe: Recipe of the distillation.
        frames: Labelled frames to learn.
        folder: Folder of the run.
        seed: Seed of weights and order.
        data_name: Name of the folder of its data, beside that of the run.
        steps: Number of steps, rounded to whole epochs.
        minutes: Time, in place of steps.
        test: Labelled frames that judge it at the end.
        uncertainty: Whether it has heads of errors.
        stress: Whether it learns stresses.
        card: Section `card`.
        expected: Number of steps that fit into the time, about.
        resume: Whether a training that was stopped goes on, and does not begin anew.

    Raises:
        TrainingError: The loss is not finite.
    """
    if is_finished(folder):
        return load_potential(folder / "potential")
    begun = resume and (folder / "checkpoints" / "last.ckpt").is_file()
    data_folder = folder.with_name(data_name)
    learned, valid = divided(frames)
    data: dict[str, object] = {"keys": {"energy": "energy", "forces": "forces"} | ({"stress": "stress"} if stress else {})}
    data_folder.mkdir(parents=True, exist_ok=True)
    for part, some in (("train", learned), ("valid", valid), ("test", list(test))):
        if some:
            data[part] = f"{data_folder.name}/{part}.extxyz"
            write_frames(data_folder / f"{part}.extxyz", some)
    per_epoch = -(-len(learned) // recipe.batch_size)
    epochs = None if steps is None else max(1, round(steps / per_epoch))
    budget = {"max_epochs": epochs} if epochs is not None else {"max_minutes": minutes}
    every = max(1, (expected // per_epoch if epochs is None else epochs) // CHECKS)
    made = recipe.training(
        folder.with_suffix(".yaml"), data, budget, seed, uncertainty=uncertainty, stress=stress,
        **({"card": card} if card else {}),
    )  # fmt: skip
    trainer = made.trainer.model_copy(update={"validate_every": every, "checkpoint_every": every})
    made = made.model_copy(update={"trainer": trainer})
    made._raw["trainer"] = {**made._raw["trainer"], "validate_every": every, "checkpoint_every": every}
    if not begun and folder.exists():
        shutil.rmtree(folder)  # a training that was stopped
    train(made, output=folder, resume=begun, drawings=bool(test))
    return load_potential(folder / "potential")


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a training that has ended."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(record.get("finished"))


def timed(recipe: DistillationRecipe, frames: Sequence[Atoms], folder: Path, *, stress: bool) -> tuple[float, float]:
    """Time a few steps of a training, and evaluations of its result.

    Args:
        recipe: Recipe of the distillation.
        frames: A few labelled frames, which are repeated.
        folder: Empty folder.
        stress: Whether stresses are learned.

    Returns:
        Seconds for a step, and for the evaluation of one structure by one student.
    """
    size = recipe.batch_size
    wanted, others = size * TRIAL // 2, frames[1:]
    write_frames(folder / "train.extxyz", [others[k % len(others)] for k in range(wanted)])
    write_frames(folder / "valid.extxyz", frames[:1])
    keys = {"energy": "energy", "forces": "forces"} | ({"stress": "stress"} if stress else {})
    data = {"train": "train.extxyz", "valid": "valid.extxyz", "keys": keys}
    made = recipe.training(folder / "trial.yaml", data, {"max_epochs": 2}, 0, stress=stress)
    train(made, output=folder / "run", drawings=False)
    rows = read_metrics(folder / "run" / "metrics.csv")
    if len(rows) < 2:
        raise TrainingError(f"{folder}: a trial of two epochs has {len(rows)} rows of metrics; look at the log above")
    step = 60.0 * (float(rows[1]["minutes"]) - float(rows[0]["minutes"])) / (TRIAL // 2)
    students = Students([load_potential(folder / "run" / "potential")] * 2)
    systems, positions = Systems.of([frames[k % len(frames)] for k in range(size)])
    students.judge(systems, positions)
    began = time.perf_counter()
    for _ in range(3):
        students.judge(systems, positions)
    return max(step, 1e-4), (time.perf_counter() - began) / (6 * size)
