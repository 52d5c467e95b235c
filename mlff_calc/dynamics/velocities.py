"""Initial velocities, and how many degrees of freedom carry the temperature."""

from __future__ import annotations

import logging

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom, FixInternals, Hookean

from mlff_calc.errors import OptionError

logger = logging.getLogger(__name__)

_LINEAR = 1e-6  # smallest moment of inertia over the largest, below which nothing can turn about that axis
_PASSES = 1e-6  # relative change of a motion by a constraint, below which it passes
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

    Constraints remove what they hold. Beside it, the motion of the whole counts as removed where they let it pass, as bonds
    of fixed length do and fixed atoms do not (see `free_motion`).

    Args:
        atoms: the structure.
        conserves_momentum: whether the integrator conserves momentum.

    Returns:
        The number removed, at most 3N - 1.
    """
    n_all = 3 * len(atoms)
    held = n_all - atoms.get_number_of_degrees_of_freedom() if atoms.constraints else 0
    if not conserves_momentum and not _holds_the_whole(atoms):
        return held
    drifts, turns = free_motion(atoms)
    counted = any(isinstance(constraint, FixCom) for constraint in atoms.constraints)
    held += (0 if counted else len(drifts)) + (0 if not turns else 2 if len(atoms) == 2 else 3)
    return min(held, n_all - 1)


def degrees_of_freedom(atoms: Atoms, *, conserves_momentum: bool) -> int:
    """Number of degrees of freedom that carry kinetic energy: T = 2 E_kin / (k_B * this number)."""
    return 3 * len(atoms) - removed_degrees_of_freedom(atoms, conserves_momentum=conserves_momentum)


def free_motion(atoms: Atoms) -> tuple[np.ndarray, bool]:
    """What the whole may do without a force: the drifts, and whether it turns.

    A constraint that lets a drift pass unchanged does no work on it, so that its forces add up to zero in that direction and
    momentum is conserved there; likewise for rotations. Each constraint is therefore applied to the momenta of every
    drift and rotation, to see whether it changes them: bonds of fixed length (`FixBondLengths`) and of linear molecules
    (`FixLinearTriatomic`) let all of it pass, fixed atoms nothing, an atom on a line the drift along it. A fixed centre of
    mass (`FixCom`) stops drifts and lets rotations pass; `FixInternals` takes both out of momenta. Constraints that add
    forces (`Hookean`) conserve momentum where they act between atoms, and not where they pull to a place. A rigid body is
    not said to turn, since its rotation is all that moves.

    Args:
        atoms: the structure; periodic ones do not turn.

    Returns:
        Orthonormal directions in which it drifts, [n, 3]; whether it turns about its centre of mass.
    """
    if len(atoms) < 2 or any(_pulls_to_a_place(constraint) for constraint in atoms.constraints):
        return np.empty((0, 3)), False
    masses = atoms.get_masses()[:, None]
    others = [constraint for constraint in atoms.constraints if not isinstance(constraint, (FixCom, FixInternals))]
    held = _holds_the_whole(atoms)
    drifts = _passing(atoms, others, [masses * axis for axis in np.eye(3)])
    turns = len(drifts) == 3 and (held or not atoms.pbc.any())
    if turns and others:
        arms = atoms.positions - atoms.get_center_of_mass()
        turns = len(_passing(atoms, others, [masses * np.cross(axis, arms) for axis in np.eye(3)])) == 3
        rotations = 2 if len(atoms) == 2 else 3
        turns = turns and (held or atoms.get_number_of_degrees_of_freedom() > 3 + rotations)
    if others and atoms.get_number_of_degrees_of_freedom() <= len(drifts):
        drifts = np.empty((0, 3))  # nothing else moves
    return drifts, turns


def _holds_the_whole(atoms: Atoms) -> bool:
    """Whether ASE takes the motion of the whole out of momenta by itself, which `get_removed_dof` does not count."""
    return any(isinstance(constraint, FixInternals) for constraint in atoms.constraints)


def _pulls_to_a_place(constraint: object) -> bool:
    """Whether a constraint adds forces that do not come from other atoms."""
    if isinstance(constraint, Hookean):
        return constraint._type != "two atoms"
    return hasattr(constraint, "adjust_potential_energy")


def _passing(atoms: Atoms, constraints: list, motions: list[np.ndarray]) -> np.ndarray:
    """Orthonormal combinations [n, 3] of three motions (momenta, [n_atoms, 3]) that constraints leave as they are."""
    changes = []
    for momenta in motions:
        adjusted = momenta.copy()
        for constraint in constraints:
            constraint.adjust_momenta(atoms, adjusted)
        changes.append((adjusted - momenta).ravel() / max(float(np.linalg.norm(momenta)), np.finfo(float).tiny))
    sizes, directions = np.linalg.eigh(np.array(changes) @ np.array(changes).T)
    return directions.T[sizes < _PASSES**2]


def _inertia(centred: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Inertia tensor [3, 3] about the origin, amu Angstrom^2."""
    outer = np.einsum("a,ai,aj->ij", masses, centred, centred)
    return np.trace(outer) * np.eye(3) - outer


