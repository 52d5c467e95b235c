"""Initial velocities, and the number of degrees of freedom that carry kinetic energy."""

from __future__ import annotations

import logging

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom, FixInternals, Hookean

from mlff_calc.errors import OptionError

logger = logging.getLogger(__name__)

_LINEAR = 1e-6  # ratio of smallest and largest moment of inertia below which a body counts as linear; larger: more do
_PASSES = 1e-6  # relative change by a constraint below which a motion counts as free; larger: more motions do
_AT_REST = 1e-9  # fraction of the kinetic energy below which overall motion counts as rounding; larger: more is kept


def removed_degrees_of_freedom(atoms: Atoms, *, conserves_momentum: bool) -> int:
    """Count the degrees of freedom, out of 3N, that carry no kinetic energy.

    Dynamics that conserve momentum and start at rest keep the centre of mass at rest, which removes 3 degrees of freedom. A
    molecule without periodic directions does not rotate either, which removes 3 more (2 for two atoms, which have no
    rotation about their axis). A thermostat that kicks individual atoms (Langevin) moves all degrees of freedom.

    The count does not depend on the current geometry, so it is the same during the whole run. Three or more atoms that
    happen to lie on a line also lose 3 rotations. Such a molecule bends at once. Its angular momentum about the axis is
    zero as well, so the bending motion does not circle about the axis. CO2, for example, stays in one plane, in which 6
    velocities minus 2 for drift and 1 for rotation leave 3 = 3N - 6. This does not contradict the 3N - 5 vibrations of a
    linear molecule: the two directions of a bend count as two vibrations, and the conserved angular momentum fixes one.

    Constraints remove the degrees of freedom that they hold. In addition, overall translation and rotation count as removed
    if the constraints allow them, as bonds of fixed length do and fixed atoms do not (see `free_motion`).

    Args:
        atoms: Structure with its constraints.
        conserves_momentum: Whether the integrator conserves momentum.

    Returns:
        The number of removed degrees of freedom, at most 3N - 1.
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
    """Return the number of degrees of freedom that carry kinetic energy, so that T = 2 E_kin / (k_B * this number)."""
    return 3 * len(atoms) - removed_degrees_of_freedom(atoms, conserves_momentum=conserves_momentum)


def free_motion(atoms: Atoms) -> tuple[np.ndarray, bool]:
    """Find the overall translations and rotations that no force acts on.

    If a constraint leaves a translation unchanged, it does no work on it. Its forces then add up to zero in that direction,
    and momentum is conserved there; the same holds for rotations. Each constraint is therefore applied to the momenta of
    every translation and rotation, to test whether it changes them. Fixed bond lengths (`FixBondLengths`) and linear
    molecules (`FixLinearTriatomic`) leave all of them unchanged; fixed atoms leave none; an atom on a line leaves the
    translation along the line. A fixed centre of mass (`FixCom`) removes translations and keeps rotations; `FixInternals`
    removes both from the momenta. Constraints that add forces (`Hookean`) conserve momentum if they act between atoms, but
    not if they pull towards a point in space. A rigid body does not count as rotating here, since the rotation is its only
    motion.

    Args:
        atoms: Structure with its constraints; periodic structures do not rotate.

    Returns:
        Orthonormal directions of free translations, [n, 3]; whether rotations about the centre of mass are free.
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
    """Whether ASE itself removes overall motion from the momenta, which `get_removed_dof` does not count."""
    return any(isinstance(constraint, FixInternals) for constraint in atoms.constraints)


def _pulls_to_a_place(constraint: object) -> bool:
    """Whether a constraint adds forces towards a point in space, which do not act between atoms."""
    if isinstance(constraint, Hookean):
        return constraint._type != "two atoms"
    return hasattr(constraint, "adjust_potential_energy")


def _passing(atoms: Atoms, constraints: list, motions: list[np.ndarray]) -> np.ndarray:
    """Return orthonormal combinations [n, 3] of three motions (momenta, [n_atoms, 3]) that the constraints do not change."""
    changes = []
    for momenta in motions:
        adjusted = momenta.copy()
        for constraint in constraints:
            constraint.adjust_momenta(atoms, adjusted)
        changes.append((adjusted - momenta).ravel() / max(float(np.linalg.norm(momenta)), np.finfo(float).tiny))
    sizes, directions = np.linalg.eigh(np.array(changes) @ np.array(changes).T)
    return directions.T[sizes < _PASSES**2]


