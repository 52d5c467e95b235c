"""Conversion of the frames of a run to a time-ordered trajectory in the layout of MD17.

| key | shape | content |
|---|---|---|
| `z` | [n] | atomic numbers |
| `R` | [n_frames, n, 3] | positions, Angstrom |
| `V` | [n_frames, n, 3] | velocities, Angstrom/fs |
| `E` | [n_frames, 1] | energies, kcal/mol |
| `F` | [n_frames, n, 3] | forces, kcal/mol/Angstrom |
| `r_unit`, `v_unit`, `e_unit` | | these units |
| `timestep_fs`, `temperature_K`, `theory`, `seed` | | options of the run; time between frames |

All numbers are float64.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import units
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from mlff_calc.datasets.units import ENERGY_UNITS
from mlff_calc.errors import DatasetError, OptionError

XTB = "gfn2-xtb"
"""Name of the method that needs no potential."""


def xtb_calculator(otherwise: str = " Or name a potential as --calculator.") -> Calculator:
    """GFN2-xTB (Bannwarth, Ehlert and Grimme 2019, doi:10.1021/acs.jctc.8b01176), computed by the package tblite.

    Args:
        otherwise: What can be done without it, as a sentence for the message.

    Returns:
        An ASE calculator.

    Raises:
        OptionError: tblite is not installed.
    """
    try:
        from tblite.ase import TBLite
    except ImportError as error:
        raise OptionError(
            f"{XTB} needs the package tblite, which cannot be imported ({error}). Install it: pip install 'mlff_calc[xtb]'."
            f"{otherwise}"
        ) from error
    return TBLite(method="GFN2-xTB", verbosity=0)


def arrays_of_run(trajectory: Path, **how: float | int | str) -> dict[str, NDArray[Any]]:
    """Convert the frames of a run to the layout of MD17.

    Args:
        trajectory: .traj file of ASE with energies and forces of every step of a run.
        **how: further entries of the file: timestep_fs, temperature_K, theory, seed.

    Returns:
        The arrays of the file.

    Raises:
        DatasetError: the file cannot be read, or its frames do not fit together or are not finite.
    """
    from ase.io.trajectory import Trajectory

    try:
        with Trajectory(str(trajectory)) as frames:
            numbers, n_frames = frames[0].numbers, len(frames)
            vectors = np.empty((3, n_frames, len(numbers), 3))
            energies = np.empty((n_frames, 1))
            for row, atoms in enumerate(frames):
                if not np.array_equal(atoms.numbers, numbers):
                    raise DatasetError(f"{trajectory}, frame {row}: other atoms than in frame 0; start the run over")
                vectors[:, row] = atoms.positions, atoms.get_velocities(), atoms.get_forces(apply_constraint=False)
                energies[row] = atoms.get_potential_energy()
    except (OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{trajectory} cannot be read as a trajectory ({error}); is it complete?") from error
    if not (np.isfinite(vectors).all() and np.isfinite(energies).all()):
        raise DatasetError(f"{trajectory} holds values that are not finite; start the run over with a smaller timestep")
    kcal = ENERGY_UNITS["kcal/mol"]
    return {
        "z": numbers.astype(np.int64),
        "R": vectors[0],
        "V": vectors[1] * units.fs,
        "E": energies / kcal,
        "F": vectors[2] / kcal,
        "r_unit": np.asarray("Angstrom"),
        "v_unit": np.asarray("Angstrom/fs"),
        "e_unit": np.asarray("kcal/mol"),
        **{name: np.asarray(value) for name, value in how.items()},
    }
