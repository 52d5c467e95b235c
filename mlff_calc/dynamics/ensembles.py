"""Ensembles by name, on ASE's integrators, from one dataclass of options."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.bussi import Bussi
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainNVT
from ase.md.verlet import VelocityVerlet

from mlff_calc.bounded import shorten
from mlff_calc.dynamics.guards import check_finite
from mlff_calc.dynamics.langevin import CountingLangevin
from mlff_calc.dynamics.multiple_time_steps import MultipleTimeSteps, truncated_calculator
from mlff_calc.dynamics.velocities import degrees_of_freedom
from mlff_calc.errors import OptionError, SimulationError

ENSEMBLES = ("nve", "langevin", "bussi", "nose-hoover", "npt-iso", "npt")
_CHAINS = ("nose-hoover", "npt-iso", "npt")
_BAROSTATS = ("npt-iso", "npt")
ACTS_IN: dict[str, tuple[str, ...]] = {
    "friction_per_ps": ("langevin",),
    "taut_fs": ("bussi", *_CHAINS),
    "taup_fs": _BAROSTATS,
    "pressure_GPa": _BAROSTATS,
}
"""Ensembles in which an option has an effect. The other ensembles ignore it."""

_THERMOSTAT = ("_thermostat._eta", "_thermostat._p_eta")
_BAROSTAT = ("_barostat._xi", "_barostat._p_xi")
# Attributes, by ASE's names, of the variables of an integrator besides positions, momenta, cell and random numbers.
_INTERNALS: dict[str, tuple[str, ...]] = {
    "nve": (),
    "langevin": ("transferred_energy",),
    "bussi": ("transferred_energy",),
    "nose-hoover": _THERMOSTAT,
    "npt-iso": (*_THERMOSTAT, *_BAROSTAT, "_eps", "_p_eps", "_volume0", "_cell0"),
    "npt": (*_THERMOSTAT, *_BAROSTAT, "_p_g", "_h"),
}
_MULTIPLE = ("forces",)  # the same for nve with multiple time steps


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions:
    """Ensemble of a run, with the parameters of its thermostat and barostat.

    Attributes:
        ensemble: Name of the ensemble: nve; langevin, bussi or nose-hoover (NVT); npt-iso (the volume changes) or npt
            (the shape of the cell changes as well), both after Martyna, Tobias and Klein (MTK).
        timestep_fs: Length of a time step, fs.
        temperature_K: Target temperature, which is also the temperature of the initial velocities, K.
        friction_per_ps: Friction of Langevin dynamics, 1/ps.
        taut_fs: Time constant of the thermostat (Bussi, Nose-Hoover, NPT), fs.
        taup_fs: Time constant of the barostat (NPT), fs.
        pressure_GPa: Target pressure (NPT), GPa, compression positive.
        seed: Seed of the initial velocities and of the thermostat.
        respa: Number of inner steps in a step of the run, for multiple time steps (nve, potentials with a fixed point).
            Inner steps of `timestep_fs` use the force of the truncated potential. The difference to the converged force
            acts as an impulse once per step of the run, whose length is `respa * timestep_fs`. 1 is velocity Verlet.
        respa_evaluations: Number of evaluations of the map f in the truncated potential.
    """

    ensemble: str = "nve"
    timestep_fs: float = 0.5
    temperature_K: float = 300.0
    friction_per_ps: float = 5.0
    taut_fs: float = 100.0
    taup_fs: float = 1000.0
    pressure_GPa: float = 0.0
    seed: int = 0
    respa: int = 1
    respa_evaluations: int = 2

    def __post_init__(self) -> None:
        if self.ensemble not in ENSEMBLES:
            raise OptionError(f"unknown ensemble '{self.ensemble}'. Choose one of: {', '.join(ENSEMBLES)}.")
        for name in ("timestep_fs", "friction_per_ps", "taut_fs", "taup_fs"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise OptionError(f"{name} = {value}: must be a positive number. Give a value above zero.")
        lowest = 0.0 if self.ensemble == "nve" else np.nextafter(0.0, 1.0)
        if not (math.isfinite(self.temperature_K) and self.temperature_K >= lowest):
            raise OptionError(f"temperature_K = {self.temperature_K}: {self.ensemble} needs a temperature above 0 K.")
        if not math.isfinite(self.pressure_GPa):
            raise OptionError(f"pressure_GPa = {self.pressure_GPa}: must be finite. Give a pressure in GPa.")
        if self.seed < 0:
            raise OptionError(f"seed = {self.seed}: must not be negative. Give 0 or a positive integer.")
        for name in ("respa", "respa_evaluations"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} = {getattr(self, name)}: must be at least 1. Give a positive integer.")
        if self.respa > 1 and self.ensemble != "nve":
            raise OptionError(
                f"respa = {self.respa} with ensemble {self.ensemble}: multiple time steps are for nve. "
                "Use ensemble nve, or leave respa out."
            )

    @property
    def step_fs(self) -> float:
        """Length of a step of the run, fs; with multiple time steps the length of an outer step."""
        return self.respa * self.timestep_fs

    @property
    def conserves_momentum(self) -> bool:
        """Whether the total momentum is conserved. Langevin dynamics change it, since they kick each atom independently."""
        return self.ensemble != "langevin"

    @property
    def is_npt(self) -> bool:
        """Whether the cell moves, so that the calculator must compute the stress."""
        return self.ensemble in _BAROSTATS


def check_structure(atoms: Atoms, options: EnsembleOptions) -> None:
    """Refuse a structure that cannot move in this ensemble.

    Args:
        atoms: Structure to move.
        options: Ensemble.

    Raises:
        OptionError: The structure has no atoms or atoms without mass, NPT lacks a cell that is periodic in three
            directions, a Nose-Hoover chain is combined with constraints, or the constraints cannot be kept in dynamics or
            leave no atom free to move.
        StructureError: Positions, cell or momenta are not finite.
    """
    if len(atoms) == 0:
        raise OptionError("the structure has 0 atoms, and dynamics need at least one. Give another structure.")
    if not (atoms.get_masses() > 0.0).all():
        raise OptionError("the structure has atoms without mass. Give every atom a mass (atoms.set_masses).")
    check_finite(atoms)
    if atoms.constraints:
        _check_constraints(atoms)
    if options.is_npt and not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise OptionError(
            f"ensemble {options.ensemble} moves the cell, and this structure has pbc {atoms.pbc.tolist()} and a cell of "
            f"rank {atoms.cell.rank}. Use nve, langevin, bussi or nose-hoover, or a structure periodic in three directions."
        )
    if options.ensemble in _CHAINS and atoms.constraints:
        raise OptionError(
            f"ensemble {options.ensemble} cannot hold constraints ({type(atoms.constraints[0]).__name__}). "
            "Use langevin, or remove the constraints (atoms.set_constraint())."
        )


def _check_constraints(atoms: Atoms) -> None:
    """Refuse constraints that cannot count the degrees of freedom they remove, cannot correct momenta, or leave none free.

    Raises:
        OptionError: Names the constraint.
    """
    trial = atoms.copy()
    for constraint in trial.constraints:
        name = type(constraint).__name__
        try:
            constraint.get_removed_dof(trial)
            constraint.adjust_momenta(trial, trial.get_momenta())
        except (AttributeError, NotImplementedError) as error:
            raise OptionError(
                f"the constraint {name} has no meaning in dynamics: ASE cannot apply it to momenta. "
                "Remove it (atoms.set_constraint()), or relax the structure with it."
            ) from error
    if trial.get_number_of_degrees_of_freedom() <= 0:
        names = ", ".join(sorted({type(constraint).__name__ for constraint in trial.constraints}))
        raise OptionError(f"the constraints ({names}) leave no atom free to move. Free some atoms.")


def build_integrator(
    atoms: Atoms, options: EnsembleOptions, rng: np.random.Generator, *, n_free: int | None = None
) -> MolecularDynamics:
    """Build ASE's integrator for the ensemble.

    The thermostats control the temperature of the degrees of freedom that can move (see `degrees_of_freedom`). ASE's
    Bussi and Nose-Hoover thermostats count 3N degrees of freedom, which would heat a molecule of 9 atoms without drift and
    rotation by 29 %.

    Args:
        atoms: Structure with calculator and momenta.
        options: Ensemble.
        rng: Random numbers of the stochastic thermostats.
        n_free: Number of degrees of freedom, which a resumed run keeps from its start; None counts them.

    Returns:
        The integrator; its `step()` makes one step.

    Raises:
        OptionError: The structure does not fit the ensemble, or the calculator has no fixed point for multiple time steps.
    """
    check_structure(atoms, options)
    timestep = options.timestep_fs * units.fs
    target: dict[str, float] = {"temperature_K": options.temperature_K}
    taut, taup = options.taut_fs * units.fs, options.taup_fs * units.fs
    if n_free is None:
        n_free = degrees_of_freedom(atoms, conserves_momentum=options.conserves_momentum)
    if options.respa > 1:
        cheap = truncated_calculator(atoms.calc, options.respa_evaluations)
        return MultipleTimeSteps(atoms, timestep, cheap=cheap, interval=options.respa)
    if options.ensemble == "nve":
        return VelocityVerlet(atoms, timestep)
    if options.ensemble == "langevin":
        friction = options.friction_per_ps / (1000.0 * units.fs)
        return CountingLangevin(atoms, timestep, friction=friction, fixcm=False, rng=rng, **target)
    if options.ensemble == "bussi":
        return _bussi(atoms, timestep, options.temperature_K, taut, n_free, rng)
    if options.ensemble == "nose-hoover":
        chain = NoseHooverChainNVT(atoms, timestep, tdamp=taut, **target)
    else:
        kind = IsotropicMTKNPT if options.ensemble == "npt-iso" else MTKNPT
        pressure = options.pressure_GPa * units.GPa
        chain = kind(atoms, timestep, pressure_au=pressure, tdamp=taut, pdamp=taup, **target)
    _set_chain_degrees_of_freedom(chain, n_free)
    return chain


def _bussi(
    atoms: Atoms, timestep: float, temperature_K: float, taut: float, n_free: int, rng: np.random.Generator
) -> Bussi:
    if atoms.get_kinetic_energy() < 1e-12:
        raise OptionError("ensemble bussi scales velocities, and all velocities are zero. Start with new velocities.")
    dynamics = Bussi(atoms, timestep, temperature_K=temperature_K, taut=taut, rng=rng)
    dynamics.ndof = n_free
    dynamics.target_kinetic_energy = 0.5 * units.kB * temperature_K * n_free
    return dynamics


def _set_chain_degrees_of_freedom(chain: MolecularDynamics, n_free: int) -> None:
    """Give ASE's chain, which assumes 3 k_B T per atom, the actual number of degrees of freedom."""
    thermostat = chain._thermostat
    thermostat._num_atoms_global = n_free / 3
    thermostat._Q[0] = n_free * thermostat._kT * thermostat._tdamp**2


