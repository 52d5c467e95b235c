"""The teacher of a run at work: its processes or executor, the first labels, and whether it is still the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.distillation.answers import Labeller
from mlff_calc.distillation.checks import checked, energies_fit, first_label, probes
from mlff_calc.distillation.executors import ExecutorLabels
from mlff_calc.distillation.labels import REPEATED, SAME_ENERGY, read_labels
from mlff_calc.distillation.processes import TeacherProcesses
from mlff_calc.distillation.recipe import DistillationRecipe
from mlff_calc.distillation.seeds import System
from mlff_calc.distillation.state import State
from mlff_calc.distillation.teachers import Teacher, teacher_of
from mlff_calc.errors import DatasetError, OptionError, SimulationError

RATTLE = 0.05
"""Standard deviation of the displacements of the first structure that is labelled, Angstrom."""
TRIES = 3
"""Number of structures one of which the teacher must label before anything begins."""


def teacher_for(recipe: DistillationRecipe, given: str | Teacher | Callable[[Atoms], Any] | None) -> Teacher:
    """The teacher of a recipe, or one that is given in its place.

    Raises:
        OptionError: There is none, or two, or see `teacher_of`.
    """
    section = recipe.teacher
    named = section.name or section.python
    if given is not None and named is not None:
        raise OptionError(f"the recipe has the teacher {named}, and another one is given; keep one of them")
    if given is None and named is None:
        raise OptionError(f"{recipe.origin}: there is no teacher; give teacher.name or teacher.python")
    if isinstance(given, Teacher):
        teacher = given
    elif given is not None:
        teacher = teacher_of(given, section.options, section.environment)
    else:
        beside = recipe.resolve(str(named))
        teacher = teacher_of(str(beside) if beside.is_dir() else str(named), section.options, section.environment)
    if recipe.label.retries and not isinstance(teacher.factory, str):
        raise OptionError("label.retries are options of a teacher by name, and this one is a function; leave them out")
    return teacher if recipe.label.retries is None else replace(teacher, retries=tuple(recipe.label.retries))


@contextmanager
def labeller_for(recipe: DistillationRecipe, teacher: Teacher, executor: Executor | None) -> Iterator[Labeller]:
    """What labels: processes; an executor; or, for a function, a thread of this process."""
    label = recipe.label
    if executor is not None:
        yield ExecutorLabels(teacher, executor, label.workers, label.timeout)
    elif not isinstance(teacher.factory, str):
        if label.workers > 1:
            raise OptionError(
                f"label.workers is {label.workers}, and a teacher that is a function labels one structure after another; "
                "leave it out, give an executor, or name the function as module:function"
            )
        threads = ThreadPoolExecutor(1)
        try:
            yield ExecutorLabels(teacher, threads, 1, label.timeout)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)  # a function that hangs is not waited for
    else:
        with TeacherProcesses(teacher, label.workers, label.timeout) as processes:
            yield processes


def wanted(recipe: DistillationRecipe, systems: Sequence[System]) -> list[str]:
    """Which labels are asked for."""
    stress = recipe.label.stress
    if stress == "auto":
        stress = all(system.starts[0].pbc.all() for system in systems)
    elif stress and not all(system.starts[0].pbc.all() for system in systems):
        raise OptionError(
            f"{recipe.origin}: label.stress is true, and there are structures without three periodic directions, which have "
            "none; leave it out"
        )
    return ["energy", "forces"] + (["stress"] if stress else [])


def first_labels(
    labeller: Labeller, teacher: Teacher, systems: Sequence[System], want: Sequence[str], seed: int
) -> tuple[float, list[Atoms]]:
    """Label one structure and two beside it, and one of each system with further elements, and look at units and signs.

    Returns:
        Seconds for a label, and the labelled structures.

    Raises:
        OptionError: The teacher cannot label them, or its energies and forces do not fit together.
    """
    random = np.random.default_rng(seed)
    middle = sorted(systems, key=lambda one: len(one.starts[0]))[len(systems) // 2].starts[0]
    for attempt in range(TRIES):
        try:
            seconds, found = _three(labeller, teacher, _rattled(middle, random), want)
            break
        except SimulationError as error:  # a teacher may fail for one structure
            if attempt == TRIES - 1:
                raise OptionError(str(error)) from error
    known = set(middle.numbers.tolist())
    for system in systems:
        new = set(system.starts[0].numbers.tolist()) - known
        if new:
            known |= new
            try:
                found.append(_one(labeller, teacher, _rattled(system.starts[0], random), want))
            except SimulationError as error:
                raise OptionError(str(error)) from error
    return seconds, found


def _rattled(atoms: Atoms, random: np.random.Generator) -> Atoms:
    copy = atoms.copy()
    copy.positions += random.normal(scale=RATTLE, size=copy.positions.shape)
    return copy


def _three(labeller: Labeller, teacher: Teacher, start: Atoms, want: Sequence[str]) -> tuple[float, list[Atoms]]:
    """A structure and two beside it, with the time for one of these.

    Raises:
        SimulationError: One has no label.
        OptionError: Units, shapes or signs are wrong.
    """
    first = _one(labeller, teacher, start, want, is_first=True)
    moved, work = probes(start, first.get_forces())
    began = time.monotonic()
    others = [_one(labeller, teacher, atoms, want) for atoms in moved]
    seconds = max(0.5 * (time.monotonic() - began), 1e-5)
    energies_fit(work, [atoms.get_potential_energy() for atoms in others], teacher.name)
    return seconds, [first, *others]


def _one(labeller: Labeller, teacher: Teacher, atoms: Atoms, want: Sequence[str], *, is_first: bool = False) -> Atoms:
    """One labelled structure.

    Raises:
        SimulationError: It has no label.
        OptionError: Its label is none, or none can be expected.
    """
    (answer,) = list(labeller.answers([(0, atoms)], want))
    formula = atoms.get_chemical_formula()
    if answer.label is None:
        text = f"teacher {teacher.name} gives no label for {formula}: {answer.problem}"
        if "stress" in want and "stress" in str(answer.problem).lower():
            raise OptionError(f"{text}; crystals need stresses: take a teacher that has them, or set label.stress: false")
        if "no answer within" in str(answer.problem):
            raise OptionError(f"{text}; give a longer label.timeout")
        raise SimulationError(text)
    try:
        if is_first:
            first_label({"forces": np.asarray(answer.label["forces"], dtype=np.float64)}, teacher.name)
        found = checked(atoms, answer.label, want)
    except (OptionError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, OptionError) and "first label" in str(error):
            raise
        raise OptionError(
            f"teacher {teacher.name} gives no usable label for {formula}: {error}; a calculator of ASE returns an "
            "energy in eV, "
            "forces [n_atoms, 3] in eV/Angstrom and six components of the stress in eV/Angstrom^3"
        ) from error
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, **found)
    return copy


def is_same_teacher(state: State, teacher: Teacher, labeller: Labeller, labels: Path) -> None:
    """Check that a run goes on with the teacher that it began with.

    Args:
        state: Record.
        teacher: The present teacher.
        labeller: What labels by it.
        labels: File of the first labels, of which a few are made again.

    Raises:
        DatasetError: Teacher, options or version are others.
        SimulationError: The same structures have other energies.
    """
    before = state.plain["teacher"]
    now = {"name": teacher.name, "options": teacher.key, "version": labeller.version}
    told = {"name": teacher.name, "options": teacher.told, "version": labeller.version}
    for what, value in now.items():
        if before[what] != value:
            old = before["arguments" if what == "options" else what]
            raise DatasetError(
                f"{state.path.parent} was begun with another teacher, {old}, which is now {told[what]}. Labels of "
                "two teachers do "
                "not mix: give the first one again, or begin anew in another folder"
            )
    frames = read_labels(labels)[:REPEATED]
    for answer in labeller.answers(list(enumerate(frames)), ["energy", "forces"]):
        old = frames[answer.number].get_potential_energy()
        new, problem = None, answer.problem
        if answer.label is not None:
            try:
                new = float(checked(frames[answer.number], answer.label, ["energy", "forces"])["energy"])
            except OptionError as error:
                problem = str(error)
        if new is None or not abs(new - old) <= SAME_ENERGY:
            said = problem if new is None else f"{new:.8f} eV in place of {old:.8f} eV"
            raise SimulationError(
                f"teacher {teacher.name} has changed: frame {answer.number} of {labels} now gives {said}. Labels of "
                "a run must "
                "come from one teacher: restore its version and options, or begin anew in another folder"
            )
