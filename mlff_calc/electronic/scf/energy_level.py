"""The level of energies: a functional, Hartree-Fock, or a correlated method on top of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import OptionError

CORRELATED = ("mp2", "ccsd", "ccsd(t)")
"""Methods on top of Hartree-Fock."""


@dataclass(frozen=True)
class EnergyLevel:
    """Everything on which an energy depends.

    Attributes:
        scf: Settings of the self-consistent field; those of Hartree-Fock below a correlated method.
        correlation: One of `CORRELATED`; empty for the energy of the self-consistent field itself.
        frozen_core: Whether core orbitals are left out of the correlation.

    Raises:
        OptionError: The parts do not fit together.
    """

    scf: SCFSettings
    correlation: str = ""
    frozen_core: bool = False

    def __post_init__(self) -> None:
        if self.correlation not in ("", *CORRELATED):
            raise OptionError(f"unknown correlated method {self.correlation!r}; give one of {', '.join(CORRELATED)}")
        if self.correlation and not self.scf.is_hartree_fock:
            raise OptionError(f"{self.correlation} stands on Hartree-Fock, not on {self.scf.xc}; give xc hf")
        if self.frozen_core and not self.correlation:
            raise OptionError(f"{self.scf.xc} has no correlation that a frozen core could be left out of; leave it out")

    @classmethod
    def of(
        cls,
        method: str,
        basis: str,
        grid_level: int = 3,
        conv_tol: float = 1e-9,
        density_fit: bool = False,
        frozen_core: bool = False,
        max_cycle: int = 50,
    ) -> EnergyLevel:
        """Make a level from the name of a method.

        Args:
            method: A functional of PySCF, `hf`, or one of `CORRELATED`, in any case.
            basis: Name of a basis; this and the others as in `SCFSettings`.
            grid_level: Level of PySCF's grids.
            conv_tol: Change of energy between cycles at convergence, Ha.
            density_fit: Whether Coulomb and exchange are density-fitted.
            frozen_core: Whether core orbitals are left out of the correlation.
            max_cycle: Largest number of cycles of one attempt.

        Raises:
            OptionError: A value is out of range.
        """
        name = "".join(str(method).lower().split())
        correlation = name if name in CORRELATED else ""
        scf = SCFSettings("hf" if correlation else method, basis, grid_level, conv_tol, density_fit, max_cycle)
        return cls(scf, correlation, frozen_core)

    def __str__(self) -> str:
        words = str(self.scf)
        if self.correlation:
            words = self.correlation + words.removeprefix(self.scf.xc)
        return f"{words}, frozen core" if self.frozen_core else words

    def check(self, numbers: Iterable[int] = (), *, gradient: bool = False) -> None:
        """Check with PySCF that the level is possible; see `SCFSettings.check`.

        Args:
            numbers: Atomic numbers.
            gradient: Whether forces are wanted as well.

        Raises:
            OptionError: It is not, or forces of this level would be wrong.
        """
        self.scf.check(numbers)
        if gradient and self.correlation and self.scf.density_fit:
            raise OptionError(
                f"forces of density-fitted {self.correlation} are refused: PySCF up to 2.14.0 gives wrong ones for CCSD "
                "without a word (pyscf issue 3425). Leave the density fitting or the forces out"
            )