def conserved_energy(dynamics: MolecularDynamics, ensemble: str, total_energy: float) -> float:
    """Return the quantity that exact integration would keep constant, eV.

    Args:
        dynamics: Integrator.
        ensemble: Name of the ensemble.
        total_energy: Potential plus kinetic energy, eV.

    Returns:
        Total energy (nve); total energy minus the heat supplied by the thermostat (langevin, bussi); energy of the
        extended system (nose-hoover, npt-iso, npt).
    """
    if ensemble == "nve":
        return total_energy
    if ensemble in ("langevin", "bussi"):
        return total_energy - float(dynamics.transferred_energy)
    energy = total_energy + dynamics._thermostat.get_thermostat_energy()
    if ensemble == "nose-hoover":
        return energy
    barostat = dynamics._barostat
    energy += dynamics._pressure_au * float(dynamics._get_volume())
    if ensemble == "npt":
        return energy + barostat.get_barostat_energy() + dynamics._get_cell_kinetic_energy()
    return energy + barostat.get_barostat_energy() + float(dynamics._p_eps) ** 2 / (2.0 * barostat.W)


def get_internals(dynamics: MolecularDynamics, ensemble: str) -> dict[str, Any]:
    """Return the integrator's variables besides positions, momenta, cell and random numbers, by name."""
    return {path: np.copy(attrgetter(path)(dynamics)) for path in _internals(dynamics, ensemble)}


