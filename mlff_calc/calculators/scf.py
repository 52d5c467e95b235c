"""Born-Oppenheimer calculations by PySCF behind ASE, with starts of the SCF from earlier steps and models."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ase import Atoms

from mlff_calc.calculators.ase_rules import AseCalculator
from mlff_calc.calculators.outputs import is_finite
from mlff_calc.calculators.snapshot import Snapshot, differences
from mlff_calc.calculators.state import calculator_state, restore_state
from mlff_calc.charges import charge_of
from mlff_calc.electronic.scf.engine import ase_forces, ase_results
from mlff_calc.electronic.scf.guess import PredictsFock
from mlff_calc.electronic.scf.mean_field import mean_field
from mlff_calc.electronic.scf.run import SCFStats, solve
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.electronic.scf.starts import Starter
from mlff_calc.errors import OptionError, SimulationError, StructureError
from mlff_calc.graph.occupancy import check_occupancy


class SCFCalculator(AseCalculator):
    """An ASE calculator for closed-shell molecules by restricted Kohn-Sham calculations of PySCF.

    Results are energy and free_energy (eV), forces (eV/Angstrom), dipole (e*Angstrom, about the origin) and charges
    (Mulliken's, e). They do not depend on the start within the tolerance of the SCF. Forces cost a gradient, which is
    computed when they are asked for. Energies are total ones, those of nuclei and electrons apart being zero.

    Args:
        xc: Functional, in PySCF's spelling.
        basis: Basis, in PySCF's spelling.
        start: Start of SCFs: `minao` or another one of PySCF, `previous` (orbitals of the last structure), `aspc` (density
            extrapolated from the last ones, whose time steps are taken to be equal), `model`, or `model+aspc` (the model's
            Fock matrix with its extrapolated error).
        model: Name or folder of a trained model, or the model, for the last two starts.
        charge: Charge of the molecule, e.
        grid_level: Level of the integration grid, 0 to 9.
        conv_tol: Tolerance of the energy, Hartree.
        density_fit: Whether to fit densities.
        grid_response: Whether forces contain the motion of the grid with the nuclei. Without it, they differ from the
            slopes of the energy on coarse grids.
        order: Order of extrapolations, 0 to 4.
        max_cycle: Largest number of cycles.

    Attributes:
        stats: Counts and times, as `SCFStats`.

    Raises:
        OptionError: An option cannot be honoured, or PySCF is not installed.
        PotentialFileError: There is no such model.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "dipole", "charges"]
    default_parameters: ClassVar[dict[str, Any]] = {
        "xc": "b3lyp",
        "basis": "def2-svp",
        "start": "aspc",
        "model": None,
        "charge": 0,
        "grid_level": 3,
        "conv_tol": 1e-9,
        "density_fit": False,
        "grid_response": True,
        "order": 3,
        "max_cycle": 50,
    }

    def __init__(
        self,
        xc: str = "b3lyp",
        basis: str = "def2-svp",
        *,
        start: str = "aspc",
        model: str | Path | PredictsFock | None = None,
        charge: int = 0,
        grid_level: int = 3,
        conv_tol: float = 1e-9,
        density_fit: bool = False,
        grid_response: bool = True,
        order: int = 3,
        max_cycle: int = 50,
    ) -> None:
        self._begin(
            xc=xc, basis=basis, start=start, model=model, charge=charge, grid_level=grid_level, conv_tol=conv_tol,
            density_fit=density_fit, grid_response=grid_response, order=order, max_cycle=max_cycle,
        )  # fmt: skip

    def _begin(self, **parameters: Any) -> None:
        """Set up a new calculator with all of its parameters."""
        super().__init__(**parameters)
        self.stats = SCFStats()
        self._solved: tuple[Snapshot, Any] | None = None  # a structure and its mean field
        self._prepare()

    @property
    def history_free(self) -> bool:
        """Whether results depend on the structure alone; with memory they do only within the tolerance of the SCF."""
        return not self._starter.remembers

    @property
    def identity(self) -> str:
        """Class and parameters, by which a resumed run recognises the calculator."""
        shown = self.todict(skip_default=False)
        return f"{type(self).__name__} {' '.join(f'{name}={value}' for name, value in sorted(shown.items()))}"

    @property
    def mean_field(self) -> Any:
        """Mean field of the last structure, solved; None before the first. Properties of PySCF can be computed from it."""
        return self._solved[1] if self._solved is not None and self._solved[0] is self._last else None

    def get_state(self) -> dict[str, Any] | None:
        """Return memory, last structure and last results in plain types and arrays; None without memory."""
        if self.history_free:
            return None
        whole = self._held if "forces" in self._held else {}
        return calculator_state([self._starter.state()], self._last, whole)

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state from `get_state`.

        Raises:
            SimulationError: The state is damaged or belongs to another calculator.
        """
        restored = restore_state(state, [self._starter.load])
        if restored is not None:
            self._last, self.results = restored

    def reset(self) -> None:
        """Forget the last results and structure, and earlier steps."""
        super().reset()
        self._starter.clear()

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Return the arguments as plain types; a model given as an object is named by class and hash."""
        plain = dict(super().todict(skip_default))
        model = plain.get("model")
        if isinstance(model, Path):
            plain["model"] = str(model)
        elif not isinstance(model, str | None):
            plain["model"] = f"{type(model).__name__} {str(getattr(model, 'sha256', ''))[:16]}".strip()
        return plain

    def _calculate(self, source: Atoms, properties: Sequence[str]) -> None:
        """Solve the SCF of a structure, and compute the gradient where forces are asked for.

        Raises:
            StructureError: The structure has no atoms, is periodic, is no closed shell, or its charge is another one.
            OptionError, UnknownElementError: The basis lacks an element, or the model is not for this molecule.
            ConvergenceError: The SCF does not converge.
        """
        try:
            if self.mean_field is None or differences(self._last, source):
                self._held, self._solved = {}, None
                mf = self._mean_field(self._molecule(source))
                last = self._last = Snapshot(source)
                solve(mf, self._starter, self.stats)
                self._solved, self._held = (last, mf), ase_results(mf)
            if "forces" in properties and "forces" not in self._held:
                self._add_forces()
        finally:
            self._turn.new_results()

    def _prepare(self) -> None:
        """Make the starter for the current parameters, and check them.

        Raises:
            OptionError: A parameter cannot be honoured.
        """
        options = self.parameters
        settings = self._level()
        settings.check()
        if isinstance(options["charge"], bool) or not isinstance(options["charge"], int):
            raise OptionError(f"charge is {options['charge']!r}; give a whole number of e")
        self._starter = Starter(options["start"], options.get("model"), options["order"])
        self._settings = settings

    def _level(self) -> SCFSettings:
        """Settings of the SCF for the current parameters."""
        names = ("xc", "basis", "grid_level", "conv_tol", "density_fit", "max_cycle")
        return SCFSettings(**{name: self.parameters[name] for name in names})

    def _mean_field(self, atoms: Atoms) -> Any:
        """Mean field of a structure, not yet solved."""
        return mean_field(atoms, self._settings)

    def _molecule(self, atoms: Atoms) -> Atoms:
        """Return the structure with the calculator's charge.

        Raises:
            StructureError: A site is shared by elements, or the structure names another charge.
        """
        check_occupancy(atoms)
        charge, given = self.parameters["charge"], charge_of(atoms)
        if given not in (0, charge):
            raise StructureError(
                f"the structure has a charge of {given} e, and the calculator one of {charge} e; set charge={given}"
            )
        plain = Atoms(numbers=atoms.numbers, positions=atoms.positions, pbc=atoms.pbc, cell=atoms.cell)
        spins = {name: atoms.info[name] for name in ("spin", "multiplicity", "magmom") if name in atoms.info}
        plain.info = {"charge": charge, **spins}
        if "initial_magmoms" in atoms.arrays:
            plain.set_initial_magnetic_moments(atoms.arrays["initial_magmoms"])
        return plain

    def _add_forces(self) -> None:
        """Add forces to the results of the last structure."""
        begin = time.perf_counter()
        found = ase_forces(self.mean_field, grid_response=self.parameters["grid_response"])
        self.stats.gradients += 1
        self.stats.gradient_seconds += time.perf_counter() - begin
        results = {**self._held, "forces": found}
        if not is_finite(results):
            self._starter.clear()
            raise SimulationError("the gradient has values that are not finite; look at the structure")
        self._held = results

    def __getstate__(self) -> dict[str, Any]:
        """State without the mean field."""
        return {**self.__dict__, "_solved": None}
