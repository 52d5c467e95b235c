"""What is measured on training frames before a rollout is built: mean structure, normal modes, predictions, scales."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlff_calc.datasets.motion.windows import Windows
from mlff_calc.errors import DatasetError
from mlff_calc.rollout import Rollout
from mlff_calc.rollout.base import LEAST, Base, Path, signs
from mlff_calc.rollout.rotor import angular_momentum, centred, fitted, inverse_inertia
from mlff_calc.rollout.valence_base import ValenceBase
from mlff_calc.training.rollout.data import Molecule
from mlff_calc.training.rollout.fit_valence import fit_valence, straight_angles

FRAMES, STARTS, KNOTS = 4000, 1500, 17
"""Numbers of frames for means, of first frames for predictions, and of times of the errors of the base. Raising them
measures more accurately and takes longer."""
NEAR, PLANAR = 0.25, 0.09
"""Share of the root mean square of a puckering below which a frame counts as planar, and share of such frames from which on
the mean structure is planar. It is 0.2 for Gaussian vibrations, 0.11 for one vibration of constant amplitude, and 0.07 or
less where a molecule is puckered and vibrates by at most half of that. Raising the second flattens fewer molecules."""
MANY = 500
"""Frames of a horizon from which on fewer first frames are taken for the errors of the base."""
LONG = 8.0
"""Longest horizon in units of the fastest motion. Raising it lets the equation follow faster vibrations, with more steps."""
FAST = 3.0
"""Largest velocity that the network sees, as root mean square, in lengths per unit of time. Vibrations that are too
fast for the equation lead nowhere in a longer time; raising it lets their velocities carry the state away."""


@dataclass(frozen=True)
class Measured:
    """Configuration and tensors.

    Attributes:
        config: Entries of the configuration.
        buffers: Tensors of the network by name.
    """

    config: dict[str, Any]
    buffers: dict[str, Tensor] = field(default_factory=dict)

    def fill(self, rollout: Rollout) -> None:
        """Write the tensors into a network."""
        own = dict(rollout.named_buffers())
        for name, value in self.buffers.items():
            own[name].copy_(value)


def measure(windows: Windows, molecule: Molecule, base: str) -> Measured:
    """Measure everything that a base needs.

    Args:
        windows: Windows of the training part.
        molecule: Atoms, bonds and masses.
        base: Name of the base.

    Raises:
        DatasetError: Nothing moves in the trajectory, it has no velocities, or the base does not know such a molecule.
    """
    x, v = _states(windows, windows.evenly(FRAMES))
    for what, moves in (("positions", x != x[0]), ("velocities", v != 0.0)):
        if not bool(moves.any()):
            raise DatasetError(
                f"the {what} of the training frames of {windows.run.path} are {'the same' if what == 'positions' else '0'}; "
                "give a trajectory of a molecule that moves, with its velocities"
            )
    masses = torch.tensor(molecule.masses, dtype=torch.float64)
    rotor = Base("rotor", molecule.masses, 0, 2, 1.0)
    mean, reflection = mean_structure(centred(x, masses)[0], masses)
    if 2 < len(masses) <= 2 + len(straight_angles(x, molecule.bonds)):
        if base == "harmonic":
            raise DatasetError(
                f"the molecule of {windows.run.path} is straight, and the base `harmonic` knows no axis to bend about; set "
                "base: valence, or rotor"
            )
        axis = torch.linalg.eigh(mean.T @ (masses[:, None] * mean))[1][:, -1]
        mean = torch.outer(mean @ axis, axis)
    rotor.reference.copy_(mean)
    still = torch.zeros(len(x), 1, dtype=torch.float64)
    first = rotor(x, v, still)
    spacing, n_table = 1.0, 2
    modes: tuple[Tensor, Tensor] | None = None
    built: Base | ValenceBase = rotor
    tensors = {"base.reference": rotor.reference}  # of all bases, as a row of evaluations
    more: dict[str, Any] = {}
    seen = torch.empty(0)
    if base == "valence":
        built = fit_valence(windows, molecule, rotor.reference)
        first = built(x, v, still)
        fitted_ones = ("mean", "spread", "apart", "apart_spread", "theta")
        tensors |= {f"base.field.{name}": getattr(built.field, name) for name in fitted_ones}
        more = {"straight": built.straight, "base_step": built.field.step}
        places, speeds = (centred(one, masses)[0] for one in (x, v))
        seen = signs(*built.field.deviations_and_rates(places, speeds), speeds, masses)
    elif base == "harmonic":
        frame = fitted(centred(x, masses)[0], rotor.reference, masses)
        modes = normal_modes(first.offsets @ frame, first.rates @ frame, masses, reflection)
        found = [(one @ frame).flatten(1) @ modes[0].T for one in (first.offsets, first.rates)]
        seen = signs(found[0], found[1], centred(v, masses)[0], masses)
        step = windows.run.timestep
        spacing = step * max(1, round((1.0 if windows.horizon <= 300.0 else 2.0) / step))
        n_table = math.ceil(windows.horizon / spacing - 1e-9) + 1
        built = Base(base, molecule.masses, len(modes[0]), n_table, spacing)
        built.reference.copy_(rotor.reference)
        built.to_modes.copy_(modes[0])
        built.from_modes.copy_(modes[1])
        built.table.copy_(prediction_table(windows, rotor, modes[0], n_table, spacing))
        tensors |= {f"base.{name}": getattr(built, name) for name in ("to_modes", "from_modes", "table")}
    elif base in ("start", "none"):
        built = Base("start", molecule.masses, 0, 2, 1.0)
        first = built(x, v, still)
    vibrates = base in ("valence", "harmonic")
    if vibrates:
        built.limits.copy_(seen.amax(dim=0))
        tensors["base.limits"] = built.limits
    errors, slow = _errors(windows, built)
    tensors |= {"errors": errors, "still_errors": _errors(windows, built, still=True)[0] if vibrates else errors}
    length, rate = _rms(first.offsets), _rms(first.rates)
    time = max(length / rate, windows.horizon / LONG)
    config = {
        "length_scale": length, "time_scale": time, "velocity_scale": max(length / time, rate / FAST),
        "extent": _rms(centred(x, masses)[0]), "error_scale": _rms(errors), "speed_scale": slow, "spacing": spacing,
        "n_table": n_table, "n_knots": KNOTS, "n_vibrations": 0 if modes is None else len(modes[0]),
    }  # fmt: skip
    rounded = {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in config.items()}
    return Measured(rounded | more | {"spacing": spacing}, tensors)


def mean_structure(positions: Tensor, masses: Tensor, rounds: int = 30) -> tuple[Tensor, Tensor | None]:
    """Mean of structures that are turned (or mirrored) onto it, and its plane.

    Molecules that vibrate about a plane get a planar mean, which mirrored frames alone would pucker.

    Args:
        positions: Relative to their centres of mass [n_frames, n_atoms, 3].
        masses: [n_atoms].
        rounds: Number of repetitions.

    Returns:
        The mean [n_atoms, 3], and the reflection [3, 3] that leaves it as it is; None where it is not planar.
    """

    def aligned(mean: Tensor) -> Tensor:
        return positions @ fitted(positions, mean, masses)

    mean = positions[0]
    for _ in range(rounds):
        mean = aligned(mean).mean(dim=0)
    normal = torch.linalg.eigh(mean.T @ (masses[:, None] * mean))[1][:, 0]
    folds = aligned(mean) @ normal @ (masses * (mean @ normal))
    thin = float((mean @ normal).abs().max()) < 1e-6
    if not thin and float((folds.abs() < NEAR * folds.square().mean().sqrt()).double().mean()) < PLANAR:
        return mean, None
    reflection = torch.eye(3, dtype=mean.dtype) - 2.0 * torch.outer(normal, normal)
    for _ in range(rounds):
        mean = 0.5 * (mean + mean @ reflection)
        mean = aligned(mean).mean(dim=0)
    return 0.5 * (mean + mean @ reflection), reflection


def normal_modes(offsets: Tensor, rates: Tensor, masses: Tensor, reflection: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Matrices to and from normal modes, [n_modes, 3 n_atoms] and [3 n_atoms, n_modes].

    Modes are those that are independent of each other in the frames, in displacements and in velocities: with covariances
    C_u and C_w of both, weighted by mass, the eigenvectors of C_u^-1/2 C_w C_u^-1/2; eigenvalues are squared frequencies.

    Args:
        offsets: Displacements from the mean structure, in its axes [n_frames, n_atoms, 3].
        rates: Velocities beside its rotation, in its axes.
        masses: [n_atoms].
        reflection: That of a planar mean structure. Modes are then in the plane or out of it, and never mixed: the sign of
            the second kind, which a fit cannot know, drops out of predictions that are linear in each mode.
    """
    if reflection is not None:
        offsets, rates = (torch.cat([one, one @ reflection]) for one in (offsets, rates))
    roots = masses.sqrt().repeat_interleave(3)
    u, w = offsets.flatten(1) * roots, rates.flatten(1) * roots
    sizes, axes = torch.linalg.eigh(u.T @ u / len(u))
    real = sizes > LEAST * sizes[-1]
    sizes, axes = sizes[real].sqrt(), axes[:, real]
    within = (axes / sizes).T @ (w.T @ w / len(w)) @ (axes / sizes)
    _, turn = torch.linalg.eigh(within)
    return ((axes / sizes) @ turn).T * roots, (axes * sizes) @ turn / roots[:, None]


