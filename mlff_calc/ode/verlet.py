"""Velocity Verlet: equal steps for x'' = a(x), which keep energies near their first values.

Source: Swope et al., "A computer simulation method for the calculation of equilibrium constants", J. Chem. Phys. 76, 637
(1982).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor


def verlet(
    acceleration: Callable[[Tensor], Tensor], positions: Tensor, velocities: Tensor, step: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """Positions and velocities at times 0, step, 2 step, and so on without an end.

    Args:
        acceleration: Function of positions.
        positions: At time 0, of any shape.
        velocities: At time 0.
        step: Length of a step.
    """
    x, v, a = positions, velocities, None
    while True:
        yield x, v
        a = acceleration(x) if a is None else a
        half = v + 0.5 * step * a
        x = x + step * half
        a = acceleration(x)
        v = half + 0.5 * step * a
