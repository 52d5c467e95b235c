"""The last training and its result: a potential with its card, and the spread above which it is not to be trusted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from mlff_calc.distillation.calibration import threshold_in_words
from mlff_calc.distillation.judged import calibrated, errors_of
from mlff_calc.distillation.plan import Plan
from mlff_calc.distillation.recipe import DistillationRecipe
from mlff_calc.distillation.seeds import AUDIT, HELD_OUT, TRAIN
from mlff_calc.distillation.state import State
from mlff_calc.distillation.students import Students
from mlff_calc.distillation.teachers import Teacher
from mlff_calc.distillation.training import is_finished, train_student
from mlff_calc.graph.domain import SPREAD
from mlff_calc.networks.files import read_header

LEAST_MINUTES = 0.05
"""Smallest time of the last training, min."""
FINAL_SEED = 7


@dataclass(frozen=True)
class Distilled:
    """Result of a distillation.

    Attributes:
        folder: Folder of the run.
        potential: Folder of the potential.
        audit: Mean absolute error of forces on audit frames, eV/Angstrom; None where there are none.
        held_out: The same on what was held out.
        threshold: Spread of a force (eV/Angstrom) above which errors are not accepted; calculators of the potential and
            `mlff md` warn there, or stop with `domain="stop"`.
        labels: Number of labels.
        failed: Number of frames without a label.
        stopped: Why the rounds ended.
    """

    folder: Path
    potential: Path
    audit: float | None
    held_out: float | None
    threshold: float
    labels: int
    failed: int
    stopped: str

    def summary(self) -> str:
        """A few lines."""
        errors = [
            f"{words} {1000.0 * error:.1f} meV/A"
            for words, error in (("audit", self.audit), ("held out", self.held_out)) if error is not None
        ]  # fmt: skip
        failed = f" ({self.failed} frames failed, see {self.folder / 'failed.extxyz'})" if self.failed else ""
        return "\n".join([
            f"{self.labels} labels{failed}; the rounds ended because {self.stopped}.",
            f"Mean error of a component of the forces: {', '.join(errors)}.",
            f"Report: {self.folder / 'report.html'}",
            f"Potential: {self.potential}. It warns above a spread of {self.threshold:.3g} eV/Angstrom;",
            "dynamics that end there:",
            f"  mlff md {self.potential} --structure STRUCTURE --domain stop",
        ])  # fmt: skip


def finish(
    recipe: DistillationRecipe,
    folder: Path,
    state: State,
    plan: Plan,
    teacher: Teacher,
    frames: Sequence[Atoms],
    want: Sequence[str],
    on_line: Callable[[str], None],
) -> Distilled:
    """Train the last student on everything that may be learned, judge it, and write it with its card.

    Args:
        recipe: Recipe of the distillation.
        folder: Folder of the run.
        state: Record, in which the errors are noted.
        plan: Number of steps, if it has one.
        teacher: Teacher.
        frames: All labelled frames.
        want: Which labels they have.
        on_line: Called with lines of progress.
    """
    train = [frame for frame in frames if frame.info["part"] == TRAIN]
    outside = [frame for frame in frames if frame.info["part"] != TRAIN]
    minutes, total, run = None, state.plain["minutes"], folder / "students" / "final"
    if plan.final_steps is None:
        minutes = state.plain.get("final_minutes") if run.exists() else None
        minutes = minutes or round(max((total or 0.0) - state.used / 60.0, LEAST_MINUTES), 4)
        state.plain["final_minutes"] = minutes  # a training that goes on has the budget with which it began
        state.save()
    name = next(iter(dict.fromkeys(str(frame.info["system"]) for frame in train)))
    version = str(state.plain["teacher"]["version"])
    if not is_finished(run):
        budget = f"{plan.final_steps} steps" if minutes is None else f"{minutes:.3g} minutes"
        on_line(f"last training: {len(train)} frames, {budget}")
    with state.timed("last training"):
        potential = train_student(
            recipe, train, run, FINAL_SEED + recipe.seed, data_name="final-data", steps=plan.final_steps, minutes=minutes,
            expected=0 if minutes is None else int(60.0 * minutes / plan.step_seconds),
            test=outside, uncertainty=True, stress="stress" in want, resume=True,
            card={
                "title": f"{name} from {teacher.name}", "level_of_theory": f"{teacher.name} ({version})",
                "data": f"{len(frames)} structures found by `mlff distill`, labelled by the teacher",
                "licence": f"of the teacher: {teacher.licence}",
                "not_for": "what is unlike the systems that were given; reactions, unless `explore.reactive` was set",
            },
        )  # fmt: skip
    with state.timed("judge"):
        students = Students([potential])
        errors = errors_of(students, outside)
        parts = {
            part: errors_of(students, [frame for frame in outside if frame.info["part"] == part]) for part in (AUDIT,
            HELD_OUT)
        }
        calibration = calibrated(outside, errors)
    threshold = calibration.threshold(recipe.tolerance)
    kinds = Counter(str(frame.info["system"]) for frame in frames)
    about = {
        "teacher": teacher.name, "version": version, "licence": teacher.licence, "labels": len(frames),
        "systems": dict(kinds), "tolerance": recipe.tolerance, "threshold": threshold, "calibration": calibration.plain(),
        "audit": parts[AUDIT].plain(), "held_out": parts[HELD_OUT].plain(), "stopped": state.plain["stopped"],
    }  # fmt: skip
    old = read_header(run / "potential")
    if potential.domain is not None and 0.0 < threshold < math.inf:
        potential.domain = {**potential.domain, SPREAD: threshold}
    card = (run / "potential" / "card.md").read_text(encoding="utf-8").rstrip("\n")
    written = potential.save(
        folder / "potential", card=f"{card}\n\n{_card(about, teacher)}",
        recipe=(run / "potential" / "recipe.yaml").read_text(encoding="utf-8"),
        provenance={**old.get("provenance", {}), "distillation": about}, overwrite=True,
    )  # fmt: skip
    failed = sum(int(entry["failed"]) for entry in state.rounds)
    state.plain["result"] = about
    return Distilled(
        folder, written, parts[AUDIT].forces, parts[HELD_OUT].forces, threshold, len(frames), failed, state.plain["stopped"]
    )


def _card(about: dict[str, Any], teacher: Teacher) -> str:
    """What the card says of the distillation."""
    lines = [
        "## Distillation", "",
        f"Teacher: {teacher.name} ({about['version']}); licence {teacher.licence}. {teacher.about}".rstrip(), "",
        "Errors below are those against the teacher. The teacher's own errors come on top of them.", "",
        "| frames | forces (meV/Angstrom) | energy (meV/atom) |", "|---|---|---|",
    ]  # fmt: skip
    words_of = {AUDIT: "audit: drawn at random from trajectories of their own, never learned", HELD_OUT: "held out"}
    for part, words in words_of.items():
        errors = about[part]
        if errors["forces"] is not None:
            lines.append(f"| {words} | {1000 * errors['forces']:.1f} | {1000 * errors['energy']:.2f} |")
            elements = ", ".join(f"{symbol} {1000 * error:.1f}" for symbol, error in errors["by_element"].items())
            lines.append(f"| of these by element | {elements} | |")
    lines += [
        "",
        f"{threshold_in_words(about['threshold'], about['tolerance'], about['calibration']['n_frames'])} "
        f"Systems: {', '.join(about['systems'])}. "
        f"The rounds ended because {about['stopped']}.", "",
    ]  # fmt: skip
    return "\n".join(lines)
