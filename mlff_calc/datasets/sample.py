"""One structure with its labels, as read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlff_calc.bounded import shorten
from mlff_calc.errors import DatasetError

Kind = Literal["energy", "forces", "stress"]
KINDS: tuple[Kind, ...] = ("energy", "forces", "stress")

STATED = ("charge", "total_charge", "multiplicity", "spin", "level")
"""What frames say in `atoms.info` about electrons and their level, which stays with their structures."""


def statements(atoms: Atoms) -> dict[str, Any]:
    """Return what a frame says about electrons and the level of its labels, in plain types."""
    found = {name: atoms.info[name] for name in STATED if name in atoms.info}
    return {name: value.tolist() if isinstance(value, np.ndarray | np.generic) else value for name, value in found.items()}


@dataclass(frozen=True, eq=False)
class Sample:
    """A structure with its labels and origin.

    Attributes:
        atoms: Structure, without calculator and constraints.
        energy: Total energy in eV, or None.
        forces: Unconstrained forces [n_atoms, 3] in eV/Angstrom, or None.
        stress: Stress [3, 3] in eV/Angstrom^3, tensile positive, or None.
        config_type: Kind of configuration in the file; empty where there is none.
        path: File.
        frame: Number of the frame in the file (in the part, for files with parts), from 0.
        absent: Reasons, by label, why related data in the frame is not taken as that label.
        archive_part: Part of the archive, for files with parts; else empty.
        stated_weights: Weights in the file, by the names of `datasets.weights.NAMES`, unchecked.
    """

    atoms: Atoms
    energy: float | None = None
    forces: NDArray[np.float64] | None = None
    stress: NDArray[np.float64] | None = None
    config_type: str = ""
    path: Path = Path()
    frame: int = 0
    absent: Mapping[Kind, str] = field(default_factory=dict)
    archive_part: str = ""
    stated_weights: Mapping[str, object] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """File and frame, for messages."""
        return f"{self.path}, frame {self.frame}"

    def labels(self) -> dict[Kind, float | NDArray[np.float64]]:
        """Return the labels that are present, by kind."""
        found: dict[Kind, float | NDArray[np.float64]] = {}
        if self.energy is not None:
            found["energy"] = self.energy
        if self.forces is not None:
            found["forces"] = self.forces
        if self.stress is not None:
            found["stress"] = self.stress
        return found


def number_array(value: object, shapes: tuple[tuple[int, ...], ...], place: str, key: str) -> NDArray[np.float64]:
    """Check a label, and return it as a float64 array of one of the allowed shapes.

    Args:
        value: Content of the file.
        shapes: Allowed shapes; () for a scalar, which also allows one-element arrays.
        place: File and frame, for messages.
        key: Name of the label in the file, for messages.

    Raises:
        DatasetError: the label is not numeric, has another shape, or is not finite.
    """
    try:
        given = np.asarray(value)
        if given.dtype.kind in "cmMV":  # numpy would silently drop imaginary parts and units of time
            raise TypeError(given.dtype.name)
        array = np.array(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(
            f"{place}: label '{key}' is {shorten(value)}, not real numbers; correct the file or name another key"
        ) from error
    if () in shapes and array.size == 1:
        array = array.reshape(())
    if array.shape not in shapes:
        wanted = " or ".join(str(list(shape)) for shape in shapes)
        raise DatasetError(f"{place}: label '{key}' has shape {list(array.shape)}, expected {wanted}; name another key")
    finite = np.isfinite(array)
    if not finite.all():
        raise DatasetError(
            f"{place}: label '{key}' holds {array.size - int(finite.sum())} of {array.size} values that are not finite "
            "(NaN or infinity); remove the frame from the file, or remove this label from the frame"
        )
    return array
