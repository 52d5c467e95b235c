"""Moving atoms for timings: thermal-looking motion that no force field has to provide.

Each atom is a damped, noisy harmonic oscillator about its place (Langevin dynamics of an Einstein crystal), in units of one
MD step. With a period of 60 steps and an rms move of 0.01 Angstrom per step, atoms swing 0.1 Angstrom (rms) about their
places, as a stiff molecule at 300 K does at 0.5 fs per step; a neighbour list with a skin is reused for tens of steps and
then rebuilt. Frames depend on the structure and the seed only, so that every program that is timed sees the same ones.

| symbol | name in code | unit |
|---|---|---|
| u | `offset` | Angstrom |
| v | `velocity` | Angstrom per step |
| omega | `frequency` | 1 / step |
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

STEP_RMS = 0.01  # Angstrom that an atom moves in a step (rms)
PERIOD = 60.0  # steps
MEMORY = 0.98  # share of the velocity that survives a step; the rest is thermal noise


def moving_frames(atoms: Atoms, n_frames: int, *, seed: int = 0, step_rms: float = STEP_RMS) -> np.ndarray:
    """Positions of consecutive steps.

    Args:
        atoms: the structure whose positions are the places of rest; it is not changed.
        n_frames: number of frames.
        seed: seed of phases and noise.
        step_rms: root mean square of an atom's move per step, Angstrom.

    Returns:
        Positions [n_frames, n_atoms, 3], Angstrom.
    """
    rng = np.random.default_rng(seed)
    shape = atoms.positions.shape
    sigma = step_rms / np.sqrt(3.0)
    frequency = 2.0 * np.pi / PERIOD
    offset = rng.normal(0.0, sigma / frequency, shape)
    velocity = rng.normal(0.0, sigma, shape)
    frames = np.empty((n_frames, *shape))
    for frame in frames:
        velocity = MEMORY * velocity + np.sqrt(1.0 - MEMORY**2) * sigma * rng.normal(size=shape)
        velocity = velocity - frequency**2 * offset
        offset = offset + velocity
        frame[:] = atoms.positions + offset
    return frames
