"""Mean squared displacement and the diffusion coefficient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ase import Atoms

from mlff_calc.dynamics.observables.correlation import autocorrelation
from mlff_calc.dynamics.observables.statistics import linear_fit
from mlff_calc.errors import OptionError

ANGSTROM2_PER_PS_IN_CM2_PER_S = 1e-4


class Diffusion(NamedTuple):
    """Diffusion coefficient and its standard error, Angstrom^2/ps (1 Angstrom^2/ps = 1e-4 cm^2/s)."""

    coefficient: float
    error: float


def unwrapped_positions(frames: Sequence[Atoms]) -> np.ndarray:
    """Positions as paths without jumps through the faces of the cell.

    An atom that was wrapped back into the cell moves by a lattice vector; that is undone where a step is longer than half
    the cell. Trajectories of `MDRun` are not wrapped and come out as they are. A cell that changes is followed by fractional
    coordinates.

    Args:
        frames: the trajectory, with less than half a cell of motion between frames.

    Returns:
        Positions, Angstrom, [n_frames, n_atoms, 3].

    Raises:
        OptionError: no frames, or frames with different numbers of atoms.
    """
    if len(frames) == 0 or len({len(atoms) for atoms in frames}) != 1:
        raise OptionError("a trajectory of at least one frame, all with the same atoms, is needed. Check the frames.")
    paths = np.array([atoms.positions for atoms in frames])
    periodic = frames[0].pbc
    if not periodic.any():
        return paths
    cells = np.array([atoms.cell.complete()[:] for atoms in frames])
    fractional = np.linalg.solve(np.swapaxes(cells, 1, 2)[:, None], paths[..., None])[..., 0]
    jumps = np.round(np.diff(fractional, axis=0)) * periodic
    shifts = np.concatenate([np.zeros_like(jumps[:1]), np.cumsum(jumps, axis=0)])
    return paths - np.einsum("fai,fij->faj", shifts, cells)


def mean_squared_displacement(positions: np.ndarray, *, remove_drift: np.ndarray | None = None) -> np.ndarray:
    """Mean squared displacement over all atoms and all time origins.

    MSD(m) = < |r(k + m) - r(k)|^2 >, in O(n log n) by Fourier transforms.

    Args:
        positions: unwrapped, Angstrom, [n_frames, n_atoms, 3].
        remove_drift: masses [n_atoms] to subtract the motion of the centre of mass; None leaves it.

    Returns:
        MSD in Angstrom^2 at lags 0 to n_frames - 1, [n_frames].

    Source:
        G. R. Kneller et al., Comput. Phys. Commun. 91, 191 (1995).
    """
    paths = np.asarray(positions, dtype=float)
    if remove_drift is not None:
        weights = np.asarray(remove_drift, dtype=float)
        paths = paths - np.einsum("a,fai->fi", weights, paths)[:, None] / weights.sum()
    n_frames, n_atoms, _ = paths.shape
    paths = (paths - paths.mean(axis=0)).reshape(n_frames, -1)
    squares = (paths**2).sum(axis=1)
    origins = n_frames - np.arange(n_frames)
    forward, backward = np.cumsum(squares), np.cumsum(squares[::-1])
    both = (forward + backward)[::-1] / origins  # sum over k of |r(k)|^2 + |r(k+m)|^2, a mean over the origins
    crossed = autocorrelation(paths).sum(axis=1)
    displacement = (both - 2.0 * crossed) / n_atoms
    displacement[0] = 0.0
    return displacement


def diffusion_coefficient(
    positions: np.ndarray,
    interval_ps: float,
    *,
    fit: tuple[float, float] = (0.1, 0.5),
    n_blocks: int = 5,
    remove_drift: np.ndarray | None = None,
) -> Diffusion:
    """Diffusion coefficient from Einstein's relation MSD = 6 D t, with a standard error over blocks of the trajectory.

    Args:
        positions: unwrapped, Angstrom, [n_frames, n_atoms, 3].
        interval_ps: time between frames, ps.
        fit: part of each block's length over which the line is fitted, as fractions.
        n_blocks: blocks whose slopes give mean and error.
        remove_drift: masses [n_atoms] to subtract the motion of the centre of mass.

    Returns:
        Coefficient and standard error, Angstrom^2/ps.

    Raises:
        OptionError: blocks too short for a line.
    """
    length = len(positions) // n_blocks
    lags = np.arange(int(fit[0] * length), int(fit[1] * length))
    if len(lags) < 2:
        raise OptionError(
            f"{len(positions)} frames in {n_blocks} blocks leave {len(lags)} points for the line. "
            "Give a longer trajectory or fewer blocks."
        )
    slopes = []
    for block in range(n_blocks):
        part = np.asarray(positions)[block * length : (block + 1) * length]
        displacement = mean_squared_displacement(part, remove_drift=remove_drift)
        slopes.append(linear_fit(lags * interval_ps, displacement[lags]).slope / 6.0)
    error = float(np.std(slopes, ddof=1) / math.sqrt(n_blocks)) if n_blocks > 1 else math.nan
    return Diffusion(float(np.mean(slopes)), error)
