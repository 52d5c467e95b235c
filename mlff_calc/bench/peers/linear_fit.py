"""Fit of a linear model to energies and forces: ridge regression whose strength is chosen on validation frames.

This module is imported in the environment of a peer and needs only numpy and ASE. The scripts `*_fit.py` supply the design
matrix of a model:

    python ace_fit.py TRAIN.extxyz VALIDATION.extxyz OPTIONS OUTPUT.json

OPTIONS is a JSON object with a list `cutoffs`, each of which is tried. Reference energies per element are fitted first. The
row of an energy (per atom) is multiplied by `ENERGY_WEIGHT`, those of force components are not. Every strength of the ridge
is tried, with original columns and with columns scaled to equal size. The model with the smallest weighted error on the
validation frames is written, with its options and the reference energies in OUTPUT.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import read

ENERGY_WEIGHT = 30.0
"""Weight of an energy per atom (eV) beside that of a force component (eV/Angstrom); larger values favour energies."""
STRENGTHS = 10.0 ** np.arange(-9.0, 4.0)
"""Strengths of the ridge that are tried; larger values make smaller coefficients."""

Rows = Callable[[list[Any], list[str], float], np.ndarray]
"""Design matrix of frames, elements and a cutoff: energies per atom, then forces by frame, atom and axis."""


@dataclass(frozen=True)
class Part:
    """Rows of the design matrix for some frames, with their targets.

    Attributes:
        design: Design matrix [n_rows, n_columns]; its first rows are those of the energies.
        target: Energies per atom above the references (eV), then force components (eV/Angstrom) [n_rows].
        n_energies: Number of energies.
    """

    design: np.ndarray
    target: np.ndarray
    n_energies: int


@dataclass(frozen=True)
class Fit:
    """A fitted model.

    Attributes:
        coefficients: Coefficients [n_columns].
        constant: Energy per atom that is added to that of the model, eV.
        strength: Strength of the ridge.
        scaled: Whether columns were scaled to equal size for the ridge.
        error: Weighted root mean square error on the validation frames.
    """

    coefficients: np.ndarray
    constant: float
    strength: float
    scaled: bool
    error: float


def main(rows: Rows, write: Callable[[Path, list[str], float, np.ndarray], None]) -> None:
    """Read the command line, fit the model, and write it.

    Args:
        rows: Function that returns the design matrix.
        write: Function that writes the model, given the path of OUTPUT, elements, cutoff and coefficients.
    """
    parts = [read(name, ":") for name in sys.argv[1:3]]
    output = Path(sys.argv[4])
    symbols = sorted({symbol for atoms in parts[0] for symbol in atoms.get_chemical_symbols()})
    energies = np.array([atoms.get_potential_energy() for atoms in parts[0]])
    references = np.linalg.lstsq(_counts(parts[0], symbols), energies, rcond=None)[0]
    fits: dict[float, Fit] = {}
    for cutoff in json.loads(sys.argv[3])["cutoffs"]:
        train, validation = (
            Part(rows(frames, symbols, cutoff), _target(frames, symbols, references), len(frames)) for frames in parts
        )
        fits[cutoff] = found = fit_ridge(train, validation)
        sys.stdout.write(f"cutoff {cutoff}: {found.error:.6g} (strength {found.strength:g}, scaled {found.scaled})\n")
    cutoff, found = min(fits.items(), key=lambda item: item[1].error)
    write(output, symbols, cutoff, found.coefficients)
    chosen = {
        "cutoff": cutoff, "strength": found.strength, "scaled": found.scaled, "validation_error": found.error,
        "references": dict(zip(symbols, (references + found.constant).tolist(), strict=True)),
    }  # fmt: skip
    output.write_text(json.dumps(chosen), encoding="utf-8")


def _counts(frames: list[Any], symbols: list[str]) -> np.ndarray:
    return np.array([[atoms.get_chemical_symbols().count(symbol) for symbol in symbols] for atoms in frames])


def _target(frames: list[Any], symbols: list[str], references: np.ndarray) -> np.ndarray:
    """Return the targets of the rows: energies per atom above the references, then force components."""
    energies = np.array([atoms.get_potential_energy() for atoms in frames]) - _counts(frames, symbols) @ references
    per_atom = energies / [len(atoms) for atoms in frames]
    return np.concatenate([per_atom, *(atoms.get_forces().ravel() for atoms in frames)])


def fit_ridge(train: Part, validation: Part) -> Fit:
    """Return the fit with the smallest weighted error on the validation frames, over all strengths and both scalings.

    Raises:
        ValueError: No fit has finite errors.
    """
    energies = slice(0, train.n_energies)
    middle, mean = train.design[energies].mean(0), train.target[energies].mean()
    design, target = train.design.copy(), train.target.copy()
    # Energies are centred, and the constant is computed afterwards, so that the ridge does not shrink it.
    design[energies] = ENERGY_WEIGHT * (design[energies] - middle)
    target[energies] = ENERGY_WEIGHT * (target[energies] - mean)
    square, right = design.T @ design, design.T @ target
    sizes = np.sqrt(np.diag(square) / len(target))
    fits = []
    for scaled, scale in ((False, np.ones(len(sizes))), (True, np.where(sizes > 0.0, sizes, 1.0))):
        values, vectors = np.linalg.eigh(square / np.outer(scale, scale))
        along = vectors.T @ (right / scale)
        for strength in STRENGTHS:
            coefficients = vectors @ (along / (values.clip(0.0) + strength)) / scale
            constant = float(mean - middle @ coefficients)
            wrong = validation.design @ coefficients - validation.target
            wrong[: validation.n_energies] = ENERGY_WEIGHT * (wrong[: validation.n_energies] + constant)
            fits.append(Fit(coefficients, constant, float(strength), scaled, float(np.sqrt(np.mean(wrong**2)))))
    best = min(fits, key=lambda fit: fit.error)
    if not np.isfinite(best.error):
        raise ValueError("no fit has finite errors; are all energies and forces finite?")
    return best
