"""The frames of the next round: trajectories of the students, the frames of large errors among theirs, and an audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from mlff_calc.distillation.calibration import Calibration
from mlff_calc.distillation.choice import at_random, farthest_points
from mlff_calc.distillation.explore import explore
from mlff_calc.distillation.labels import as_in_file, key_of
from mlff_calc.distillation.plan import Plan
from mlff_calc.distillation.recipe import DistillationRecipe
from mlff_calc.distillation.seeds import AUDIT, TRAIN, System, strained
from mlff_calc.distillation.students import Students

STUDENT_FORCES = "student_forces"
"""Array of audit frames: forces of the students that found them, eV/Angstrom."""
_DYNAMICS = 999


def next_frames(
    recipe: DistillationRecipe,
    plan: Plan,
    systems: Sequence[System],
    students: Students,
    calibration: Calibration,
    train: Sequence[Atoms],
    entry: dict[str, Any],
) -> list[Atoms]:
    """Run trajectories, and choose frames.

    Args:
        recipe: Recipe.
        plan: Numbers of frames and steps.
        systems: Systems; trajectories begin in those that are not held out.
        students: What gives the forces.
        calibration: What gives the bounds of errors.
        train: Frames that are known.
        entry: Record of the round, in which counts are noted; its `round` and `labels` are read.

    Returns:
        Frames, those of the audit last and with the forces of the students.
    """
    section, number = recipe.explore, int(entry["round"])
    ladder = [min(section.temperatures)] if is_cool(number, plan) else section.temperatures
    random = np.random.default_rng([recipe.seed, number])
    open_systems = [system for system in systems if not system.is_held_out]
    n, starts, temperatures = section.replicas, list[Atoms](), list[float]()
    for some in (n, max(2, n // 3)):
        for place, rung in turns(some, len(open_systems), len(ladder), random):
            atoms = strained(open_systems[place], recipe.systems, random)
            atoms.info["system"] = open_systems[place].name
            starts.append(atoms)
            temperatures.append(ladder[rung])
    section = section.model_copy(update={"temperatures": temperatures})
    found = explore(students, starts, section, plan.md_steps, seed_of(recipe.seed, number, _DYNAMICS))
    bounds = calibration.bound(np.asarray(found.spreads))
    own = [k for k, atoms in enumerate(found.frames) if atoms.info["replica"] < n]
    audit = [k for k, atoms in enumerate(found.frames) if atoms.info["replica"] >= n]
    large = {k for k in own if bounds[k] > recipe.tolerance}
    entry |= {"frames": len(own), "candidates": len(large), "endings": dict(found.endings)}
    candidates = sorted(large | (set(found.last) & set(own)))
    left = plan.labels - int(entry["labels"])
    drawn = [audit[k] for k in at_random(len(audit), min(plan.audit, left), random)]
    features = students.features([found.frames[k] for k in candidates])
    order = farthest_points(features, students.features(train), min(plan.batch, left - len(drawn)))
    chosen = [(candidates[k], TRAIN) for k in order] + [(k, AUDIT) for k in drawn]
    frames = [_chosen(found.frames[k], part, found.spreads[k], float(bounds[k])) for k, part in chosen]
    audits, place = frames[len(order) :], 0
    forces = students.judge_frames(audits).forces if audits else np.zeros((0, 3))
    for atoms in audits:
        atoms.arrays[STUDENT_FORCES] = forces[place : place + len(atoms)]
        place += len(atoms)
    return frames


def turns(n: int, n_systems: int, n_temperatures: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """System and temperature of each of n trajectories: systems in a random order, each at all temperatures in turn."""
    order = random.permutation(n_systems)
    return [(int(order[k % n_systems]), (k // n_systems + k % n_systems) % n_temperatures) for k in range(n)]


def is_cool(number: int, plan: Plan) -> bool:
    """Whether the trajectories of a round stay at the lowest temperature, as those of the first of several rounds."""
    return number == 0 and plan.rounds > 1


def _chosen(atoms: Atoms, part: str, spread: float, bound: float) -> Atoms:
    """A frame with what is told of it."""
    info = atoms.info
    made = f"trajectory {info['replica']} step {info['step']} at {info['temperature']:g} K"
    atoms.info = {"part": part, "system": info["system"], "made": made, "uncertainty": spread, "bound": bound}
    atoms.info |= {"charge": info["charge"]} if "charge" in info else {}
    return atoms


def without_copies(frames: Sequence[Atoms], options: str, known: set[bytes]) -> list[Atoms]:
    """Frames that are no copies of known ones or of each other, with the digits that they have in a file."""
    found, seen = [], set(known)
    for atoms in as_in_file(frames):
        key = key_of(atoms, options)
        if key not in seen:
            seen.add(key)
            found.append(atoms)
    return found


def seed_of(seed: int, number: int, what: int) -> int:
    """Seed of a part of a round."""
    return int(np.random.SeedSequence([seed, number, what]).generate_state(1)[0]) >> 2
