"""The frames every program gets: moving atoms for timings, labelled ones for training and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlff_calc.bench.motion import moving_frames
from mlff_calc.bench.systems import build_system

KCAL_PER_MOL = units.kcal / units.mol  # eV
N_FIT, N_VALIDATION = 950, 50
BOX_MARGIN = 20.0  # Angstrom


def write_motion(system: str, folder: Path, n_frames: int) -> Path:
    """Write `n_frames` frames of a system's motion to `folder`/SYSTEM.npz and return the path."""
    atoms = build_system(system)
    path = folder / f"{system}.npz"
    folder.mkdir(parents=True, exist_ok=True)
    save_frames(path, atoms, moving_frames(atoms, n_frames))
    return path


def save_frames(path: Path, atoms: Atoms, positions: np.ndarray, **labels: np.ndarray) -> None:
    """Write positions [n, n_atoms, 3] (Angstrom) and labels (eV, eV/Angstrom) as the workers read them."""
    arrays: dict[str, Any] = {**labels, "numbers": atoms.numbers, "cell": atoms.cell.array, "pbc": atoms.pbc}
    np.savez(path, positions=positions, **arrays)


def boxed(atoms: Atoms) -> Atoms:
    """The structure, in a wide box where it has none: NequIP divides by the volume also where nothing is periodic."""
    if not atoms.pbc.any() and atoms.cell.rank < 3:
        atoms.set_cell(np.ptp(atoms.positions, axis=0) + BOX_MARGIN)
    return atoms


def write_random_labels(atoms: Atoms, path: Path, n_frames: int = 4) -> None:
    """Write frames with random labels, for a training that only has to make a model of the right shape."""
    rng = np.random.default_rng(0)
    frames = []
    for positions in moving_frames(atoms, n_frames):
        frame = boxed(Atoms(atoms.numbers, positions, cell=atoms.cell, pbc=atoms.pbc))
        forces = rng.normal(0.0, 0.5, positions.shape)
        frame.calc = SinglePointCalculator(frame, energy=float(rng.normal(-4.0 * len(atoms), 0.1)), forces=forces)
        frames.append(frame)
    write(path, frames, format="extxyz")


def write_ethanol(source: Path, folder: Path) -> dict[str, Path]:
    """Split rMD17 ethanol as all programs get it: 950 to fit, 50 to validate, 500 to test.

    Args:
        source: rmd17/ethanol.npz, split 01 (kcal/mol, Angstrom).
        folder: where the files go.

    Returns:
        Paths `train` and `validation` (extxyz) and `test` (npz for the workers), all in eV and Angstrom.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {part: folder / f"{part}.extxyz" for part in ("train", "validation")}
    with np.load(source) as data:
        fit = [_labelled(data, "train", index) for index in range(N_FIT + N_VALIDATION)]
        test = {
            part: np.asarray(data[f"{key}_test"], dtype=float) for part, key in (("r", "R"), ("e", "E"), ("f", "F"))
        }
        atoms = Atoms(data["z"], test["r"][0])
    write(paths["train"], fit[:N_FIT], format="extxyz")
    write(paths["validation"], fit[N_FIT:], format="extxyz")
    paths["test"] = folder / "test.npz"
    labels = {"energy": test["e"].reshape(-1) * KCAL_PER_MOL, "forces": test["f"] * KCAL_PER_MOL}
    save_frames(paths["test"], atoms, test["r"], **labels)
    return paths


def _labelled(data: np.lib.npyio.NpzFile, part: str, index: int) -> Atoms:
    frame = boxed(Atoms(data["z"], np.asarray(data[f"R_{part}"][index], dtype=float)))
    energy = float(np.asarray(data[f"E_{part}"]).reshape(-1)[index]) * KCAL_PER_MOL
    forces = np.asarray(data[f"F_{part}"][index], dtype=float) * KCAL_PER_MOL
    frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
    return frame
