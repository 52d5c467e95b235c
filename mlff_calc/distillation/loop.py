"""Distillation: label, train, explore, choose, until the errors are small or the budget is used; then train what stays.

Each phase begins where its file is missing, so that a run that was stopped in any way goes on where it was.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms

from mlff_calc.distillation.calibration import Calibration
from mlff_calc.distillation.choice import at_random, farthest_points
from mlff_calc.distillation.explore import explore
from mlff_calc.distillation.judged import calibrated, errors_of
from mlff_calc.distillation.labels import RoundLabels, as_in_file, key_of, label_round, read_labels, write_frames
from mlff_calc.distillation.plan import Plan, planned
from mlff_calc.distillation.recipe import DistillationRecipe, load_distillation, parse_distillation
from mlff_calc.distillation.report import write_report
from mlff_calc.distillation.result import Distilled, finish
from mlff_calc.distillation.seeds import AUDIT, HELD_OUT, TRAIN, System, read_systems, seed_frames, strained
from mlff_calc.distillation.state import FORMAT, NAME, State
from mlff_calc.distillation.students import Students
from mlff_calc.distillation.teachers import Teacher
from mlff_calc.distillation.teaching import first_labels, is_same_teacher, labeller_for, teacher_for, wanted
from mlff_calc.distillation.training import timed, train_student
from mlff_calc.errors import DatasetError, OptionError
from mlff_calc.locks import LOCK, folder_lock
from mlff_calc.whole_files import write_whole

STUDENT_FRAMES = "student_forces"
"""Array of audit frames: forces of the students that found them, eV/Angstrom."""
OWN = ("labels", "students", "potential", NAME, "recipe.yaml", "report.html", "failed.extxyz")
"""What a run writes into its folder."""
Line = Callable[[str], None]
Bar = Callable[[str, int, int, str], None]


class Distillation:
    """A run, from recipe to potential.

    Args:
        recipe: Recipe, its file, or a dict; None for that of the folder of a run that goes on.
        folder: Folder of the run; the recipe's `output` by default.
        teacher: Teacher in place of the recipe's: a name, a `Teacher`, or a function of a structure that makes a calculator.
        executor: Executor that labels, in place of processes; see `ExecutorLabels`.
        resume: Whether to go on with the run in the folder.
        overwrite: Whether to replace it.
        minutes: With `resume`, minutes to go on for, from now.
        labels: With `resume`, number of labels in all.
        on_line: Called with each line of progress.
        on_bar: Called with a name, the number done, the number of all, and a note.

    Raises:
        RecipeError: The recipe is wrong.
        OptionError: Options contradict each other.
    """

    def __init__(
        self,
        recipe: DistillationRecipe | Path | str | dict[str, Any] | None,
        folder: Path | str | None = None,
        *,
        teacher: str | Teacher | Callable[[Atoms], Any] | None = None,
        executor: Executor | None = None,
        resume: bool = False,
        overwrite: bool = False,
        minutes: float | None = None,
        labels: int | None = None,
        on_line: Line | None = None,
        on_bar: Bar | None = None,
    ) -> None:
        if resume and overwrite:
            raise OptionError("resume goes on with a run and overwrite replaces it; give one of them")
        if (minutes is not None or labels is not None) and not resume:
            raise OptionError("minutes and labels here are for a run that goes on; give resume=True, or the section budget")
        if recipe is None:
            if not (resume and folder):
                raise OptionError("there is no recipe; give one, or resume=True and the folder of a run")
            State.read(Path(folder))
            recipe = Path(folder) / "recipe.yaml"
        if isinstance(recipe, dict):
            recipe = parse_distillation(recipe, "recipe")
        self.recipe = recipe if isinstance(recipe, DistillationRecipe) else load_distillation(recipe)
        if folder is None and self.recipe.output is None:
            raise OptionError("there is no folder for the run; give output")
        self.folder = Path(folder) if folder is not None else self.recipe.resolve(str(self.recipe.output))
        self._teacher, self._executor = teacher, executor
        self._resume, self._overwrite = resume, overwrite
        self._minutes, self._labels = minutes, labels
        self._line: Line = on_line or (lambda text: None)
        self._bar: Bar = on_bar or (lambda what, done, total, note: None)

    def run(self) -> Distilled:
        """Carry out the run, or the rest of it.

        Raises:
            RecipeError: Structures cannot be read.
            OptionError: The teacher cannot label, or the budget is too small. Nothing was written.
            DatasetError: The folder holds another run.
            SimulationError: Too many labels failed, or another process runs in this folder.
            OSError: A file cannot be written; `--resume` goes on once it can.
            KeyboardInterrupt: Ctrl-C; `--resume` goes on.
        """
        recipe, began = self.recipe, time.monotonic()
        self._check_folder()
        systems = read_systems(recipe)
        teacher = teacher_for(recipe, self._teacher)
        want = wanted(recipe, systems)
        with ExitStack() as stack:
            labeller = stack.enter_context(labeller_for(recipe, teacher, self._executor))
            if self._resume:
                stack.enter_context(folder_lock(self.folder))
                state = State.read(self.folder)
                self._check_same(state)
                is_same_teacher(state, teacher, labeller, self._labels_file(0))
                self._extend(state)
            else:
                told = {
                    "name": teacher.name, "options": teacher.key, "version": labeller.version, "arguments": teacher.told,
                }  # fmt: skip
                seconds, probes = first_labels(labeller, teacher, systems, want, recipe.seed)
                planned(recipe, seconds, 1e-6, 1e-6)  # whether labels fit is known before a training is tried
                with tempfile.TemporaryDirectory(prefix="mlff-trial-") as trial:
                    plan = planned(recipe, seconds, *timed(recipe, probes, Path(trial), stress="stress" in want))
                self._line(plan.told(recipe))
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(folder_lock(self.folder))
                state = self._begin(told, plan, time.monotonic() - began)
            return _Run(self, state, systems, teacher, labeller, want).carry_out()

    def _check_folder(self) -> None:
        """Refuse a folder with another content."""
        folder = self.folder
        if self._resume:
            State.read(folder)
            return
        if folder.exists() and not folder.is_dir():
            raise OptionError(f"{folder} is a file; give another output")
        if (folder / NAME).exists() and not self._overwrite:
            raise OptionError(f"{folder} holds a distillation already; go on with --resume, replace it with --overwrite")
        if folder.is_dir() and not (folder / NAME).exists() and {one.name for one in folder.iterdir()} - {LOCK, *OWN}:
            raise OptionError(f"{folder} is not empty and holds no distillation; give another output")

    def _begin(self, told: dict[str, str], plan: Plan, seconds: float) -> State:
        """Make the folder of a new run; its record comes last."""
        for name in OWN:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        recipe = self.recipe
        whole = recipe.model_dump(mode="json", exclude_unset=True, exclude={"output"})
        whole["systems"]["files"] = [str(recipe.resolve(file)) for file in recipe.systems.files]
        write_whole(self.folder / "recipe.yaml", yaml.safe_dump(whole, sort_keys=False))
        (self.folder / "labels").mkdir()
        (self.folder / "students").mkdir()
        state = State(self.folder / NAME, {
            "format": FORMAT, "teacher": told, "fixed": recipe.fixed(), "plan": plan.plain(), "minutes": recipe.budget.minutes,
            "final_share": recipe.budget.final, "rounds": [], "seconds": {"plan": round(seconds, 3)}, "stopped": None, "finished": False,
        })  # fmt: skip
        state.save()
        return state

    def _check_same(self, state: State) -> None:
        """Refuse another recipe than that of the run."""
        old, new = state.plain["fixed"], self.recipe.fixed()
        changed = [
            f"{section}.{key} was {old[section].get(key)!r}, is {value!r}"
            for section, values in new.items() if isinstance(values, dict)
            for key, value in values.items() if old.get(section, {}).get(key) != value
        ]  # fmt: skip
        changed += [f"seed was {old['seed']}, is {new['seed']}"] if old["seed"] != new["seed"] else []
        if changed:
            raise DatasetError(
                f"the run in {self.folder} had another recipe: {'; '.join(changed)}. Undo the change to go on, or begin anew in "
                "another folder"
            )

    def _extend(self, state: State) -> None:
        """Give a run that goes on its new budget."""
        if state.plain["finished"] and self._minutes is None and self._labels is None:
            raise OptionError(f"the run in {self.folder} is finished; give minutes or labels to go on with it")
        plan = Plan.of_plain(state.plain["plan"])
        if self._minutes is not None:
            state.plain["minutes"] = round(state.used / 60.0 + self._minutes, 6)
        if self._labels is not None:
            state.plain["plan"] = plan.plain() | {"labels": self._labels}
        if state.plain["finished"]:
            more = max(1, self.recipe.budget.rounds)
            labels = max(plan.labels + more * (plan.batch + plan.audit), self._labels or 0)
            state.plain["plan"] |= {"rounds": len(state.rounds) - 1 + more, "labels": self._labels or labels}
            state.plain |= {"stopped": None, "finished": False}
            for name in ("final", "final-data", "final.yaml"):
                path = self.folder / "students" / name
                if path.is_dir():
                    shutil.rmtree(path)
        state.save()

    def _labels_file(self, number: int) -> Path:
        return self.folder / "labels" / f"round-{number:03d}.extxyz"


class _Run:
    """A run under its lock."""

    def __init__(
        self, given: Distillation, state: State, systems: Sequence[System], teacher: Teacher, labeller: Any, want: list[str]
    ) -> None:
        self.recipe, self.folder, self.state = given.recipe, given.folder, state
        self.systems, self.teacher, self.labeller, self.want = systems, teacher, labeller, want
        self.line, self.bar = given._line, given._bar
        self.plan = Plan.of_plain(state.plain["plan"])

    def carry_out(self) -> Distilled:
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
        students = self._train(number, train)
        with self.state.timed("judge"):
            entry, calibration = self._judge(number, train, outside, students)
        stop = self._stop_before(number, entry)
        if stop is None:
            with self.state.timed("explore"):
                chosen = self._explore(number, students, calibration, train, entry)
            stop = self._stop_after(entry, chosen)
            if stop is None:
                write_frames(self._todo(number + 1), chosen)
        self.state.rounds.append(entry)
        self.state.plain["stopped"] = stop
        self.state.save()
        self.line(_told(entry))
        if stop is not None:
            self.line(f"The rounds end: {stop}.")

    def _label(self, number: int) -> None:
        """Label the frames of a round, unless they are."""
        todo, path = self._todo(number), self._labels(number)
        if path.is_file():
            return
        if not todo.is_file():
            write_frames(todo, _without_copies(seed_frames(self.recipe, self.systems, self.plan.first), self.teacher.key, set()))
        told = self.state.plain["teacher"]
        kind = RoundLabels(
            self.labeller, self.want, {"teacher": told["name"], "version": told["version"], "options": told["options"]}, number,
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
                    self.recipe, train, folder, self._seed(number, member), data_name=f"round-{number:03d}-data",
                    steps=self.plan.steps, uncertainty=k == 1, stress="stress" in self.want,
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

    def _explore(
        self, number: int, students: Students, calibration: Calibration, train: Sequence[Atoms], entry: dict[str, Any]
    ) -> list[Atoms]:
        """Run trajectories, and choose frames for the next round."""
        section, random = self.recipe.explore, np.random.default_rng([self.recipe.seed, number])
        open_systems = [system for system in self.systems if not system.is_held_out]
        n, n_audit = section.replicas, max(2, section.replicas // 3)
        starts = []
        for k in range(n + n_audit):
            system = open_systems[k % len(open_systems)]
            atoms = strained(system, self.recipe.systems, random)
            atoms.info |= {"system": system.name}
            starts.append(atoms)
        self.bar(f"round {number}: dynamics", 0, 1, "")
        found = explore(students, starts, section, self.plan.md_steps, self._seed(number, 999))
        self.bar(f"round {number}: dynamics", 1, 1, "")
        bounds = calibration.bound(np.asarray(found.spreads))
        own = [k for k, atoms in enumerate(found.frames) if atoms.info["replica"] < n]
        audit = [k for k, atoms in enumerate(found.frames) if atoms.info["replica"] >= n]
        wanted_frames = {k for k in own if bounds[k] > self.recipe.tolerance}
        entry |= {"frames": len(own), "candidates": len(wanted_frames), "endings": dict(found.endings)}
        candidates = sorted(wanted_frames | (set(found.last) & set(own)))
        left = self.plan.labels - entry["labels"]
        n_drawn = min(self.plan.audit, left)
        drawn = [audit[k] for k in at_random(len(audit), n_drawn, random)]
        features = students.features([found.frames[k] for k in candidates])
        order = farthest_points(features, students.features(train), min(self.plan.batch, left - len(drawn)))
        chosen = [self._chosen(found.frames[candidates[k]], TRAIN, found.spreads[candidates[k]], bounds[candidates[k]])
                  for k in order]  # fmt: skip
        audits = [self._chosen(found.frames[k], AUDIT, found.spreads[k], bounds[k]) for k in drawn]
        if audits:
            forces, place = students.judge_frames(audits).forces, 0
            for atoms in audits:
                atoms.arrays[STUDENT_FRAMES] = forces[place : place + len(atoms)]
                place += len(atoms)
        known = {key_of(frame, self.teacher.key) for frame in self._frames(number)}
        return _without_copies([*chosen, *audits], self.teacher.key, known)

    def _chosen(self, atoms: Atoms, part: str, spread: float, bound: float) -> Atoms:
        """A frame with what is told of it."""
        info = atoms.info
        made = f"trajectory {info.pop('replica')} step {info.pop('step')} at {info.pop('temperature'):g} K"
        atoms.info = {"part": part, "system": info["system"], "made": made, "uncertainty": spread, "bound": float(bound)}
        atoms.info |= {"charge": info["charge"]} if "charge" in info else {}
        return atoms

    def _stop_before(self, number: int, entry: dict[str, Any]) -> str | None:
        """Why the rounds end before the dynamics of this one."""
        target = self.recipe.stop.target
        last = [*self.state.rounds[-1:], entry]
        errors = [one["audit"]["forces"] for one in last]
        if len(errors) == 2 and all(error is not None and error < target for error in errors):
            return f"the error on audit frames was below {target:g} eV/Angstrom in two rounds"
        if number >= self.plan.rounds:
            return f"{self.plan.rounds} rounds are done"
        if self.plan.labels - entry["labels"] < 2:
            return f"the budget of {self.plan.labels} labels is used"
        minutes = self.state.plain["minutes"]
        if minutes is not None:
            limit = 60.0 * minutes * (1.0 - self.state.plain["final_share"])
            per_round = self.state.used / (number + 1)
            if self.state.used + 0.5 * per_round > limit:
                return f"the rest of the {minutes:.4g} minutes is for the last training"
        return None

    def _stop_after(self, entry: dict[str, Any], chosen: Sequence[Atoms]) -> str | None:
        """Why the rounds end after the dynamics of this one."""
        least = self.recipe.stop.candidates
        last = [*self.state.rounds[-1:], entry]
        shares = [one["candidates"] / one["frames"] for one in last if one["frames"]]
        if len(shares) == 2 and max(shares) < least:
            return f"fewer than {least:.1%} of the frames were candidates in two rounds"
        if not chosen:
            return "the dynamics gave no frame to label"
        return None

    def _finish(self) -> Distilled:
        """Train what stays, and write what there is to say."""
        number = len(self.state.rounds) - 1
        result = finish(self.recipe, self.folder, self.state, self.plan, self.teacher, self._frames(number), self.want, self.line)
        write_report(self.folder, self.state, self.recipe)
        self.state.plain["finished"] = True
        self.state.save()
        return result

    def _frames(self, number: int) -> list[Atoms]:
        """Labelled frames of all rounds up to this one."""
        return [frame for k in range(number + 1) for frame in read_labels(self._labels(k))]

    def _seed(self, number: int, member: int) -> int:
        return int(np.random.SeedSequence([self.recipe.seed, number, member]).generate_state(1)[0]) >> 2

    def _todo(self, number: int) -> Path:
        return self.folder / "labels" / f"round-{number:03d}.todo.extxyz"

    def _labels(self, number: int) -> Path:
        return self.folder / "labels" / f"round-{number:03d}.extxyz"


def _without_copies(frames: Sequence[Atoms], options: str, known: set[bytes]) -> list[Atoms]:
    """Frames that are no copies of known ones or of each other, with the digits that they have in a file."""
    found, seen = [], set(known)
    for atoms in as_in_file(frames):
        key = key_of(atoms, options)
        if key not in seen:
            seen.add(key)
            found.append(atoms)
    return found


def _covered(atoms: Atoms) -> bool:
    """Whether the error of the students that found an audit frame was below the bound that was told for it."""
    away = atoms.arrays[STUDENT_FRAMES] - atoms.get_forces(apply_constraint=False)
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


