"""A training run from recipe to potential: check everything, fit, judge, write."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mlff_calc.datasets.weights import weight_lines
from mlff_calc.graph.domain import domain_of, united
from mlff_calc.potential import Potential
from mlff_calc.training.build import new_potential
from mlff_calc.training.data import GraphFrames
from mlff_calc.training.decisions import check_decisions, data_marks, decisions
from mlff_calc.training.evaluate import EvaluationReport, evaluate
from mlff_calc.training.files import write_atomic
from mlff_calc.training.finetune import start_from
from mlff_calc.training.frames import Frames, read_frames
from mlff_calc.training.labels import check_labels, label_table
from mlff_calc.training.recipe import Recipe, load_recipe
from mlff_calc.training.recipe_copies import as_yaml, shipped_command, shipped_recipe
from mlff_calc.training.references import origin_of, references_line
from mlff_calc.training.run_folder import (
    RunFolder,
    check_folder,
    hold_folder,
    look,
    set_up_folder,
)
from mlff_calc.training.run_steps import best_network, check_compiler, output_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """What a run gave.

    Attributes:
        folder: Folder of the run.
        potential: Folder of the potential.
        report: Errors on the test frames, or on the validation frames where there are no test frames.
        judged: `test` or `valid`.
        minutes: Time used for training.
        notes: Where the reference energies come from, what became of isolated atoms, weights of frames.
    """

    folder: Path
    potential: Path
    report: EvaluationReport
    judged: str
    minutes: float
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """A few lines for the user."""
        head = f"trained in {self.minutes:.1f} minutes; errors on the {self.judged} frames:"
        return "\n".join([head, self.report.as_text(), *self.notes, f"potential: {self.potential}"])


def train(
    recipe: Recipe | Path | str,
    *,
    overrides: list[str] | tuple[str, ...] = (),
    output: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
    show_bar: bool = False,
) -> TrainingResult:
    """Train a potential as a recipe says. Everything is checked before anything is written.

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
        RecipeError: The recipe is wrong, or asks for labels or files that are not there.
        DatasetError: Data that cannot be read, or parts that disagree on elements.
        TrainingError: A loss that is not finite; a folder that holds another run, or where another process runs; one
            that was moved or deleted during the run.
        KeyboardInterrupt: Ctrl-C; the run can be resumed.
        OSError: Something cannot be written.
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, overrides)
    check_compiler(recipe)
    folder = output_folder(recipe, output)
    seen = look(folder)
    resume = check_folder(folder, recipe, resume=resume, overwrite=overwrite)
    parts = read_frames(recipe)
    counts = [frames.count() for frames in parts.values()]
    check_labels(recipe, counts)
    from mlff_calc.training.failures import SavedFrames
    from mlff_calc.training.fit import check_batches, choose_accelerator, fit
    from mlff_calc.training.module import TrainingModule

    choose_accelerator(recipe)
    check_batches(recipe, {part: len(parts[part]) for part in ("train", "valid")})
    make = new_potential if recipe.fine_tune_from is None else start_from
    potential, train_graphs = make(recipe, parts["train"])
    valid_graphs = GraphFrames(parts["valid"].samples, potential.cutoff, parts["valid"].weights)
    data, decided = data_marks(recipe, parts), decisions(recipe, parts)
    logger.info("%s", label_table([count for frames in parts.values() for count in frames.count_by_file()]))
    for line in _notes(recipe, potential, parts):
        logger.info("%s", line)
    with hold_folder(folder, seen) as lock:
        set_up_folder(folder, recipe, data, command, resume=resume, decided=decided)
        if resume:
            check_decisions(str(folder.path), folder.read_record(), recipe, data, decided)
        example = train_graphs.batch([0, len(train_graphs) - 1]).graph if recipe.trainer.compile else None  # two systems
        module = TrainingModule(potential, recipe, example)
        saved = SavedFrames(folder, parts)
        fitted = fit(recipe, module, train_graphs, valid_graphs, saved, folder, lock, resume=resume, show_bar=show_bar)
        best = best_network(potential, folder)
        return _finish(recipe, best, parts, fitted, folder, command)


def _notes(recipe: Recipe, potential: Potential, parts: dict[str, Frames]) -> list[str]:
    """What was decided about the data beside their counts: reference energies, isolated atoms, weights."""
    origin = origin_of(recipe, parts["train"])
    notes = [references_line(potential.config["reference_energies"], origin)]
    n_isolated = sum(len(frames.isolated) for frames in parts.values())
    if n_isolated:
        kept = recipe.data.keep_isolated_atoms
        what = "are among the other frames (data.keep_isolated_atoms)" if kept else "are in no part of the data"
        notes.append(f"{n_isolated} frames of isolated atoms {what}")
    weights = parts["train"].weights
    if weights is not None:
        notes += [f"weights of {line}" for line in weight_lines(parts["train"].samples, weights)]
    return notes


def _finish(
    recipe: Recipe, best: Potential, parts: dict[str, Frames], fitted: Any, folder: RunFolder, command: str
) -> TrainingResult:
    """Judge the result, draw, write the potential."""
    from mlff_calc.training.card import machine, write_card
    from mlff_calc.training.plots import learning_curve, parity

    command = shipped_command(command)
    judged = "test" if "test" in parts else "valid"
    report = evaluate(
        best, parts[judged].samples, batch_size=recipe.optimizer.valid_batch_size or recipe.optimizer.batch_size
    )
    notes = _notes(recipe, best, parts)
    judgement = {"part": judged} | report.as_dict() | {"notes": notes}
    write_atomic(folder.path / "evaluation.json", json.dumps(judgement, indent=2) + "\n")
    learning_curve(folder.metrics, folder.path / "learning_curve.png")
    parity(report.pairs, folder.path / "parity.png", f"{report.frames} {judged} frames")
    record = folder.read_record()
    minutes = fitted.seconds / 60.0
    record |= {"finished": True, "minutes": round(minutes, 3), "epochs": fitted.epochs, "best_epoch": fitted.best_epoch}
    found = domain_of((sample.atoms for sample in parts["train"].samples), best.cutoff)
    best.domain = found if best.domain is None else united(best.domain, found)  # a start has learned from its own frames
    best.save(
        str(folder.potential),
        card=write_card(recipe, best, parts, fitted, report, command, notes),
        recipe=as_yaml(shipped_recipe(recipe)),
        provenance={
            "data": record["data"],
            "reference_energies": origin_of(recipe, parts["train"]),
            "command": command,
            "minutes": record["minutes"],
            "machine": machine(),
            "level_of_theory": recipe.card.level_of_theory,
            "torch": torch.__version__,
        },
        overwrite=True,
    )
    folder.write_record(record)
    return TrainingResult(folder.path, folder.potential, report, judged, minutes, notes)