def _inertia(centred: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Return the inertia tensor [3, 3] about the origin, amu Angstrom^2."""
    outer = np.einsum("a,ai,aj->ij", masses, centred, centred)
    return np.trace(outer) * np.eye(3) - outer


def set_maxwell_velocities(atoms: Atoms, temperature_K: float, *, seed: int, conserves_momentum: bool = True) -> None:
    """Draw momenta from the Maxwell-Boltzmann distribution, without overall motion and at exactly the given temperature.

    The velocity of the centre of mass is removed and, without periodic directions, the rotation, as far as the constraints
    allow these motions (`free_motion`). The kinetic energy is then scaled to the temperature exactly.

    Args:
        atoms: Structure whose momenta are replaced.
        temperature_K: Temperature in K; 0 gives atoms at rest.
        seed: Seed of the random numbers.
        conserves_momentum: Whether the dynamics that follow conserve momentum (see `degrees_of_freedom`).

    Raises:
        OptionError: The temperature is negative.
    """
    if not temperature_K >= 0.0:
        raise OptionError(f"temperature {temperature_K} K: must not be negative. Give a temperature of 0 K or more.")
    rng = np.random.default_rng(seed)
    masses = atoms.get_masses()
    velocities = rng.standard_normal((len(atoms), 3)) * np.sqrt(units.kB * temperature_K / masses)[:, None]
    atoms.set_momenta(velocities * masses[:, None])  # constraints remove the motions that they hold
    atoms.set_momenta(atoms.get_momenta() - masses[:, None] * _net_motion(atoms))
    kinetic = atoms.get_kinetic_energy()
    if kinetic > 0.0:
        n_free = degrees_of_freedom(atoms, conserves_momentum=conserves_momentum)
        wanted = 0.5 * n_free * units.kB * temperature_K
        atoms.set_momenta(atoms.get_momenta() * np.sqrt(wanted / kinetic))


def require_velocities(atoms: Atoms) -> None:
    """Refuse to keep the velocities of a structure that has none, since the run would start at 0 K.

    Raises:
        OptionError: The structure has no momenta, or all of them are zero. The text names columns that look like velocities.
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
    """Remove overall translation and rotation, which the degrees of freedom of the run do not count, from the momenta.

    The velocity of the centre of mass is removed and, without periodic directions, the rotation. Motions that constraints
    act on are kept, since they are counted (`free_motion`).

    Args:
        atoms: Structure; its momenta are changed only if there is such a motion.

    Returns:
        The kinetic energy removed, eV; 0 where there was no overall motion.
    """
    masses = atoms.get_masses()[:, None]
    net = _net_motion(atoms)
    energy = 0.5 * float(np.sum(masses * net**2))
    if energy <= _AT_REST * atoms.get_kinetic_energy():
        return 0.0
    atoms.set_momenta(atoms.get_momenta() - masses * net)
    return energy


def bring_to_rest(atoms: Atoms, ensemble: str) -> None:
    """Remove overall motion, which temperatures do not count, from velocities that are kept, and log a warning.

    Args:
        atoms: Structure whose momenta are changed.
        ensemble: Name of the ensemble, for the message.
    """
    energy = remove_net_motion(atoms)
    if energy > 0.0:
        logger.warning(
            "%.4g eV of kinetic energy in drift%s of the whole system were removed from the velocities that are kept: "
            "ensemble %s conserves these motions, and they do not count as temperature",
            energy,
            "" if atoms.pbc.any() else " and rotation",
            ensemble,
        )


def _net_motion(atoms: Atoms) -> np.ndarray:
    """Return the velocities [n_atoms, 3] of the overall motion that no force acts on."""
    masses = atoms.get_masses()
    drifts, turns = free_motion(atoms)
    velocities = atoms.get_momenta() / masses[:, None]
    centre = masses @ velocities / masses.sum()
    net = np.broadcast_to(drifts.T @ (drifts @ centre), velocities.shape)
    if turns:
        net = net + _rigid_rotation(atoms.positions - atoms.get_center_of_mass(), masses, velocities - centre)
    return net


def _rigid_rotation(centred: np.ndarray, masses: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    """Return the part of the velocities [n_atoms, 3] that is a rotation of the whole body about the origin."""
    angular_momentum = np.cross(centred, velocities * masses[:, None]).sum(axis=0)
    omega = np.linalg.pinv(_inertia(centred, masses), rcond=_LINEAR, hermitian=True) @ angular_momentum
    return np.cross(omega, centred)
