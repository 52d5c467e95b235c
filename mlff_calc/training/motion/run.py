"""A training run from recipe to propagator: check everything, fit, judge, write."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mlff_calc.propagator import Propagator
from mlff_calc.training.files import write_atomic
from mlff_calc.training.motion.build import new_propagator
from mlff_calc.training.motion.data import MotionPairs
from mlff_calc.training.motion.evaluate import MotionReport, evaluate_propagator
from mlff_calc.training.motion.parts import MotionParts, data_fingerprint, data_path, read_parts
from mlff_calc.training.motion.recipe import MotionRecipe, load_motion_recipe
from mlff_calc.training.recipe_copies import as_yaml, shipped_command, shipped_recipe
from mlff_calc.training.run_folder import (
    RunFolder,
    check_folder,
    hold_folder,
    look,
    set_up_folder,
)
from mlff_calc.training.run_steps import best_network, check_compiler, output_folder

if TYPE_CHECKING:
    from mlff_calc.training.fit import FitResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PropagatorResult:
    """What a run gave.

    Attributes:
        folder: Folder of the run.
        propagator: Folder of the propagator.
        report: Errors on the test samples, or on the validation samples where there are no test samples.
        judged: `test` or `valid`.
        minutes: Time used for training.
    """

    folder: Path
    propagator: Path
    report: MotionReport
    judged: str
    minutes: float

    def summary(self) -> str:
        """A few lines for the user."""
        head = f"trained in {self.minutes:.1f} minutes; errors on the {self.judged} samples:"
        return f"{head}\n{self.report.as_text()}\npropagator: {self.propagator}"


def train_propagator(
    recipe: MotionRecipe | Path | str,
    *,
    overrides: list[str] | tuple[str, ...] = (),
    output: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
    show_bar: bool = False,
) -> PropagatorResult:
    """Train a propagator as a recipe says. Everything is checked before anything is written.

    Args:
        recipe: A recipe or its file.
        overrides: `section.key=value` replacements (only with a file).
        output: Folder of the run; the recipe's own `output` by default.
        resume: Go on with the run in that folder; by epochs and on the CPU it ends with the same weights, bit for bit, as a
            run that was never interrupted.
        overwrite: Replace a run that is there.
        command: Command line for the record.
        show_bar: Draw a progress bar where standard error is a terminal.

    Raises:
        RecipeError: The recipe is wrong, or asks for velocities or a file that are not there.
        DatasetError: Data that cannot be read, or parts that disagree on kinds of particles.
        StructureError: A sample cannot be a graph.
        TrainingError: A loss that is not finite; a folder that holds another run, or where another process runs; one
            that was moved or deleted during the run.
        KeyboardInterrupt: Ctrl-C; the run can be resumed.
        OSError: Something cannot be written.
    """
    if not isinstance(recipe, MotionRecipe):
        recipe = load_motion_recipe(recipe, overrides)
    check_compiler(recipe)
    folder = output_folder(recipe, output)
    seen = look(folder)
    resume = check_folder(folder, recipe, resume=resume, overwrite=overwrite)
    parts = read_parts(recipe)
    from mlff_calc.training.fit import check_batches, choose_accelerator, fit
    from mlff_calc.training.motion.failures import NamedSamples
    from mlff_calc.training.motion.module import MotionModule

    choose_accelerator(recipe)
    check_batches(recipe, {part: len(parts[part]) for part in ("train", "valid")})
    train, valid = MotionPairs(parts["train"]), MotionPairs(parts["valid"])
    propagator = new_propagator(recipe, parts["train"])
    mark = data_fingerprint(data_path(recipe), recipe.data.format)
    data = {part: mark | {"samples": len(samples)} for part, samples in parts.items()}
    logger.info("%s", ", ".join(f"{len(samples)} samples for {part}" for part, samples in parts.items()))
    with hold_folder(folder, seen) as lock:
        set_up_folder(folder, recipe, data, command, resume=resume)
        n_example = min(recipe.optimizer.batch_size, len(train))
        example = train.batch(list(range(n_example))).graph if recipe.trainer.compile else None
        module = MotionModule(propagator, recipe, example)
        named = NamedSamples(folder, {part: [sample.place for sample in parts[part]] for part in ("train", "valid")})
        fitted = fit(recipe, module, train, valid, named, folder, lock, resume=resume, show_bar=show_bar)
        return _finish(recipe, best_network(propagator, folder), parts, fitted, folder, command)


def _finish(
    recipe: MotionRecipe, best: Propagator, parts: MotionParts, fitted: FitResult, folder: RunFolder, command: str
) -> PropagatorResult:
    """Judge the result, draw, write the propagator."""
    from mlff_calc.training.card import machine
    from mlff_calc.training.motion.card import write_card
    from mlff_calc.training.plots import learning_curve

    command = shipped_command(command)
    judged = "test" if "test" in parts else "valid"
    size = recipe.optimizer.valid_batch_size or recipe.optimizer.batch_size
    report = evaluate_propagator(best, parts[judged], batch_size=size)
    write_atomic(folder.path / "evaluation.json", json.dumps({"part": judged} | report.as_dict(), indent=2) + "\n")
    learning_curve(folder.metrics, folder.path / "learning_curve.png")
    record = folder.read_record()
    minutes = fitted.seconds / 60.0
    record |= {"finished": True, "minutes": round(minutes, 3), "epochs": fitted.epochs, "best_epoch": fitted.best_epoch}
    best.save(
        str(folder.propagator),
        card=write_card(recipe, best, parts, fitted, report, judged, command),
        recipe=as_yaml(shipped_recipe(recipe)),
        provenance={
            "data": record["data"],
            "reading": {key: value for key, value in recipe.data.reading().items() if value is not None},
            "command": command,
            "minutes": record["minutes"],
            "machine": machine(),
            "torch": torch.__version__,
        },
        overwrite=True,
    )
    folder.write_record(record)
    return PropagatorResult(folder.path, folder.propagator, report, judged, minutes)
