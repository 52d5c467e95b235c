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

ANGSTROM2_PER_PS_IN_CM2_PER_S = 1e-4  # factor from Angstrom^2/ps to cm^2/s


class Diffusion(NamedTuple):
    """Diffusion coefficient and its standard error, Angstrom^2/ps (1 Angstrom^2/ps = 1e-4 cm^2/s)."""

    coefficient: float
    error: float


def unwrapped_positions(frames: Sequence[Atoms]) -> np.ndarray:
    """Return positions as continuous paths, without jumps through the faces of the cell.

    Wrapping an atom back into the cell moves it by a lattice vector. Steps longer than half the cell are taken as such and
    undone. Trajectories of `MDRun` are not wrapped and are returned unchanged. Fractional coordinates are used, so that the
    cell may change.

    Args:
        frames: Trajectory, with less than half a cell of motion between frames.

    Returns:
        Positions, Angstrom, [n_frames, n_atoms, 3].

    Raises:
        OptionError: There are no frames, or frames have different numbers of atoms.
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
    """Compute the mean squared displacement over all atoms and all time origins.

    MSD(m) = < |r(k + m) - r(k)|^2 > is computed in O(n log n) by Fourier transforms.

    Args:
        positions: Unwrapped positions, Angstrom, [n_frames, n_atoms, 3].
        remove_drift: Masses [n_atoms] used to subtract the motion of the centre of mass; None does not subtract it.

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
    both = (forward + backward)[::-1] / origins  # mean over the origins k of |r(k)|^2 + |r(k+m)|^2
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
    """Compute the diffusion coefficient by Einstein's relation MSD = 6 D t, with a standard error over blocks.

    Args:
        positions: Unwrapped positions, Angstrom, [n_frames, n_atoms, 3].
        interval_ps: Time between frames, ps.
        fit: Range of lags over which the line is fitted, as fractions of the length of a block.
        n_blocks: Number of blocks of the trajectory; the mean and the error are those of their slopes.
        remove_drift: Masses [n_atoms] used to subtract the motion of the centre of mass; None does not subtract it.

    Returns:
        Coefficient and standard error, Angstrom^2/ps.

    Raises:
        OptionError: The blocks are too short for a fit.
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