def _internals(dynamics: MolecularDynamics, ensemble: str) -> tuple[str, ...]:
    return _MULTIPLE if isinstance(dynamics, MultipleTimeSteps) else _INTERNALS[ensemble]


def set_internals(dynamics: MolecularDynamics, ensemble: str, internals: dict[str, Any]) -> None:
    """Restore the variables that `get_internals` returned.

    Args:
        dynamics: Fresh integrator on the restored atoms.
        ensemble: Name of the ensemble.
        internals: Values of the variables by name.

    Raises:
        OptionError: The names are not those of this ensemble.
        SimulationError: A value has the wrong type or shape, or is not finite.
    """
    if ensemble == "langevin" and not internals:  # an older version, which did not count the heat, saved this state
        internals = {"transferred_energy": math.nan}
    expected = _internals(dynamics, ensemble)
    if set(internals) != set(expected):
        raise OptionError(
            f"the state holds {sorted(internals)} for ensemble {ensemble}, expected {sorted(expected)}. "
            "It was written by another version: start over in a new folder."
        )
    for path, value in internals.items():
        *parents, name = path.split(".")
        owner = attrgetter(parents[0])(dynamics) if parents else dynamics
        array = _internal(path, value, getattr(owner, name, None))
        setattr(owner, name, float(array) if array.ndim == 0 else array)


def _internal(path: str, value: Any, fresh: Any) -> np.ndarray:  # noqa: ANN401
    """Convert a saved value to an array, and check it against the fresh integrator's value (None where it has none yet)."""
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError, OverflowError):
        array = np.array(None, dtype=object)
    fits = value is not None and array.dtype == float and (fresh is None or array.shape == np.shape(fresh))
    unknown_heat = path == "transferred_energy" and fits and bool(np.isnan(array).all())
    if not fits or not (unknown_heat or bool(np.isfinite(array).all())):
        raise SimulationError(
            f"the state holds {shorten(value)} for {path}, which is not a valid value: it is damaged. "
            "Start over with --overwrite."
        )
    return array
