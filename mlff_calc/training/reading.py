"""One data file to frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms, units

from mlff_calc.errors import DatasetError
from mlff_calc.training.frames import Frames
from mlff_calc.training.recipe import Source


def read_source(part: str, path: Path, source: Source) -> Frames:
    """Read a file (interim reader)."""
    if path.suffix == ".npz":
        suffix = source.part or "train"
        kcal = units.kcal / units.mol
        with np.load(path) as data:
            z, r = data["z"], data[f"R_{suffix}"]
            e, f = data[f"E_{suffix}"] * kcal, data[f"F_{suffix}"] * kcal
        atoms = [Atoms(z, x) for x in r]
        labels: list[dict[str, Any]] = [{"energy": float(a), "forces": b} for a, b in zip(e.ravel(), f, strict=True)]
        return Frames(part, path, atoms, labels, list(range(len(atoms))), [None] * len(atoms))
    try:
        atoms = ase.io.read(path, ":")
    except Exception as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error
    labels = []
    for a in atoms:
        found: dict[str, Any] = {}
        results = a.calc.results if a.calc is not None else {}
        for kind in ("energy", "forces", "stress"):
            value = results.get(kind, a.info.get(kind, a.arrays.get(kind)))
            if value is not None:
                found[kind] = value if kind != "stress" else a.get_stress(voigt=False)
        labels.append(found)
    return Frames(part, path, atoms, labels, list(range(len(atoms))), [a.info.get("config_type") for a in atoms])
