"""A training run of any kind, from recipe to result: check everything, fit, judge, draw, write."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mlff_calc.errors import RecipeError
from mlff_calc.training.data import Batch, generator_of
from mlff_calc.training.folder import RunFolder
from mlff_calc.training.kinds import task_for
from mlff_calc.training.machine import machine
from mlff_calc.training.recipe import load_recipe
from mlff_calc.training.recipe_base import TrainingRecipe
from mlff_calc.training.recipe_copies import as_yaml, shipped_command, shipped_recipe
from mlff_calc.training.run_folder import check_folder, hold_folder, look, set_up_folder
from mlff_calc.training.run_steps import best_network, check_compiler, output_folder
from mlff_calc.training.task import Outcome, Prepared, Report, Task
from mlff_calc.whole_files import write_whole

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training run.

    Attributes:
        kind: Name of the kind that was trained.
        folder: Folder of the run.
        model: Folder of the trained network.
        report: Errors on the test part, or on the validation part where there is no test part.
        judged: `test` or `valid`.
        items: Plural noun for the samples of a part, such as frames.
        minutes: Time used for training.
        weights: Number of weights of the network.
        notes: Decisions about the data, a sentence each.
    """

    kind: str
    folder: Path
    model: Path
    report: Any
    judged: str
    items: str
    minutes: float
    weights: int
    notes: list[str] = field(default_factory=list)

    def summary(self, notes: bool = True) -> str:
        """Summarize the run in a few lines, including the decisions about the data unless `notes` is False."""
        head = f"{self.weights} weights, trained in {self.minutes:.1f} minutes; errors on the {self.judged} {self.items}:"
        shown = self.notes if notes else []
        return "\n".join([head, self.report.as_text(), *shown, f"{self.kind}: {self.model}"])


def train(
    recipe: TrainingRecipe | Path | str,
    *,
    overrides: list[str] | tuple[str, ...] = (),
    output: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
    show_bar: bool = False,
    task: Task[Any, Any] | None = None,
    drawings: bool = True,
) -> TrainingResult:
    """Train the network that a recipe describes. Everything is checked before anything is written.

    Args:
        recipe: Recipe, or its file.
        overrides: `section.key=value` replacements (only with a file).
        output: Folder of the run; the recipe's own `output` by default.
        resume: Whether to continue the run in that folder. With a budget in epochs and on the CPU it ends with the same
            weights, bit for bit, as an uninterrupted run.
        overwrite: Whether to replace an existing run.
        command: Command line for the record.
        show_bar: Whether to draw a progress bar where standard error is a terminal.
        task: Task that carries it out; by default that of the recipe's kind.
        drawings: Whether to draw the learning curve and the plots of the kind.

    Raises:
        RecipeError: The recipe is invalid, or needs labels or files that are missing.
        OptionError: A device is missing, there are fewer samples than devices, or the package of a kind is broken.
        DatasetError: Data cannot be read, or the parts do not fit together.
        StructureError: A sample cannot be a graph.
        TrainingError: A loss is not finite, or the folder holds another run, is used by another process, or was moved
            or deleted during the run.
        KeyboardInterrupt: Ctrl-C was pressed; the run can be resumed.
        OSError: A file cannot be written.
    """
    if not isinstance(recipe, TrainingRecipe):
        recipe = load_recipe(recipe, overrides)
    task = task or task_for(recipe)
    check_compiler(recipe)
    folder = output_folder(recipe, output)
    seen = look(folder)
    resume = check_folder(folder, recipe, resume=resume, overwrite=overwrite)
    parts = task.read(recipe)
    from mlff_calc.training.fit import check_batches, choose_accelerator, fit
    from mlff_calc.training.module import TrainingModule

    choose_accelerator(recipe)
    check_batches(recipe, {part: len(parts[part]) for part in ("train", "valid")})
    ready = task.prepare(recipe, parts)
    example = _example(task, recipe, ready)
    data, decided = task.fingerprints(recipe, parts), task.decisions(recipe, parts)
    for text in (ready.table, *ready.notes):
        logger.info("%s", text)
    with hold_folder(folder, seen) as lock:
        set_up_folder(folder, recipe, data, command, resume=resume, decided=decided)
        if resume:
            task.check_resumed(folder.path, folder.read_record(), recipe, data, decided)
        if ready.begin is not None:
            ready.begin(folder)
        module = TrainingModule(task.name, ready.network, ready.objective, recipe, example)
        sources, named = (ready.train, ready.valid), ready.bad_batch(folder)
        fitted = fit(recipe, module, *sources, named, folder, lock, resume=resume, show_bar=show_bar)
        best = best_network(ready.network, folder)
        task.finish(best, parts)
        judged = "test" if "test" in parts else "valid"
        report = task.judge(recipe, best, parts[judged])
        outcome = Outcome(recipe, best, parts, fitted, report, judged, shipped_command(command), ready.notes)
        model = _write(task, outcome, folder, drawings=drawings)
        task.clean()
    minutes = fitted.seconds / 60.0
    weights = sum(weight.numel() for weight in best.parameters())
    return TrainingResult(task.name, folder.path, model, report, judged, task.items, minutes, weights, ready.notes)


def _example(task: Task[Any, Any], recipe: TrainingRecipe, ready: Prepared) -> Batch | None:
    """Return the batch to compile on, where the recipe asks for compilation."""
    if not recipe.trainer.compile:
        return None
    if ready.example is None:
        raise RecipeError(
            f"{recipe.origin}: trainer.compile is true, but a {task.name} is not compiled for training; set "
            "trainer.compile: false"
        )
    return ready.train.batch(ready.example, 0, generator_of(recipe.trainer.seed))


def _write(task: Task[Any, Any], outcome: Outcome[Any, Any], folder: RunFolder, *, drawings: bool) -> Path:
    """Write errors, plots, network and record."""
    recipe, best, report, fitted = outcome.recipe, outcome.network, outcome.report, outcome.fitted
    write_whole(folder.path / "evaluation.json", json.dumps(_judgement(outcome), indent=2) + "\n")
    if drawings:
        from mlff_calc.training.plots import learning_curve

        learning_curve(folder.metrics, folder.path / "learning_curve.png")
        task.plots(folder, report, f"{len(outcome.parts[outcome.judged])} {outcome.judged} {task.items}")
    record = folder.read_record()
    minutes = round(fitted.seconds / 60.0, 3)
    cpu_minutes = round(fitted.cpu_seconds / 60.0, 3)
    record |= {"finished": True, "minutes": minutes, "cpu_minutes": cpu_minutes}
    record |= {"epochs": fitted.epochs, "best_epoch": fitted.best_epoch}
    model = folder.path / task.name
    best.save(
        str(model),
        card=task.card(outcome),
        recipe=as_yaml(shipped_recipe(recipe)),
        provenance={
            **task.provenance(recipe, outcome.parts),
            "data": record["data"],
            "command": outcome.command,
            "minutes": minutes,
            "cpu_minutes": cpu_minutes,
            "machine": machine(),
            "torch": torch.__version__,
        },
        overwrite=True,
    )
    folder.write_record(record)
    return model


def _judgement(outcome: Outcome[Any, Any]) -> Mapping[str, Any]:
    """Content of `evaluation.json`."""
    report: Report = outcome.report
    notes = {"notes": list(outcome.notes)} if outcome.notes else {}
    return {"part": outcome.judged} | report.as_dict() | notes
