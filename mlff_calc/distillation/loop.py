"""Distillation: the beginning of a run, and the conditions on which one goes on."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from ase import Atoms

from mlff_calc.distillation.labels import labels_file
from mlff_calc.distillation.plan import AUDIT, FIRST, LEAST_AUDIT, Plan, planned
from mlff_calc.distillation.recipe import DistillationRecipe, load_distillation, parse_distillation
from mlff_calc.distillation.result import Distilled
from mlff_calc.distillation.rounds import Bar, Line, Rounds
from mlff_calc.distillation.state import CLOCK, FORMAT, NAME, State
from mlff_calc.distillation.systems import read_systems
from mlff_calc.distillation.teachers import Teacher
from mlff_calc.distillation.teaching import first_labels, is_same_teacher, labeller_for, teacher_for, wanted
from mlff_calc.distillation.training import timed
from mlff_calc.errors import DatasetError, OptionError
from mlff_calc.locks import LOCK, folder_lock
from mlff_calc.whole_files import write_whole

OWN = ("labels", "students", "potential", NAME, CLOCK, "recipe.yaml", "report.html", "failed.extxyz")
"""What a run writes into its folder."""


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
        if minutes is not None and not 0.0 < minutes < math.inf:
            raise OptionError(f"minutes is {minutes}; give a positive number")
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
                state.add_lost_time()
                self._check_same(state)
                is_same_teacher(state, teacher, labeller, labels_file(self.folder, 0))
                self._extend(state)
            else:
                told = {
                    "name": teacher.name, "options": teacher.key, "version": labeller.version, "arguments": teacher.told,
                }  # fmt: skip
                seconds, probes = first_labels(labeller, teacher, systems, want, recipe.seed)
                fits = planned(recipe, seconds, 1e-6, 1e-6)  # whether labels fit is known before a training is tried
                if 2 * len(systems) > fits.labels:
                    raise OptionError(
                        f"there are {len(systems)} systems, two labels of each are the least, and {fits.labels} labels fit "
                        "into the budget; give a larger one, or fewer systems"
                    )
                with tempfile.TemporaryDirectory(prefix="mlff-trial-") as trial:
                    plan = planned(recipe, seconds, *timed(recipe, probes, Path(trial), stress="stress" in want))
                self._line(plan.told(recipe))
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(folder_lock(self.folder))
                self._check_folder()  # again, as another run may have been here
                state = self._begin(told, plan, time.monotonic() - began)
            rounds = Rounds(
                recipe, self.folder, state, systems, teacher, labeller, want, on_line=self._line, on_bar=self._bar
            )
            return rounds.carry_out()

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
        for name in () if self._overwrite or (folder / NAME).exists() else ("labels", "students", "potential"):
            if (folder / name).is_dir() and any((folder / name).iterdir()):
                raise OptionError(
                    f"{folder / name} is there, and no record of a distillation beside it; give another output, or replace "
                    "it with --overwrite"
                )
        there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            raise OptionError(f"{folder} cannot be made, as {there} cannot be written to; give another output")

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
        named = recipe.teacher.name
        if named is not None and recipe.resolve(named).is_dir():
            whole["teacher"]["name"] = str(recipe.resolve(named))
        write_whole(self.folder / "recipe.yaml", yaml.safe_dump(whole, sort_keys=False))
        (self.folder / "labels").mkdir()
        (self.folder / "students").mkdir()
        state = State(self.folder / NAME, {
            "format": FORMAT, "teacher": told, "fixed": recipe.fixed(), "budget": recipe.budget.model_dump(),
            "plan": plan.plain(), "rounds": [],
            "minutes": recipe.budget.minutes, "limit": _limit(recipe, 0.0, recipe.budget.minutes),
            "seconds": {"plan": round(seconds, 3)},
            "stopped": None, "finished": False,
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
        given = {"minutes": self._minutes, "labels": self._labels}
        changed += [
            f"budget.{key} was {value!r}, is {getattr(self.recipe.budget, key)!r} (give more minutes or labels as options)"
            for key, value in state.plain.get("budget", {}).items()
            if given.get(key) is None and getattr(self.recipe.budget, key) != value
        ]
        if changed:
            raise DatasetError(
                f"the run in {self.folder} had another recipe: {'; '.join(changed)}. Undo the change to go on, or "
                "begin anew in "
                "another folder"
            )

    def _extend(self, state: State) -> None:
        """Give a run that goes on its new budget."""
        if state.plain["finished"] and self._minutes is None and self._labels is None:
            raise OptionError(f"the run in {self.folder} is finished; give minutes or labels to go on with it")
        plan, limit = Plan.of_plain(state.plain["plan"]), state.plain["limit"]
        made = int(state.rounds[-1]["labels"]) if state.rounds else 0
        if self._labels is not None and self._labels <= made:
            raise OptionError(f"labels is {self._labels}, and {made} are there already in {self.folder}; give more")
        if self._labels is not None and self._minutes is None and limit is not None and state.used >= limit:
            raise OptionError(
                f"the {state.plain['minutes']:.4g} minutes of the run in {self.folder} are used, so that no time is left "
                "for more labels and another last training; give minutes too"
            )
        if self._minutes is not None:
            state.plain["minutes"] = round(state.used / 60.0 + self._minutes, 6)
            state.plain["limit"] = _limit(self.recipe, state.used, self._minutes)
        if self._labels is not None:
            state.plain["plan"] = plan.plain() | {"labels": self._labels}
        if state.plain["finished"]:
            more, each = max(1, self.recipe.budget.rounds), {"batch": plan.batch, "audit": plan.audit}
            if not plan.batch:  # it was planned without rounds
                each = {"batch": max(LEAST_AUDIT, round(FIRST * plan.labels)), "audit": LEAST_AUDIT}
            labels = plan.labels + more * sum(each.values()) if self._labels is None else self._labels
            if (size := (labels - made) // more) > sum(each.values()):  # so many that rounds must be larger
                audit = max(LEAST_AUDIT, round(AUDIT * size))
                each = {"batch": size - audit, "audit": audit}
            state.rounds.pop()  # its frames and students are there, and its dynamics are still to come
            state.plain["plan"] |= {**each, "rounds": len(state.rounds) + more, "labels": labels}
            state.plain |= {"stopped": None, "finished": False}
            for name in ("final", "final-data", "final.yaml"):
                path = self.folder / "students" / name
                if path.is_dir():
                    shutil.rmtree(path)
        state.save()


def _limit(recipe: DistillationRecipe, used: float, minutes: float | None) -> float | None:
    """Seconds at which the rounds end, so that the last training has its share of further minutes; None without a limit."""
    return None if minutes is None else round(used + 60.0 * minutes * (1.0 - recipe.budget.final), 3)
