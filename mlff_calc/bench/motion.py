"""Moving atoms for timings, with motion that resembles thermal motion but needs no force field.

Each atom is a damped, noisy harmonic oscillator about its position (Langevin dynamics of an Einstein crystal), in units of
one MD step. With a period of 60 steps and an rms displacement of 0.01 Angstrom per step, atoms oscillate by 0.1 Angstrom
(rms), as in a stiff molecule at 300 K with steps of 0.5 fs. A neighbour list with a skin is then reused for tens of steps
before it is rebuilt. Frames depend only on the structure and the seed, so that all programs are timed on the same frames.

| symbol | name in code | unit |
|---|---|---|
| u | `offset` | Angstrom |
| v | `velocity` | Angstrom per step |
| omega | `frequency` | 1 / step |
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

STEP_RMS = 0.01  # rms displacement of an atom per step, Angstrom; a larger value rebuilds neighbour lists more often
PERIOD = 60.0  # period of the oscillators in steps; a larger value gives wider oscillations
MEMORY = 0.98  # fraction of the velocity that is kept in a step; a larger value gives smoother, less noisy motion


def moving_frames(atoms: Atoms, n_frames: int, *, seed: int = 0, step_rms: float = STEP_RMS) -> np.ndarray:
    """Return the positions of consecutive steps.

    Args:
        atoms: Structure whose positions are the centres of the oscillations; it is not changed.
        n_frames: Number of frames.
        seed: Seed of phases and noise.
        step_rms: Root mean square displacement of an atom per step, Angstrom.

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
