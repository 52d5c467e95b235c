"""Initial velocities, and how many degrees of freedom carry the temperature."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units

from mlff_calc.errors import OptionError

_LINEAR = 1e-6  # smallest moment of inertia over the largest, below which nothing can turn about that axis
_AT_REST = 1e-9  # share of the kinetic energy, below which the motion of the whole is rounding


def removed_degrees_of_freedom(atoms: Atoms, *, conserves_momentum: bool) -> int:
    """How many of the 3N degrees of freedom never move.

    Dynamics that conserve momentum, started with none, keep the centre of mass at rest (3), and a molecule in open space
    does not turn either (3, or 2 for two atoms, which have no rotation about their axis). A thermostat that kicks single
    atoms (Langevin) moves them all.

    The number does not depend on the momentary geometry, so that it is one number for a whole run. Three or more atoms
    that happen to stand on a line lose 3 rotations like any others: they bend at once, and as there is no angular
    momentum about the axis either, the bending starts, and stays, without circling. In CO2 it stays in one plane, where
    6 velocities less 2 of drift and 1 of rotation leave 3 = 3N - 6. (That a linear molecule has 3N - 5 vibrations is no
    contradiction: the two directions of a bend are two vibrations, of which the angular momentum ties one down.)

    Args:
        atoms: the structure; where it has constraints, only what they remove counts.
        conserves_momentum: whether the integrator conserves momentum.

    Returns:
        The number removed, at most 3N - 1.
    """
    n_all = 3 * len(atoms)
    if atoms.constraints:
        return n_all - atoms.get_number_of_degrees_of_freedom()
    if not conserves_momentum or len(atoms) < 2:
        return 0
    rotations = 0 if atoms.pbc.any() else 2 if len(atoms) == 2 else 3
    return min(3 + rotations, n_all - 1)


def degrees_of_freedom(atoms: Atoms, *, conserves_momentum: bool) -> int:
    """Number of degrees of freedom that carry kinetic energy: T = 2 E_kin / (k_B * this number)."""
    return 3 * len(atoms) - removed_degrees_of_freedom(atoms, conserves_momentum=conserves_momentum)


def _inertia(centred: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Inertia tensor [3, 3] about the origin, amu Angstrom^2."""
    outer = np.einsum("a,ai,aj->ij", masses, centred, centred)
    return np.trace(outer) * np.eye(3) - outer


def set_maxwell_velocities(atoms: Atoms, temperature_K: float, *, seed: int, conserves_momentum: bool = True) -> None:
    """Draw momenta from the Maxwell-Boltzmann distribution, at rest as a whole, at exactly the temperature.

    The centre of mass gets no velocity; a structure without periodic directions gets no rotation. Structures with
    constraints keep both, since fixed atoms hold them. The kinetic energy is then scaled to the temperature exactly.

    Args:
        atoms: the structure; its momenta are replaced.
        temperature_K: temperature in K; 0 gives atoms at rest.
        seed: seed of the random numbers.
        conserves_momentum: whether the dynamics that follow conserve momentum (see `degrees_of_freedom`).

    Raises:
        OptionError: negative temperature.
    """
    if not temperature_K >= 0.0:
        raise OptionError(f"temperature {temperature_K} K: must not be negative. Give a temperature of 0 K or more.")
    rng = np.random.default_rng(seed)
    masses = atoms.get_masses()
    velocities = rng.standard_normal((len(atoms), 3)) * np.sqrt(units.kB * temperature_K / masses)[:, None]
    if not atoms.constraints and len(atoms) > 1:
        velocities -= masses @ velocities / masses.sum()
        if not atoms.pbc.any():
            velocities -= _rigid_rotation(atoms.positions - atoms.get_center_of_mass(), masses, velocities)
    atoms.set_momenta(velocities * masses[:, None])
    kinetic = atoms.get_kinetic_energy()
    if kinetic > 0.0:
        n_free = degrees_of_freedom(atoms, conserves_momentum=conserves_momentum)
        wanted = 0.5 * n_free * units.kB * temperature_K
        atoms.set_momenta(atoms.get_momenta() * np.sqrt(wanted / kinetic))


def require_velocities(atoms: Atoms) -> None:
    """Refuse to keep velocities of a structure that has none: the run would be one at 0 K.

    Raises:
        OptionError: no momenta, or all of them zero; names columns that look like velocities.
    """
    if "momenta" in atoms.arrays and atoms.arrays["momenta"].any():
        return
    near = [name for name in atoms.arrays if name.lower().startswith(("vel", "vx", "v_"))]
    hint = f" Its columns {near} are not known to ASE, whose name is 'momenta'." if near else ""
    what = "only zeros for momenta" if "momenta" in atoms.arrays else "no velocities"
    raise OptionError(
        f"velocities are to be kept, and the structure has {what}.{hint} Leave --keep-velocities out to draw them from the "
        "temperature, or give a structure with momenta (atoms.set_velocities)."
    )


def remove_net_motion(atoms: Atoms) -> float:
    """Take the motion of the whole out of the momenta, which no degree of freedom of the run stands for.

    The velocity of the centre of mass goes, and in open space the rotation. Structures with constraints keep both.

    Args:
        atoms: the structure; its momenta are changed only where there is such a motion.

    Returns:
        The kinetic energy taken out, eV; 0 where the structure was at rest as a whole.
    """
    momenta, masses = atoms.get_momenta(), atoms.get_masses()
    if atoms.constraints or len(atoms) < 2 or not momenta.any():
        return 0.0
    velocities = momenta / masses[:, None]
    net = np.broadcast_to(momenta.sum(axis=0) / masses.sum(), velocities.shape)
    if not atoms.pbc.any():
        net = net + _rigid_rotation(atoms.positions - atoms.get_center_of_mass(), masses, velocities - net)
    energy = 0.5 * float(np.sum(masses[:, None] * net**2))
    if energy <= _AT_REST * atoms.get_kinetic_energy():
        return 0.0
    atoms.set_momenta((velocities - net) * masses[:, None])
    return energy


def _rigid_rotation(centred: np.ndarray, masses: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    """The part of the velocities that is a rotation of the whole body about the origin, [n_atoms, 3]."""
    angular_momentum = np.cross(centred, velocities * masses[:, None]).sum(axis=0)
    omega = np.linalg.pinv(_inertia(centred, masses), rcond=_LINEAR, hermitian=True) @ angular_momentum
    return np.cross(omega, centred)
