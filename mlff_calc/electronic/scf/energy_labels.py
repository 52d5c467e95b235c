"""Energies as labels, of any level that PySCF has, kept in extended xyz files (see `EnergyFile`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase.units import Bohr, Hartree
from numpy.typing import NDArray

from mlff_calc.datasets.energy_files import EnergyFile, EnergyFrame, write_energies
from mlff_calc.datasets.labelling import Alone, LabelJournal, LabelKind, WholeFile
from mlff_calc.electronic.scf.energy_level import EnergyLevel
from mlff_calc.electronic.scf.mean_field import converged, forces_of, mean_field
from mlff_calc.electronic.scf.pyscf_door import one_thread, pyscf_module
from mlff_calc.errors import ConvergenceError, SimulationError

if TYPE_CHECKING:
    from ase import Atoms

CC_TOLERANCE = 1e-9
"""Change of the energy between iterations of coupled clusters at convergence, Ha."""
CC_NORM = 1e-6
"""Change of the norm of the amplitudes at convergence. Raising it makes forces less exact."""
CC_CYCLES = 100
"""Largest number of iterations of coupled clusters."""


@dataclass(frozen=True)
class EnergyLabels(LabelKind):
    """Energies and, where they are asked for, forces.

    Attributes:
        level: Level of the energies.
        gradient: Whether to compute forces.
    """

    level: EnergyLevel
    gradient: bool = False
    suffixes: ClassVar[tuple[str, ...]] = (".extxyz", ".xyz")
    format: ClassVar[str] = "extended xyz"

    def head(self, numbers: NDArray[np.int64]) -> dict[str, Any]:
        """Return the level in words; see `LabelKind.head`."""
        self.level.check(numbers.tolist(), gradient=self.gradient)
        return {"level": str(self.level), "gradient": self.gradient}

    def compute(self, atoms: Atoms) -> Mapping[str, Any]:
        """Compute energy (Ha) and forces (Ha/Bohr); see `energy_and_forces`."""
        energy, forces = energy_and_forces(atoms, self.level, gradient=self.gradient)
        return {"energy": energy} | ({} if forces is None else {"forces": forces})

    def alone(self) -> Alone:
        """Return PySCF's way to one thread."""
        return one_thread

    def write(self, path: Path, journal: LabelJournal) -> None:
        """Write the file, in eV and Angstrom."""
        frames = (_frame(journal.label(number)) for number in journal.labelled())
        write_energies(path, frames, journal.head["level"], journal.failures())

    def read(self, path: Path) -> WholeFile:
        """Read what a file holds; see `LabelKind.read`."""
        file = EnergyFile(path)
        differences = [] if file.level == str(self.level) else [f"{file.level} and {self.level}"]
        if self.gradient and any(frame.forces is None for frame in file.frames):
            differences.append("no forces and forces")
        sources, positions = ([getattr(one, name) for one in file.frames] for name in ("source", "positions"))
        return WholeFile(differences, sources, positions, file.failures)


def _frame(held: Mapping[str, Any]) -> EnergyFrame:
    forces = held.get("forces")
    return EnergyFrame(
        held["numbers"], held["positions"], float(held["energy"]) * Hartree,
        None if forces is None else forces * (Hartree / Bohr), int(held["charge"]), int(held["source"]),
    )  # fmt: skip


def energy_and_forces(
    atoms: Atoms, level: EnergyLevel, gradient: bool = False
) -> tuple[float, NDArray[np.float64] | None]:
    """Compute the energy of a molecule at a level, Ha, and its forces [n_atoms, 3], Ha/Bohr, where they are asked for.

    Args:
        atoms: Structure, Angstrom; its charge is `info['charge']`.
        level: Method, basis and thresholds.
        gradient: Whether to compute forces.

    Raises:
        OptionError: PySCF is not installed, or the level is not possible; see `EnergyLevel.check`.
        StructureError: The structure is not a molecule with paired electrons.
        ConvergenceError: The self-consistent field or coupled clusters do not converge.
        SimulationError: A value is not finite.
    """
    level.check(atoms.numbers[atoms.numbers > 0].tolist(), gradient=gradient)
    mf = mean_field(atoms, level.scf)
    converged(mf)
    if level.correlation:
        energy, forces = _correlated(mf, level, gradient=gradient)
    else:
        energy, forces = float(mf.e_tot), forces_of(mf) if gradient else None
    if not np.isfinite(energy) or (forces is not None and not np.isfinite(forces).all()):
        raise SimulationError(f"energy or forces of {atoms.get_chemical_formula()} at {level} are not finite")
    return energy, forces


def _correlated(mf: Any, level: EnergyLevel, *, gradient: bool) -> tuple[float, NDArray[np.float64] | None]:
    """Energy and forces of a correlated method on a converged Hartree-Fock."""
    if level.correlation == "mp2":
        method = pyscf_module("pyscf.mp").MP2(mf)
    else:
        method = pyscf_module("pyscf.cc").CCSD(mf)
        method.conv_tol, method.conv_tol_normt, method.max_cycle = CC_TOLERANCE, CC_NORM, CC_CYCLES
    method.verbose = 0
    if level.frozen_core:
        method.set_frozen()
    method.kernel()
    if not getattr(method, "converged", True):  # MP2 has no iterations
        raise _not_converged(level, mf)
    energy = float(method.e_tot)
    if level.correlation == "ccsd(t)":
        energy += float(method.ccsd_t())
    return energy, _forces(method, level) if gradient else None


def _forces(method: Any, level: EnergyLevel) -> NDArray[np.float64]:
    """Forces of a correlated method; those of CCSD(T) need its own Lambda, which PySCF does not take by default."""
    if level.correlation == "ccsd(t)":
        integrals = method.ao2mo(method.mo_coeff)
        solved, *multipliers = pyscf_module("pyscf.cc.ccsd_t_lambda").kernel(
            method, integrals, method.t1, method.t2, max_cycle=CC_CYCLES, tol=CC_NORM, verbose=0
        )
        gradients = pyscf_module("pyscf.grad.ccsd_t").Gradients(method)
        given = (method.t1, method.t2, *multipliers, integrals)
    else:
        solved, gradients, given = True, method.nuc_grad_method(), ()
        if level.correlation == "ccsd":
            method.solve_lambda()
            solved = method.converged_lambda
    if not solved:
        raise _not_converged(level, method._scf)
    gradients.verbose = 0
    return -np.asarray(gradients.kernel(*given), dtype=np.float64)


def _not_converged(level: EnergyLevel, mf: Any) -> ConvergenceError:
    return ConvergenceError(
        f"{level.correlation} of {mf.mol.natm} atoms did not converge in {CC_CYCLES} iterations; the molecule may be far "
        "from one determinant: leave it out, or take another method",
        [],
    )