def prediction_table(windows: Windows, rotor: Base, to_modes: Tensor, n_table: int, spacing: float) -> Tensor:
    """Least squares of later modes by first ones [n_table, 4, n_modes]: a, b, and those of the velocities."""
    starts = windows.evenly(STARTS)
    x, v = _states(windows, starts)
    masses, stride = rotor.masses, round(spacing / windows.run.timestep)
    frame = fitted(centred(x, masses)[0], rotor.reference, masses).unsqueeze(1)
    found = []
    q = torch.empty(0)
    for begin in range(0, n_table, 20):
        number = np.arange(begin, min(begin + 20, n_table))
        later, speeds = _states(windows, np.minimum(starts[:, None] + stride * number, len(windows.run.positions) - 1))
        times = torch.from_numpy(number * spacing).expand(len(starts), -1)
        path: Path = rotor(x, v, times)
        relative = later - path.centre - path.drift * times[..., None, None]
        # Velocities in the turning axes lack omega x r, which that of the base is for its own positions.
        spin = _spin(path)
        moving = speeds - path.drift - torch.linalg.cross(spin.unsqueeze(2).expand_as(relative), relative)
        back = path.turn @ frame
        y = ((relative @ back) - rotor.reference).flatten(2) @ to_modes.T
        speed = (moving @ back).flatten(2) @ to_modes.T
        if begin == 0:
            q = torch.stack([y[:, 0], speed[:, 0]])
        found.append(_least_squares(q, torch.stack([y, speed])))
    return torch.cat(found)


