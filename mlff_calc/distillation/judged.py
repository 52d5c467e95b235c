"""Errors of students on labelled frames: means, by element and system, and the worst force of each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlff_calc.distillation.calibration import Calibration, calibrate
from mlff_calc.distillation.seeds import AUDIT
from mlff_calc.distillation.students import Students
from mlff_calc.sampling.systems import Systems

ENOUGH = 8
"""Number of audit frames from which bounds are measured on these alone: frames of round 0 are calmer than trajectories."""
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """Errors on frames.

    Attributes:
        forces: Mean absolute error of components of forces, eV/Angstrom; None without frames.
        energy: Mean absolute error of energies, eV per atom.
        by_element: Mean absolute error of forces for each element, eV/Angstrom.
        by_system: The same for each system.
        worst: Largest length of an error of a force in each frame [n_frames], eV/Angstrom.
        spreads: Largest spread of a force in each frame [n_frames], eV/Angstrom.
    """

    forces: float | None
    energy: float | None
    by_element: dict[str, float]
    by_system: dict[str, float]
    worst: FloatArray
    spreads: FloatArray

    def plain(self) -> dict[str, Any]:
        """Means as a plain dict."""
        return {"forces": self.forces, "energy": self.energy, "by_element": self.by_element, "by_system": self.by_system}


def calibrated(outside: Sequence[Atoms], errors: Errors) -> Calibration:
    """Measure the bounds of errors, on audit frames where there are enough, else on all frames that were never learned.

    Args:
        outside: Frames that were never learned.
        errors: Errors on them.

    Raises:
        SimulationError: See `calibrate`.
    """
    audits = [k for k, frame in enumerate(outside) if frame.info["part"] == AUDIT]
    rows = audits if len(audits) >= ENOUGH else list(range(len(outside)))
    return calibrate(errors.spreads[rows], errors.worst[rows])


def errors_of(students: Students, frames: Sequence[Atoms]) -> Errors:
    """Compare students with the labels of frames, which have energies and forces."""
    if not frames:
        return Errors(None, None, {}, {}, np.zeros(0), np.zeros(0))
    systems, positions = Systems.of(frames)
    found = students.judge(systems, positions)
    labels = np.concatenate([atoms.get_forces(apply_constraint=False) for atoms in frames])
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    away = np.abs(found.forces - labels)
    names = np.array([str(atoms.info.get("system", "")) for atoms in frames])[systems.index]
    by_element = {
        chemical_symbols[z]: float(away[systems.numbers == z].mean()) for z in np.unique(systems.numbers).tolist()
    }
    return Errors(
        forces=float(away.mean()),
        energy=float((np.abs(found.energies - energies) / systems.sizes).mean()),
        by_element=by_element,
        by_system={str(name): float(away[names == name].mean()) for name in np.unique(names)},
        worst=systems.maxima(np.linalg.norm(found.forces - labels, axis=1)),
        spreads=systems.maxima(found.spreads),
    )
