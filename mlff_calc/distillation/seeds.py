"""Frames to begin with: structures of systems, rattled and strained, and dynamics of molecules of SMILES by MMFF94.

Of a single system, frames of a draw of their own are held out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from mlff_calc.distillation.recipe import DistillationRecipe
from mlff_calc.distillation.sections import SystemsSection
from mlff_calc.distillation.systems import System
from mlff_calc.distillation.warm import warm_frames

TRAIN, HELD_OUT, AUDIT = "train", "held_out", "audit"
"""Parts of frames."""


def seed_frames(recipe: DistillationRecipe, systems: Sequence[System], n_frames: int) -> list[Atoms]:
    """Frames of round 0.

    Args:
        recipe: Recipe.
        systems: Systems.
        n_frames: Number of frames of all systems together, about.

    Returns:
        Frames with `part`, `system` and `made` in `info`.
    """
    each = max(2, n_frames // len(systems))
    each = min(each, recipe.systems.frames or each)
    frames: list[Atoms] = []
    for system in systems:
        part = HELD_OUT if system.is_held_out else TRAIN
        frames += _frames_of(system, recipe.systems, each, part, recipe.seed)
    if not any(system.is_held_out for system in systems):
        n_out = max(2, round(recipe.systems.held_out * each))
        frames = []
        for system in systems:
            learned, kept = _parts_of(system, recipe.systems.held_out)
            frames += _frames_of(learned, recipe.systems, max(2, each - n_out), TRAIN, recipe.seed)
            frames += _frames_of(kept, recipe.systems, n_out, HELD_OUT, recipe.seed, 1)
    return frames


def _parts_of(system: System, share: float) -> tuple[System, System]:
    """A system with the structures to learn from, and with those that are held out: others, where there are several."""
    n = len(system.starts)
    n_out = min(max(1, round(share * n)), n - 1)
    if n_out < 1:
        return system, system
    out = {round((k + 0.5) * n / n_out - 0.5) for k in range(n_out)}
    parts = [[one for k, one in enumerate(system.starts) if (k in out) is held] for held in (False, True)]
    return System(system.name, parts[0], system.mol), System(system.name, parts[1], system.mol)


def _frames_of(system: System, section: SystemsSection, n: int, part: str, seed: int, draw: int = 0) -> list[Atoms]:
    """Frames of a system from a generator of its own; the structures as they are come first, unless it is another draw."""
    digest = hashlib.sha256(f"{seed} {system.name} {draw}".encode()).digest()
    random = np.random.default_rng(list(digest))
    n_starts = len(system.starts)
    spread = max(1.0, n_starts / n)  # few frames of many structures are taken from all over
    turns = [k // n_starts for k in range(n)]
    if system.mol is not None:
        warm = iter(warm_frames(
            system.mol, system.starts, section.temperatures, sum(turn % 4 > 0 for turn in turns), int(random.integers(2**31))
        ))  # fmt: skip
    frames = []
    for k, turn in enumerate(turns):
        atoms, made = system.starts[int(k * spread) % n_starts].copy(), "given"
        if system.mol is not None and turn % 4:
            atoms, temperature = next(warm)
            made = f"MMFF94 {temperature:g} K"
        elif turn or draw:
            made = _changed(atoms, section, turn, random)
        atoms.info |= {"part": part, "system": system.name, "made": made}
        frames.append(atoms)
    return frames


def _changed(atoms: Atoms, section: SystemsSection, turn: int, random: np.random.Generator) -> str:
    """Rattle a structure, and strain it if it is a crystal; returns how it was made."""
    made = ["strained"] if _strain(atoms, section, random) else []
    width = section.rattle[turn % len(section.rattle)]
    atoms.positions += random.normal(scale=width, size=atoms.positions.shape)
    return " ".join([*made, f"rattled {width:g}"])


def _strain(atoms: Atoms, section: SystemsSection, random: np.random.Generator) -> bool:
    """Strain the cell of a crystal; whether it is one."""
    if not (atoms.pbc.all() and section.strain):
        return False
    strain = random.uniform(-section.strain, section.strain, size=(3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
    return True


def strained(system: System, section: SystemsSection, random: np.random.Generator) -> Atoms:
    """A structure in which a trajectory begins: one of the system's, a crystal in a strained cell."""
    atoms = system.starts[int(random.integers(len(system.starts)))].copy()
    _strain(atoms, section, random)
    return atoms