def _least_squares(q: Tensor, y: Tensor) -> Tensor:
    """Factors of q [2, n, n_modes] in y [2, n, n_times, n_modes], each mode by itself [n_times, 4, n_modes]."""
    square = torch.einsum("inm,jnm->mij", q, q)
    right = torch.einsum("inm,kntm->mtik", q, y)
    factors = torch.linalg.pinv(square, hermitian=True).unsqueeze(1) @ right  # [n_modes, n_times, 2 (first), 2 (later)]
    return factors.permute(1, 3, 2, 0).flatten(1, 2)


def _spin(path: Path) -> Tensor:
    """Angular velocity [n, n_times, 3] of a rotor, from its positions and velocities."""
    equal = torch.ones(path.positions.shape[-2], dtype=torch.float64)
    momentum = angular_momentum(path.positions, path.velocities, equal)
    return (inverse_inertia(path.positions, equal) @ momentum.unsqueeze(-1)).squeeze(-1)


def _errors(windows: Windows, base: Base | ValenceBase, *, still: bool = False) -> tuple[Tensor, float]:
    """Errors of positions by time and atom [KNOTS, n_atoms] (Angstrom), and of velocities (Angstrom/fs)."""
    starts = windows.evenly(STARTS if windows.frames <= MANY else STARTS // 5)
    ahead = np.round(np.linspace(0, windows.frames, KNOTS)).astype(np.int64)
    x, v = _states(windows, starts)
    times = torch.from_numpy(ahead * windows.run.timestep).expand(len(starts), -1)
    path: Path = base(x, v, times, still=still)
    later, speeds = _states(windows, starts[:, None] + ahead)
    wrong = path.centre + path.drift * times[..., None, None] + path.positions - later
    slow = path.drift + path.velocities - speeds
    return wrong.square().mean(dim=(0, 3)).sqrt().clamp(min=1e-4), _rms(slow)


def _states(windows: Windows, frames: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    run = windows.run
    return torch.from_numpy(run.positions[frames]), torch.from_numpy(run.velocities[frames])


def _rms(values: Tensor) -> float:
    return max(float(values.square().mean().sqrt()), 1e-6)
