"""Born-Oppenheimer calculations with a learned functional behind ASE."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from ase import Atoms

from mlff_calc.calculators.scf import SCFCalculator
from mlff_calc.electronic.functional.bases import BASES
from mlff_calc.electronic.functional.load import load_functional
from mlff_calc.electronic.functional.model import FunctionalNetwork
from mlff_calc.electronic.scf.functional_engine import rks
from mlff_calc.electronic.scf.mean_field import mean_field
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import OptionError

OF_TRAINING = -1
"""Level of the grid that means that of the training."""
_SWITCHES = ("allow_charge", "allow_other_elements", "allow_other_basis", "allow_other_grid")


class EGXCCalculator(SCFCalculator):
    """An ASE calculator for closed-shell molecules with a learned exchange-correlation functional in PySCF.

    Results, memory and statistics are those of `SCFCalculator`. An SCF that does not converge is repeated from another
    start and with shifted levels; after that it is an error, and `stats.failures` counts it.

    Args:
        functional: Name or folder of a functional, or the functional.
        basis: Basis, in PySCF's spelling; empty for that of the training.
        start: Start of SCFs: `previous` (orbitals of the last structure), `aspc` (extrapolated density), or one of PySCF.
        charge: Charge of the molecule, e.
        grid_level: Level of the integration grid, which is not pruned; -1 for that of the training.
        conv_tol: Tolerance of the energy, Hartree.
        density_fit: Whether to fit densities.
        grid_response: Whether forces contain the motion of the grid with the nuclei. Without it, they differ from the
            slopes of the energy on coarse grids.
        order: Order of extrapolations, 0 to 4.
        max_cycle: Largest number of cycles.
        allow_charge, allow_other_elements, allow_other_basis, allow_other_grid: Whether to go beyond the training; `rks`
            says what is risked.

    Attributes:
        stats: Counts and times, as `SCFStats`.

    Raises:
        OptionError: An option cannot be honoured, or PySCF is not installed.
        PotentialFileError: There is no such functional.
    """

    default_parameters: ClassVar[dict[str, Any]] = {
        "functional": None,
        "basis": "",
        "start": "previous",
        "charge": 0,
        "grid_level": OF_TRAINING,
        "conv_tol": 1e-9,
        "density_fit": False,
        "grid_response": True,
        "order": 3,
        "max_cycle": 50,
        **dict.fromkeys(_SWITCHES, False),
    }

    def __init__(
        self,
        functional: FunctionalNetwork | str | Path,
        *,
        basis: str = "",
        start: str = "previous",
        charge: int = 0,
        grid_level: int = OF_TRAINING,
        conv_tol: float = 1e-9,
        density_fit: bool = False,
        grid_response: bool = True,
        order: int = 3,
        max_cycle: int = 50,
        allow_charge: bool = False,
        allow_other_elements: bool = False,
        allow_other_basis: bool = False,
        allow_other_grid: bool = False,
    ) -> None:
        self._begin(
            functional=functional, basis=basis, start=start, charge=charge, grid_level=grid_level, conv_tol=conv_tol,
            density_fit=density_fit, grid_response=grid_response, order=order, max_cycle=max_cycle,
            allow_charge=allow_charge, allow_other_elements=allow_other_elements, allow_other_basis=allow_other_basis,
            allow_other_grid=allow_other_grid,
        )  # fmt: skip

    @property
    def functional(self) -> FunctionalNetwork:
        """The functional."""
        return self._network

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Return the arguments as plain types; a functional that was given as an object is named by its checksum."""
        plain = super().todict(skip_default)
        if not isinstance(plain.get("functional"), str):
            given = self.parameters["functional"]
            plain["functional"] = str(given) if isinstance(given, Path) else f"sha256:{self._network.sha256}"
        return plain

    def _level(self) -> SCFSettings:
        """Settings of the SCF; the functional is loaded where it is a name."""
        options = self.parameters
        given = options["functional"]
        if not isinstance(given, FunctionalNetwork | str | Path):
            raise OptionError(f"functional is {given!r}; give a functional, or its name or folder")
        network = given if isinstance(given, FunctionalNetwork) else load_functional(given)
        level = network.grid_level if options["grid_level"] == OF_TRAINING else options["grid_level"]
        settings = SCFSettings(
            BASES[network.base], options["basis"] or network.basis, level, options["conv_tol"], options["density_fit"],
            options["max_cycle"],
        )  # fmt: skip
        self._network = network
        return settings

    def _mean_field(self, atoms: Atoms) -> Any:
        """Mean field of a structure with the functional, not yet solved."""
        switches = {name: bool(self.parameters[name]) for name in _SWITCHES}
        return mean_field(atoms, self._settings, lambda mole: rks(self._network, mole, **switches))
