"""Archives of numpy arrays: revised MD17, and arrays under the usual short names.

The layout is recognized by the keys:

==========================================  =====================================================  ==================
keys                                        content                                                units when not given
==========================================  =====================================================  ==================
nuclear_charges, coords, energies, forces   revised MD17 as published                              kcal/mol, Angstrom
z, R_train, E_train, F_train, R_test, ...   part of it, as ``train`` and ``test``                 kcal/mol, Angstrom
z, R, E, F and, if periodic, cell           MD17 as published, and many others                     must be given
==========================================  =====================================================  ==================

``z`` is [n_atoms], or [n_frames, n_atoms] padded with zeros; energies and forces may be missing in the last layout.
Units that the file states as ``e_unit`` and ``r_unit`` are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlff_calc.datasets.archive import archive_keys, one_text, read_arrays
from mlff_calc.datasets.sample import Sample, number_array
from mlff_calc.datasets.units import Units
from mlff_calc.errors import DatasetError

MD17_UNITS = Units(energy="kcal/mol", length="Angstrom")
ORIGINAL = {"z": "nuclear_charges", "R": "coords", "E": "energies", "F": "forces"}
SHORT = {"z": "z", "R": "R", "E": "E", "F": "F"}
_READ = {
    *ORIGINAL.values(), *SHORT.values(), "cell", "e_unit", "r_unit",
    *(f"{short}_{part}" for short in "REF" for part in ("train", "test")),
}  # fmt: skip
"""Names of arrays that are read; others may have any size and kind."""


@dataclass(frozen=True)
class _Layout:
    """Names of the arrays in a file, and units implied by the layout."""

    names: dict[str, str]
    units: Units | None


def read_npz(path: Path, part: str | None, units: Units | None, rmd17: bool = False) -> list[Sample]:
    """Read all frames of an archive.

    Args:
        path: Archive.
        part: ``train`` or ``test`` for files with parts, else None.
        units: Units of the file; None for those implied by the layout or stated in the file.
        rmd17: Whether to assume MD17's units.

    Returns:
        The frames in order, in eV and Angstrom.

    Raises:
        DatasetError: the file is unreadable, its layout or units are unknown, a part is missing, or arrays are not
            finite or do not fit together.
    """
    keys = archive_keys(path)
    arrays = read_arrays(path, sorted(keys & _READ)) | dict.fromkeys(keys - _READ, np.zeros(0))
    layout = _find_layout(arrays, path, part)
    known = units or layout.units or _stated_units(path, arrays) or (MD17_UNITS if rmd17 else None)
    if known is None:
        raise DatasetError(
            f"{path} does not state its units; give them, for example units: {{energy: kcal/mol, length: Angstrom}} for "
            "MD17, or units: {energy: eV}"
        )
    return _frames(path, arrays, layout.names, known)


def _find_layout(arrays: dict[str, NDArray], path: Path, part: str | None) -> _Layout:
    """Recognize the layout of a file."""
    if part is not None and part not in ("train", "test"):
        raise DatasetError(f"{path}: unknown part '{part}'; rMD17 archives have the parts train and test")
    if {"z", "R_train"} <= arrays.keys():
        if part is None:
            raise DatasetError(f"{path} holds the parts train and test; say which one (part: train)")
        names = {"z": "z", **{short: f"{short}_{part}" for short in "REF"}}
        if names["R"] not in arrays:
            raise DatasetError(f"{path} has no part '{part}'; it holds {sorted(arrays)}")
        return _Layout(names, MD17_UNITS)
    if part is not None:
        raise DatasetError(
            f"{path} has no parts, so part: {part} cannot be chosen; leave `part` out and split the frames"
        )
    if {"nuclear_charges", "coords"} <= arrays.keys():
        return _Layout(ORIGINAL, MD17_UNITS)
    if {"z", "R"} <= arrays.keys():
        return _Layout(SHORT, None)
    raise DatasetError(
        f"{path} holds the arrays {sorted(arrays)}; expected z, R, E, F (rMD17: nuclear_charges, coords, energies, forces)"
    )


def _stated_units(path: Path, arrays: dict[str, NDArray]) -> Units | None:
    """Read units that the file states, as sGDML's archives do."""
    if "e_unit" not in arrays or "r_unit" not in arrays:
        return None
    energy, length = (one_text(path, name, arrays[name]) for name in ("e_unit", "r_unit"))
    length = "Angstrom" if length.lower().startswith("ang") else length
    return Units(energy=energy, length=length, forces=f"{energy}/{length}")


