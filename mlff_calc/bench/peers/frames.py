"""Frames that all programs get: moving atoms for timings, and labelled frames for training and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlff_calc.bench.motion import moving_frames
from mlff_calc.bench.systems import build_system
from mlff_calc.datasets import Sample
from mlff_calc.errors import BenchmarkError
from mlff_calc.training.frames.read import read_frames
from mlff_calc.training.potential.recipe import PotentialRecipe

BOX_MARGIN = 20.0  # width added to the extent of a molecule for its box, Angstrom; larger: more vacuum


def write_motion(system: str, folder: Path, n_frames: int) -> Path:
    """Write `n_frames` frames of moving atoms of a system to `folder`/SYSTEM.npz, and return the path."""
    atoms = build_system(system)
    path = folder / f"{system}.npz"
    folder.mkdir(parents=True, exist_ok=True)
    save_frames(path, atoms, moving_frames(atoms, n_frames))
    return path


def save_frames(path: Path, atoms: Atoms, positions: np.ndarray, **labels: np.ndarray) -> None:
    """Write positions [n, n_atoms, 3] (Angstrom) and labels (eV, eV/Angstrom) in the format of the workers."""
    arrays: dict[str, Any] = {**labels, "numbers": atoms.numbers, "cell": atoms.cell.array, "pbc": atoms.pbc}
    np.savez(path, positions=positions, **arrays)


def boxed(atoms: Atoms) -> Atoms:
    """Give a structure without a cell a wide box, since NequIP always divides by the volume."""
    if not atoms.pbc.any() and atoms.cell.rank < 3:
        atoms.set_cell(np.ptp(atoms.positions, axis=0) + BOX_MARGIN)
    return atoms


def write_random_labels(atoms: Atoms, path: Path, n_frames: int = 4) -> None:
    """Write frames with random labels, for a training whose only purpose is a model of the right size."""
    rng = np.random.default_rng(0)
    frames = []
    for positions in moving_frames(atoms, n_frames):
        frame = boxed(Atoms(atoms.numbers, positions, cell=atoms.cell, pbc=atoms.pbc))
        forces = rng.normal(0.0, 0.5, positions.shape)
        frame.calc = SinglePointCalculator(frame, energy=float(rng.normal(-4.0 * len(atoms), 0.1)), forces=forces)
        frames.append(frame)
    write(path, frames, format="extxyz")


def write_parts(recipe: PotentialRecipe, folder: Path) -> dict[str, Path]:
    """Write the frames of a recipe to files for all programs.

    Args:
        recipe: Recipe that names the frames and their parts, including a test part.
        folder: Folder of the files.

    Returns:
        Paths `train`, `validation` and `test` of extxyz files, in eV and Angstrom.

    Raises:
        BenchmarkError: There is no test part, or a frame lacks energy or forces.
        RecipeError, DatasetError: The data cannot be read.
    """
    parts = read_frames(recipe)
    if "test" not in parts:
        raise BenchmarkError(f"{recipe.origin}: there is no test part to judge by; add data.test")
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for part, name in (("train", "train"), ("valid", "validation"), ("test", "test")):
        paths[name] = folder / f"{name}.extxyz"
        write(paths[name], [_labelled(sample) for sample in parts[part].samples], format="extxyz")
    return paths


def _labelled(sample: Sample) -> Atoms:
    if sample.energy is None or sample.forces is None:
        raise BenchmarkError(f"{sample.path}, frame {sample.frame}: peers need an energy and forces; leave the frame out")
    frame = boxed(sample.atoms.copy())
    frame.info, frame.arrays = {}, {name: frame.arrays[name] for name in ("numbers", "positions")}
    frame.calc = SinglePointCalculator(frame, energy=sample.energy, forces=sample.forces)
    return frame