def set_maxwell_velocities(atoms: Atoms, temperature_K: float, *, seed: int, conserves_momentum: bool = True) -> None:
    """Draw momenta from the Maxwell-Boltzmann distribution, at rest as a whole, at exactly the temperature.

    The centre of mass gets no velocity; a structure without periodic directions gets no rotation; either as far as the
    constraints let it move at all (`free_motion`). The kinetic energy is then scaled to the temperature exactly.

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
    atoms.set_momenta(velocities * masses[:, None])  # constraints take out of it what they hold
    atoms.set_momenta(atoms.get_momenta() - masses[:, None] * _net_motion(atoms))
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

    The velocity of the centre of mass goes, and in open space the rotation; what constraints do not let pass stays, since
    the motion that it is part of is counted (`free_motion`).

    Args:
        atoms: the structure; its momenta are changed only where there is such a motion.

    Returns:
        The kinetic energy taken out, eV; 0 where the structure was at rest as a whole.
    """
    masses = atoms.get_masses()[:, None]
    net = _net_motion(atoms)
    energy = 0.5 * float(np.sum(masses * net**2))
    if energy <= _AT_REST * atoms.get_kinetic_energy():
        return 0.0
    atoms.set_momenta(atoms.get_momenta() - masses * net)
    return energy


def bring_to_rest(atoms: Atoms, ensemble: str) -> None:
    """Take the motion of the whole out of velocities that are kept, and say so: temperatures do not count it.

    Args:
        atoms: the structure; its momenta are changed.
        ensemble: its name, for the message.
    """
    energy = remove_net_motion(atoms)
    if energy > 0.0:
        logger.warning(
            "%.4g eV of kinetic energy in drift%s of the whole were taken out of the velocities that are kept: ensemble %s "
            "conserves them, and they are no temperature",
            energy,
            "" if atoms.pbc.any() else " and rotation",
            ensemble,
        )


def _net_motion(atoms: Atoms) -> np.ndarray:
    """The velocities [n_atoms, 3] that are motion of the whole and meet no force."""
    masses = atoms.get_masses()
    drifts, turns = free_motion(atoms)
    velocities = atoms.get_momenta() / masses[:, None]
    centre = masses @ velocities / masses.sum()
    net = np.broadcast_to(drifts.T @ (drifts @ centre), velocities.shape)
    if turns:
        net = net + _rigid_rotation(atoms.positions - atoms.get_center_of_mass(), masses, velocities - centre)
    return net


def _rigid_rotation(centred: np.ndarray, masses: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    """The part of the velocities that is a rotation of the whole body about the origin, [n_atoms, 3]."""
    angular_momentum = np.cross(centred, velocities * masses[:, None]).sum(axis=0)
    omega = np.linalg.pinv(_inertia(centred, masses), rcond=_LINEAR, hermitian=True) @ angular_momentum
    return np.cross(omega, centred)