def _species(path: Path, name: str, numbers: NDArray) -> NDArray[np.int64]:
    """Return atomic numbers as integers; zeros are allowed only as padding of frames of several sizes.

    Raises:
        DatasetError: a number is not an atomic number, or a frame has no atoms.
    """
    place = f"{path}: '{name}'"
    if numbers.dtype.kind not in "iuf":
        raise DatasetError(f"{place} holds {numbers.dtype}; atomic numbers are whole numbers from 1 to 118")
    whole = np.where(np.isfinite(numbers), numbers, -1)
    wrong = (whole < 0) | (whole > 118) | (whole != np.round(whole))
    if numbers.ndim == 1:
        wrong = wrong | (whole == 0)
    if wrong.any():
        value = numbers[wrong][0]
        hint = " (zeros only pad the frames of [n_frames, n_atoms])" if value == 0 else ""
        raise DatasetError(f"{place} holds {value}, which is not an atomic number from 1 to 118{hint}; correct the file")
    empty = whole.reshape(-1, whole.shape[-1]).max(axis=1, initial=0) == 0
    if empty.any():
        raise DatasetError(f"{place}: frame {int(np.argmax(empty))} has no atoms; correct the file")
    return np.asarray(whole, dtype=np.int64)


def _frames(path: Path, arrays: dict[str, NDArray], names: dict[str, str], units: Units) -> list[Sample]:
    """Build samples from arrays."""
    positions = arrays[names["R"]]
    if positions.ndim != 3 or positions.shape[2] != 3:
        raise DatasetError(f"{path}: '{names['R']}' has shape {list(positions.shape)}, expected [n_frames, n_atoms, 3]")
    n_frames, n_atoms = positions.shape[:2]
    numbers = arrays[names["z"]]
    if numbers.shape not in {(n_atoms,), (n_frames, n_atoms)}:
        raise DatasetError(
            f"{path}: '{names['z']}' has shape {list(numbers.shape)}, expected [{n_atoms}] or [{n_frames}, {n_atoms}]"
        )
    numbers = _species(path, names["z"], numbers)
    if np.iscomplexobj(positions) or positions.dtype.kind not in "fiu":
        raise DatasetError(f"{path}: '{names['R']}' holds {positions.dtype} numbers; positions are real numbers")
    energies, forces, cells = arrays.get(names["E"]), arrays.get(names["F"]), arrays.get("cell")
    for name, array in ((names["E"], energies), (names["F"], forces)):
        if array is not None and array.shape[:1] != (n_frames,):
            held = array.shape[0] if array.ndim else "no"
            raise DatasetError(f"{path}: '{name}' has {held} frames, '{names['R']}' has {n_frames}")
    if forces is not None and forces.shape != positions.shape:
        raise DatasetError(f"{path}: '{names['F']}' has shape {list(forces.shape)}, expected {list(positions.shape)}")
    if cells is not None and cells.shape not in {(3, 3), (n_frames, 3, 3), (n_frames, 3)}:
        raise DatasetError(f"{path}: 'cell' has shape {list(cells.shape)}, expected [3, 3] or [{n_frames}, 3, 3]")
    to_length, to_energy = units.length_factor, units.energy_factor
    samples = []
    for frame in range(n_frames):
        place = f"{path}, frame {frame}"
        species = numbers if numbers.ndim == 1 else numbers[frame]
        real = species > 0
        xyz = number_array(positions[frame][real], ((int(real.sum()), 3),), place, names["R"]) * to_length
        atoms = Atoms(species[real], xyz)
        if cells is not None:
            cell = number_array(cells if cells.shape == (3, 3) else cells[frame], ((3, 3), (3,)), place, "cell")
            atoms.set_cell(cell * to_length)
            atoms.pbc = True
        energy = force = None
        if energies is not None:
            energy = float(number_array(energies[frame], ((),), place, names["E"])) * to_energy
        if forces is not None:
            force = number_array(forces[frame][real], (xyz.shape,), place, names["F"]) * units.forces_factor
        samples.append(Sample(atoms, energy, force, path=path, frame=frame))
    return samples
