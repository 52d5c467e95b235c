"""The rounds of a distillation: label, train, judge, explore, choose; then the last training.

Each phase begins where its file is missing, so that a run that was stopped in any way goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlff_calc.distillation.answers import Labeller
from mlff_calc.distillation.calibration import Calibration
from mlff_calc.distillation.frames import STUDENT_FORCES, is_cool, next_frames, seed_of, without_copies
from mlff_calc.distillation.judged import calibrated, errors_of
from mlff_calc.distillation.labels import (
    RoundLabels,
    key_of,
    label_round,
    labels_file,
    read_labels,
    write_frames,
)
from mlff_calc.distillation.plan import Plan
from mlff_calc.distillation.recipe import DistillationRecipe
from mlff_calc.distillation.report import write_report
from mlff_calc.distillation.result import Distilled, finish
from mlff_calc.distillation.seeds import AUDIT, HELD_OUT, TRAIN, System, seed_frames
from mlff_calc.distillation.state import State
from mlff_calc.distillation.students import Students
from mlff_calc.distillation.teachers import Teacher
from mlff_calc.distillation.training import train_student
from mlff_calc.errors import DatasetError

LEAST_LEFT = 0.1
"""Share of the time of the rounds that must be left for another one."""
_NAMES = {"teacher": "name", "version": "version", "options": "options"}
Line = Callable[[str], None]
Bar = Callable[[str, int, int, str], None]


class Rounds:
    """The rounds of a run under its lock.

    Args:
        recipe: Recipe.
        folder: Folder of the run.
        state: Its record.
        systems: Structures to begin with.
        teacher: Teacher.
        labeller: What labels by it.
        want: Which labels.
        on_line: Called with each line of progress.
        on_bar: Called with a name, the number done, the number of all, and a note.
    """

    def __init__(
        self,
        recipe: DistillationRecipe,
        folder: Path,
        state: State,
        systems: Sequence[System],
        teacher: Teacher,
        labeller: Labeller,
        want: list[str],
        on_line: Line,
        on_bar: Bar,
    ) -> None:
        self.recipe, self.folder, self.state = recipe, folder, state
        self.systems, self.teacher, self.labeller, self.want = systems, teacher, labeller, want
        self.line, self.bar = on_line, on_bar
        self.plan = Plan.of_plain(state.plain["plan"])

    def carry_out(self) -> Distilled:
        """Carry out what is left of the rounds, and the last training."""
        try:
            while self.state.plain["stopped"] is None:
                self._round(len(self.state.rounds))
            return self._finish()
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"Everything so far is kept in {self.folder}; go on with --resume") from stop

    def _round(self, number: int) -> None:
        """One round: label, train, judge, explore, choose."""
        self._label(number)
        frames = self._frames(number)
        train = [frame for frame in frames if frame.info["part"] == TRAIN]
        outside = [frame for frame in frames if frame.info["part"] != TRAIN]
        trained = self.state.plain["seconds"].get("train", 0.0)
        students = self._train(number, train)
        with self.state.timed("judge"):
            entry, calibration = self._judge(number, train, outside, students)
        stop = self._stop_before(number, entry)
        if stop is None:
            with self.state.timed("explore"):
                self.bar(f"round {number}: dynamics", 0, 1, "")
                known = {key_of(frame, self.teacher.key) for frame in frames}
                drawn = next_frames(self.recipe, self.plan, self.systems, students, calibration, train, entry)
                chosen = without_copies(drawn, self.teacher.key, known)
                self.bar(f"round {number}: dynamics", 1, 1, "")
            stop = self._stop_after(entry, chosen)
            if stop is None:
                write_frames(self._todo(number + 1), chosen)
            limit = self.state.plain["limit"]
            if limit is not None and self.recipe.student.steps is None:
                seconds = self.state.plain["seconds"]["train"] - trained
                left = (limit - self.state.used) / (self.plan.rounds - number)
                self.plan = self.plan.within(seconds, left)
                self.state.plain["plan"] = self.plan.plain()
        self.state.rounds.append(entry)
        self.state.plain["stopped"] = stop
        self.state.save()
        self.line(_told(entry))
        if stop is not None:
            self.line(f"The rounds end: {stop}.")

    def _label(self, number: int) -> None:
        """Label the frames of a round, unless they are."""
        todo, path = self._todo(number), labels_file(self.folder, number)
        if path.is_file():
            return
        if number and not todo.is_file():
            raise DatasetError(f"{todo} is missing, so that round {number} cannot be labelled; restore it, or begin anew")
        if not todo.is_file():
            frames = seed_frames(self.recipe, self.systems, self.plan.first)
            write_frames(todo, without_copies(frames, self.teacher.key, set()))
        told = self.state.plain["teacher"]
        kind = RoundLabels(
            self.labeller, self.want, {name: told[key] for name, key in _NAMES.items()}, number,
            self.folder / "failed.extxyz", is_first=number == 0,
        )  # fmt: skip

        def show(done: int, failed: int, total: int) -> None:
            self.bar(f"round {number}: labels", done, total, f"({failed} failed)" if failed else "")

        with self.state.timed("label"):
            label_round(read_labels(todo), kind, path, show)

    def _train(self, number: int, train: Sequence[Atoms]) -> Students:
        """Train the students of a round, unless they are there."""
        k = self.recipe.student.committee
        found = []
        with self.state.timed("train"):
            for member in range(k):
                self.bar(f"round {number}: students", member, k, "")
                folder = self.folder / "students" / f"round-{number:03d}-{member}"
                found.append(train_student(
                    self.recipe, train, folder, seed_of(self.recipe.seed, number, member),
                    data_name=f"round-{number:03d}-data", steps=self.plan.steps, uncertainty=k == 1,
                    stress="stress" in self.want,
                ))  # fmt: skip
            self.bar(f"round {number}: students", k, k, "")
        return Students(found)

    def _judge(
        self, number: int, train: Sequence[Atoms], outside: Sequence[Atoms], students: Students
    ) -> tuple[dict[str, Any], Calibration]:
        """Measure students on frames that no student has learned."""
        errors = errors_of(students, outside)
        audits = [k for k, frame in enumerate(outside) if frame.info["part"] == AUDIT and frame.info["round"] == number]
        audit = errors_of(students, [outside[k] for k in audits])
        held_out = errors_of(students, [frame for frame in outside if frame.info["part"] == HELD_OUT])
        calibration = calibrated(outside, errors)
        before = [_covered(outside[k]) for k in audits]
        failed = [frame for frame in read_labels(self.folder / "failed.extxyz") if frame.info.get("round") == number]
        entry = {
            "round": number, "labels": len(train) + len(outside), "train": len(train), "failed": len(failed),
            "audit": audit.plain(), "held_out": held_out.plain(), "n_audit": len(audits),
            "covered": sum(before), "calibration": calibration.plain(), "frames": 0, "candidates": 0, "endings": {},
        }  # fmt: skip
        return entry, calibration

    def _stop_before(self, number: int, entry: dict[str, Any]) -> str | None:
        """Why the rounds end before the dynamics of this one."""
        target = self.recipe.stop.target
        last = [one for one in (*self.state.rounds[-1:], entry) if not is_cool(one["round"] - 1, self.plan)]
        errors = [one["audit"]["forces"] for one in last]
        if len(errors) == 2 and all(error is not None and error < target for error in errors):
            return f"the error on audit frames was below {target:g} eV/Angstrom in two rounds"
        if number >= self.plan.rounds:
            return f"{self.plan.rounds} round{'s are' if self.plan.rounds != 1 else ' is'} done"
        if self.plan.labels - entry["labels"] < 2:
            return f"the budget of {self.plan.labels} labels is used"
        limit = self.state.plain["limit"]
        if limit is not None and limit - self.state.used < LEAST_LEFT * limit:
            return f"the rest of the {self.state.plain['minutes']:.4g} minutes is for the last training"
        return None

    def _stop_after(self, entry: dict[str, Any], chosen: Sequence[Atoms]) -> str | None:
        """Why the rounds end after the dynamics of this one."""
        least = self.recipe.stop.candidates
        last = [one for one in (*self.state.rounds[-1:], entry) if not is_cool(one["round"], self.plan)]
        shares = [one["candidates"] / one["frames"] for one in last if one["frames"]]
        if len(shares) == 2 and max(shares) < least:
            return f"fewer than {least:.1%} of the frames were candidates in two rounds"
        if not chosen:
            return "the dynamics gave no frame to label"
        return None

    def _finish(self) -> Distilled:
        """Train what stays, and write what there is to say."""
        number = len(self.state.rounds) - 1
        result = finish(self.recipe, self.folder, self.state, self.plan, self.teacher, self._frames(number), self.want,
        self.line)
        write_report(self.folder, self.state, self.recipe)
        self.state.plain["finished"] = True
        self.state.save()
        return result

    def _frames(self, number: int) -> list[Atoms]:
        """Labelled frames of all rounds up to this one."""
        return [frame for k in range(number + 1) for frame in read_labels(labels_file(self.folder, k))]

    def _todo(self, number: int) -> Path:
        return labels_file(self.folder, number).with_suffix(".todo.extxyz")


def _covered(atoms: Atoms) -> bool:
    """Whether the error of the students that found an audit frame was below the bound that was told for it."""
    away = atoms.arrays[STUDENT_FORCES] - atoms.get_forces(apply_constraint=False)
    return bool(np.linalg.norm(away, axis=1).max() <= float(atoms.info["bound"]))


def _told(entry: dict[str, Any]) -> str:
    """A round in one line."""
    parts = [f"round {entry['round']}: {entry['labels']} labels"]
    if entry["failed"]:
        parts.append(f"{entry['failed']} failed")
    for name, words in (("held_out", "held out"), ("audit", "audit")):
        error = entry[name]["forces"]
        if error is not None:
            parts.append(f"{words} {1000.0 * error:.1f} meV/A")
    if entry["n_audit"]:
        parts.append(f"{entry['covered']} of {entry['n_audit']} audit errors within their bound")
    if entry["frames"]:
        parts.append(f"{entry['candidates']} of {entry['frames']} frames are candidates")
    return ", ".join(parts)


