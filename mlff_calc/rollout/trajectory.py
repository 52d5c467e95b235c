"""Trajectories from structures of ASE: the use of a rollout."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms, units
from numpy.typing import NDArray
from torch import Tensor

from mlff_calc.errors import IntegrationError, OptionError
from mlff_calc.rollout.model import PATH, PATH_SIGMA, PATH_VELOCITIES, Rollout, rollout_graph
from mlff_calc.rollout.molecule import first_state, kept_atoms

logger = logging.getLogger(__name__)
BATCH = 250
"""Number of first states that are predicted at once. Raising it takes more memory."""


@dataclass(frozen=True)
class Trajectory:
    """Predicted motion. Arrays of `trajectories` have a first dimension more, of the first states.

    Attributes:
        times: [n_times] fs.
        positions: [n_times, n_atoms, 3] Angstrom.
        velocities: [n_times, n_atoms, 3] Angstrom/fs.
        sigma: Standard deviations of positions, per component [n_times, n_atoms] Angstrom; NaN beyond the trained horizon.
    """

    times: NDArray[np.float64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    sigma: NDArray[np.float64]

    def of(self, number: int) -> Trajectory:
        """Motion of one of several first states."""
        return Trajectory(self.times, self.positions[number], self.velocities[number], self.sigma[number])

    def to_ase(self, first: Atoms, *, heavy_atoms: bool = False) -> list[Atoms]:
        """Frames with velocities, `info["time"]` (fs) and the array `sigma`.

        Args:
            first: First structure.
            heavy_atoms: Whether only its atoms that are not hydrogen are predicted.
        """
        frames = []
        for number, time in enumerate(self.times):
            atoms = Atoms(first.numbers[kept_atoms(first.numbers, heavy_atoms=heavy_atoms)], self.positions[number])
            atoms.set_velocities(self.velocities[number] / units.fs)
            atoms.info["time"] = float(time)
            atoms.arrays["sigma"] = self.sigma[number].copy()
            frames.append(atoms)
        return frames


def trajectories(
    rollout: Rollout,
    structures: Sequence[Atoms],
    times_fs: Sequence[float],
    *,
    chain: bool = False,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Trajectory:
    """Predict the motion of several structures of one molecule at the same times.

    Args:
        rollout: Rollout in any precision, on any device.
        structures: Structures with velocities (`atoms.set_velocities`).
        times_fs: Later times, rising from 0 on, fs.
        chain: Whether times beyond the trained horizon are predicted from the state predicted there, as often as needed.
            Errors add up then, and nothing is known about their size: sigma is NaN.
        on_progress: Function that is told the work, what is done and the total.

    Raises:
        OptionError: Times are not finite, negative, not rising, or beyond the horizon without `chain`.
        StructureError: A structure is not the molecule, or has no velocities.
        IntegrationError: The equation of a structure cannot be solved.
    """
    times = checked_times(times_fs, rollout.horizon, chain=chain)
    config = rollout.config
    states = [first_state(atoms, config, f"structure {number}") for number, atoms in enumerate(structures)]
    if not states:
        raise OptionError("there are no structures to begin from; give at least one")
    x, v = (torch.from_numpy(np.stack(values)) for values in zip(*states, strict=True))
    if chain and times[-1] > rollout.horizon:
        logger.warning(
            "beyond %g fs, the horizon of the training, every further %g fs begins from a predicted state: errors add up, "
            "the mean of many possible motions is taken for one, and sigma is not known (nan)", *[rollout.horizon] * 2,
        )  # fmt: skip
    _warn_of_far_starts(rollout, x, v)
    parts = []
    for begin in range(0, len(x), BATCH):
        try:
            parts.append(_chained(rollout, x[begin : begin + BATCH], v[begin : begin + BATCH], times))
        except IntegrationError as error:
            raise IntegrationError(error.why, begin + error.sample, error.time, error.unit) from error
        if on_progress is not None:
            on_progress("trajectories", min(begin + BATCH, len(x)), len(x))
    positions, velocities, sigma = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
    lost = np.argwhere(~np.isfinite(positions).all(axis=(2, 3)))
    if len(lost):
        number, time = (int(k) for k in lost[0])
        raise IntegrationError("has positions that are not finite; look at its start", number, float(times[time]), "fs")
    return Trajectory(times, positions, velocities, sigma)


def _warn_of_far_starts(rollout: Rollout, x: Tensor, v: Tensor) -> None:
    device = rollout.edges_in.device
    far = rollout.base(x.to(device), v.to(device), torch.zeros(len(x), 1, dtype=torch.float64, device=device)).far
    if far is None or not bool((far > 1.0).any()):
        return
    number = int(far.argmax())
    logger.warning(
        "%d of %d structures are beyond the displacements, velocities or kinetic energies of the training frames (most of "
        "all structure %d, by a factor of %.3g in squares): predictions are less sure, and error bars wider; train on "
        "frames like these", int((far > 1.0).sum()), len(far), number, float(far.max()),
    )  # fmt: skip


def checked_times(times_fs: Sequence[float], horizon: float, *, chain: bool) -> NDArray[np.float64]:
    """Return the times as an array.

    Raises:
        OptionError: There are none, or one is not finite, negative, not above the one before, or beyond the horizon.
    """
    times = np.atleast_1d(np.asarray(times_fs, dtype=np.float64)).ravel()
    if not len(times):
        raise OptionError("there are no times; give at least one, in fs")
    bad = np.flatnonzero(~np.isfinite(times) | (times < 0.0))
    if len(bad):
        raise OptionError(f"time {bad[0]} is {times[bad[0]]:g} fs; give finite times from 0 on")
    falls = np.flatnonzero(np.diff(times) <= 0.0)
    if len(falls):
        k = int(falls[0])
        raise OptionError(f"time {k + 1} is {times[k + 1]:g} fs after one of {times[k]:g} fs; give times in rising order")
    if times[-1] > horizon and not chain:
        raise OptionError(
            f"{times[-1]:g} fs lie beyond the {horizon:g} fs that the rollout was trained for; give earlier times, train "
            "with a longer horizon, or ask for a chain (--chain), whose error bars are not known"
        )
    return times


def _chained(rollout: Rollout, x: Tensor, v: Tensor, times: NDArray[np.float64]) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, velocities and standard deviations [n, n_times, n_atoms, ...] from first states [n, n_atoms, 3]."""
    found: list[tuple[Tensor, ...]] = []
    horizon, begin, number = rollout.horizon, 0.0, 0
    while number < len(times):
        inside = times[number:][times[number:] <= begin + horizon] - begin
        goes_on = number + len(inside) < len(times)
        asked = np.append(inside, horizon) if goes_on else inside
        try:
            positions, velocities, sigma = _predicted(rollout, x, v, asked)
        except IntegrationError as error:
            raise IntegrationError(error.why, error.sample, begin + error.time, error.unit) from error
        n = len(inside)
        if begin > 0.0:
            sigma = torch.full_like(sigma, float("nan"))
        found.append((positions[:, :n], velocities[:, :n], sigma[:, :n]))
        x, v = positions[:, -1], velocities[:, -1]
        number, begin = number + n, begin + horizon
    whole = [torch.cat(each, dim=1) for each in zip(*found, strict=True)]
    return whole[0], whole[1], whole[2]


def _predicted(rollout: Rollout, x: Tensor, v: Tensor, times: NDArray[np.float64]) -> tuple[Tensor, Tensor, Tensor]:
    device = rollout.edges_in.device
    rows = torch.from_numpy(times).expand(len(x), -1)
    graph = rollout_graph(rollout.topology, *(one.to(device) for one in (x, v, rows)))
    with torch.no_grad():
        outputs = rollout(graph)
    n = len(x)

    def rows_of(name: str) -> Tensor:
        return outputs[name].cpu().unflatten(0, (n, -1)).transpose(1, 2)

    return rows_of(PATH), rows_of(PATH_VELOCITIES), rows_of(PATH_SIGMA)
