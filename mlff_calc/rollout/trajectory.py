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

from mlff_calc.bounded import shorten
from mlff_calc.errors import IntegrationError, OptionError
from mlff_calc.rollout.model import PATH, PATH_SIGMA, PATH_VELOCITIES, Rollout, rollout_graph
from mlff_calc.rollout.molecule import first_state, kept_atoms, whole_frames

logger = logging.getLogger(__name__)
BATCH = 250
"""Number of first states that are predicted at once. Raising it takes more memory."""


@dataclass(frozen=True)
class Trajectory:
    """Predicted motion. Arrays of `trajectories` have a first dimension more, of the first states.

    Attributes:
        times: [n_times] fs.
        positions: [n_times, n_atoms, 3] Angstrom; like velocities, NaN from the time on at which a chain loses the bonds.
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

    def known(self) -> Trajectory:
        """The part of the motion of one first state before a chain loses its bonds; it may be empty."""
        n = int(np.isfinite(self.positions).all(axis=(1, 2)).sum())
        return Trajectory(self.times[:n], self.positions[:n], self.velocities[:n], self.sigma[:n])

    def to_ase(self, first: Atoms, *, heavy_atoms: bool = False) -> list[Atoms]:
        """Frames with velocities, `info["time"]` (fs) and the array `sigma`; they end where a chain loses the bonds.

        Args:
            first: First structure.
            heavy_atoms: Whether only its atoms that are not hydrogen are predicted.
        """
        frames = []
        for number, time in enumerate(self.known().times):
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
    names: Sequence[str] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Trajectory:
    """Predict the motion of several structures of one molecule at the same times.

    Args:
        rollout: Rollout in any precision, on any device.
        structures: Structures with velocities (`atoms.set_velocities`).
        times_fs: Later times, rising from 0 on, fs.
        chain: Whether times beyond the trained horizon are predicted from the state predicted there, as often as needed.
            Errors add up then, and nothing is known about their size: sigma is NaN. Positions and velocities are NaN, with
            a warning, from the time on at which bonds are lost.
        names: Names of the structures for messages; None for `structure 0` and so on.
        on_progress: Function that is told the work, what is done and the total.

    Raises:
        OptionError: Times are not finite, negative, not rising, or beyond the horizon without `chain`; structures are not a
            list of Atoms, or there are none.
        StructureError: A structure is not the molecule, or has no velocities.
        IntegrationError: The equation of a structure cannot be solved.
    """
    times = checked_times(times_fs, rollout.horizon, chain=chain)
    if isinstance(structures, Atoms):
        raise OptionError("the structures are one Atoms; give a list of them, or use rollout.trajectory(atoms, times)")
    places = [f"structure {number}" for number in range(len(structures))] if names is None else names
    for place, atoms in zip(places, structures, strict=True):
        if not isinstance(atoms, Atoms):
            raise OptionError(f"{place} is a {type(atoms).__name__}; give an Atoms of ASE")
    states = [first_state(atoms, rollout.config, place) for place, atoms in zip(places, structures, strict=True)]
    if not states:
        raise OptionError("there are no structures to begin from; give at least one")
    x, v = (torch.from_numpy(np.stack(values)) for values in zip(*states, strict=True))
    if chain and times[-1] > rollout.horizon:
        logger.warning(
            "beyond %g fs, the horizon of the training, every further %g fs begins from a predicted state: errors add up, "
            "the mean of many possible motions is taken for one, and sigma is not known (nan)", *[rollout.horizon] * 2,
        )  # fmt: skip
    _warn_of_far_starts(rollout, x, v, places)
    parts = []
    for begin in range(0, len(x), BATCH):
        try:
            parts.append(_chained(rollout, x[begin : begin + BATCH], v[begin : begin + BATCH], times))
        except IntegrationError as error:
            number = begin + error.sample
            raise error.within(number, place="" if names is None else names[number]) from error
        if on_progress is not None:
            on_progress("trajectories", min(begin + BATCH, len(x)), len(x))
    positions, velocities, sigma, lost, far = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
    bad = np.argwhere(~np.isfinite(positions).all(axis=(2, 3)) & (times < lost[:, None]))
    if len(bad):
        number, time = (int(k) for k in bad[0])
        raise IntegrationError(
            "has positions that are not finite; look at its start", number, float(times[time]), "fs",
            place="" if names is None else names[number],
        )  # fmt: skip
    _warn_of_chains(lost, far, places)
    return Trajectory(times, positions, velocities, sigma)


def _warn_of_chains(lost: NDArray[np.float64], far: NDArray[np.float64], places: Sequence[str]) -> None:
    """Tell the first times at which states of a chain were unlike the training frames, and lost their bonds."""
    for times, text in (
        (far, "%d of %d chains go on from states beyond the displacements, velocities or kinetic energies of the training "
              "frames (first %s, at %g fs): they are no motion of the molecule any more"),
        (lost, "%d of %d structures have lost their bonds (first %s, at %g fs): their positions from then on are nan"),
    ):  # fmt: skip
        if np.isfinite(times).any():
            first = int(times.argmin())
            logger.warning(text, int(np.isfinite(times).sum()), len(times), places[first], times[first])


def _warn_of_far_starts(rollout: Rollout, x: Tensor, v: Tensor, places: Sequence[str]) -> None:
    far = _far(rollout, x, v)
    if not bool((far > 1.0).any()):
        return
    logger.warning(
        "%d of %d structures are beyond the displacements, velocities or kinetic energies of the training frames (most of "
        "all %s, by a factor of %.3g in squares): predictions are less sure, and error bars wider; train on "
        "frames like these", int((far > 1.0).sum()), len(far), places[int(far.argmax())], float(far.max()),
    )  # fmt: skip


def _far(rollout: Rollout, x: Tensor, v: Tensor) -> Tensor:
    """Ratio [n] of signs that states are unlike the training frames to the largest ones there; 0 where it is not known."""
    device = rollout.edges_in.device
    far = rollout.base(x.to(device), v.to(device), torch.zeros(len(x), 1, dtype=torch.float64, device=device)).far
    return torch.zeros(len(x), dtype=torch.float64) if far is None else far[:, 0].cpu()


def checked_times(times_fs: Sequence[float], horizon: float, *, chain: bool) -> NDArray[np.float64]:
    """Return the times as an array.

    Raises:
        OptionError: They are no row of numbers, there are none, or one is not finite, negative, not above the one before,
            or beyond the horizon.
    """
    try:
        times = np.atleast_1d(np.asarray(times_fs, dtype=np.float64))
    except (TypeError, ValueError):
        times = None
    if times is None or times.ndim > 1 or times_fs is None or isinstance(times_fs, str):
        raise OptionError(f"times are {shorten(times_fs)}; give a list of numbers in fs, such as [5.0, 10.0]")
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


def _chained(rollout: Rollout, x: Tensor, v: Tensor, times: NDArray[np.float64]) -> tuple[Tensor, ...]:
    """Predict from first states [n, n_atoms, 3], beyond the horizon from the states predicted there.

    Returns:
        Positions and velocities [n, n_times, n_atoms, 3] and standard deviations [n, n_times, n_atoms], with NaN where they
        are not known; times [n] at which bonds were lost, and at which a link began beyond the training frames (infinite for
        never).
    """
    n, n_atoms = x.shape[:2]
    nothing, never = torch.full((n, len(times), n_atoms, 3), torch.nan, dtype=torch.float64), torch.full((n,), torch.inf)
    paths, sigmas, lost, far = (nothing, nothing.clone()), nothing[..., 0].clone(), never.double(), never.double().clone()
    horizon, begin, number, left = rollout.horizon, 0.0, 0, torch.arange(n)
    while number < len(times) and len(left):
        inside = times[number:][times[number:] <= begin + horizon] - begin
        count, goes_on = len(inside), number + len(inside) < len(times)
        asked = np.append(inside, horizon) if goes_on else inside
        try:
            *found, sigma = _predicted(rollout, x, v, asked)
        except IntegrationError as error:
            raise error.within(int(left[error.sample]), later=begin) from error
        good = _holds(rollout, found[0])
        if begin == 0.0:
            sigmas[:, :count] = sigma[:, :count]
            good[:, :count] = True
        for path, values in zip(paths, found, strict=True):
            path[left, number : number + count] = torch.where(good[:, :count, None, None], values[:, :count], torch.nan)
        end = good[:, -1]
        first = torch.from_numpy(asked + begin)[(~good).long().argmax(dim=1)]
        lost[left[~end]] = first[~end]
        left, x, v = left[end], found[0][end, -1], found[1][end, -1]
        number, begin = number + count, begin + horizon
        if goes_on and len(left):
            unlike = left[_far(rollout, x, v) > 1.0]
            far[unlike] = far[unlike].clamp(max=begin)
    return *paths, sigmas, lost, far


def _holds(rollout: Rollout, positions: Tensor) -> Tensor:
    """Whether frames [n, n_times, n_atoms, 3] and those before them have the bonds of the molecule [n, n_times]."""
    config, shape = rollout.config, positions.shape
    found = whole_frames(np.array(config["numbers"]), positions.reshape(-1, *shape[2:]).numpy(), config["bonds"])
    return torch.from_numpy(found).view(shape[:2]).long().cumprod(dim=1).bool()


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
