"""Structures saved from a run that failed: its last whole frame, and the structure at its end if that is finite."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlff_calc.dynamics.files import write_atomically


class LastWhole:
    """The last frame in which all values were finite. Keeping it costs a few copies of arrays per step."""

    def __init__(self, atoms: Atoms) -> None:
        """Start without a frame.

        Args:
            atoms: Moving structure.
        """
        self._atoms = atoms
        self._kept: dict[str, Any] | None = None

    def keep(self, results: dict[str, Any], info: dict[str, float]) -> None:
        """Keep the current frame, which the caller knows to be finite.

        Args:
            results: Results of the calculator for this frame.
            info: Step and time of this frame.
        """
        atoms, forces = self._atoms, results.get("forces")
        self._kept = {
            "positions": atoms.positions.copy(),
            "momenta": atoms.arrays["momenta"].copy(),
            "cell": atoms.cell.array.copy(),
            "energy": results.get("energy"),
            "forces": None if forces is None else np.array(forces),
            "info": info,
        }

    def save(self, path: Path, info: dict[str, float]) -> str:
        """Write the finite structures: the last whole frame, and after it the current structure if that differs.

        Velocities that are not finite are left out. Only the last whole frame has energy and forces.

        Args:
            path: Extended xyz file to write.
            info: Step and time of the current structure.

        Returns:
            A sentence that names the structures and the file.

        Raises:
            SimulationError: The disk refuses.
        """
        frames, said = [], []
        present = self._present(info)
        whole = present is not None and "momenta" in present.arrays
        if self._kept is not None and not whole:
            frames.append(self._last())
            said.append(f"the last whole frame, of step {self._kept['info']['step']:d}")
        if present is not None:
            frames.append(present)
            said.append("the structure" + ("" if whole else " at which it stopped, without velocities"))
        if not frames:
            return "Nothing finite is left to save."
        text = io.StringIO()
        write(text, frames, format="extxyz")
        write_atomically(path, text.getvalue().encode())
        return f"{' and '.join(said).capitalize()} {'are' if len(said) > 1 else 'is'} in {path}."

    def _present(self, info: dict[str, float]) -> Atoms | None:
        frame: Atoms = self._atoms.copy()
        if not (np.isfinite(frame.positions).all() and np.isfinite(frame.cell.array).all()):
            return None
        if not np.isfinite(frame.get_momenta()).all():
            del frame.arrays["momenta"]
        frame.info.update(info)
        return frame

    def _last(self) -> Atoms:
        kept = self._kept or {}
        frame: Atoms = self._atoms.copy()
        frame.set_cell(kept["cell"])
        frame.arrays["positions"][:] = kept["positions"]
        frame.arrays["momenta"][:] = kept["momenta"]
        frame.info.update(kept["info"])
        known = {name: kept[name] for name in ("energy", "forces") if kept[name] is not None}
        frame.calc = SinglePointCalculator(frame, **known)
        return frame
