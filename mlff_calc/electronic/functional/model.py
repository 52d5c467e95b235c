"""The network of a learned exchange-correlation functional.

    E_xc = sum_g w_g n_g eps_g gamma_g + sum_i readout(h_i),

with the energy per electron eps of a semi-local base functional (`bases.py`), its weight gamma (`reweighting.py`), and
features h of atoms that come from the density around them (`embedding.py`) and from messages between atoms (`atoms.py`).
It starts exactly at its base functional. Everything is equivariant under rotations and reflections, smooth, and local:
parts that are farther apart than two cutoffs add. Charges of nuclei enter nowhere, so that E_xc depends on atoms only
through the density and the places of nuclei.

Source: Gao, Eberhard and Guennemann, "Learning equivariant non-local electron density functionals" (2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from mlff_calc.electronic.functional.atoms import Invariants, Messages
from mlff_calc.electronic.functional.bases import ROWS, energy_per_electron, local
from mlff_calc.electronic.functional.embedding import Decoder, Partition, Projection
from mlff_calc.electronic.functional.grid import DensityGrid, Points
from mlff_calc.electronic.functional.near import Near, NearFunctions
from mlff_calc.electronic.functional.reweighting import RESPONSE, Reweighting, local_quantities
from mlff_calc.errors import OptionError
from mlff_calc.networks.base import Network
from mlff_calc.nn.dense import dense
from mlff_calc.nn.scatter import scatter_sum


class FunctionalNetwork(Network):
    """A trained or trainable exchange-correlation functional for closed shells, in float64.

    Create one with `build_functional` or `load_functional`.

    Attributes:
        base: Name of the base functional: `lda`, `pbe` or `r2scan`.
        basis: Name of the basis of orbitals that it was trained with.
        grid_level: Level of PySCF's grids that it was trained with, without pruning.
        elements: Atomic numbers that it was trained on.
        cutoff: Distance from nuclei at which their functions end, Bohr.
        rows: Number of rows of the density that it reads.
        is_local: Whether nothing but the density at a point decides about the energy density there.
    """

    kind = "functional"
    units: ClassVar = {"length": "Bohr", "energy": "Hartree"}
    use = "use load_functional with electronic.scf.rks, or EGXCCalculator: it is a functional for self-consistent fields"
    precisions: ClassVar = ("float64",)

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.precision = "float64"
        self.base, self.basis, self.grid_level = str(config["base"]), str(config["basis"]), int(config["grid_level"])
        self.elements = tuple(int(number) for number in config["elements"])
        self.rows, self.cutoff = ROWS[self.base], float(config["cutoff"])
        self.reweight, has_readout = str(config["reweight"]), bool(config["readout"])
        self.is_local = self.reweight != "nonlocal" and not has_readout
        self._constants = {int(number): float(value) for number, value in config["constants"].items()}
        l_max, filters, channels, width = (int(config[key]) for key in ("l_max", "filters", "channels", "width"))
        if not self.is_local:
            self.functions = NearFunctions(self.cutoff, filters, l_max)
            self.partition = Partition()
            self.projection = Projection(l_max, filters, channels)
            self.messages = Messages(
                l_max, channels, int(config["layers"]), self.cutoff, float(config["avg_num_neighbors"])
            )
            self.invariants = Invariants(l_max)
        self.decoder = Decoder(l_max, filters, channels) if self.reweight == "nonlocal" else None
        self.weights: Reweighting | None = None
        if self.reweight != "none":
            self.weights = Reweighting(self.rows - 2, channels if self.decoder is not None else 0, width)
        self.readout: nn.Sequential | None = None
        if has_readout:
            last = nn.Linear(width, 1)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.readout = nn.Sequential(dense((l_max + 1) * channels, width), nn.SiLU(), last)
        self.double()

    def forward(
        self,
        grid: DensityGrid | Points,
        centres: Tensor,
        centre_system: Tensor | None = None,
        near: Near | None = None,
        share: Tensor | None = None,
    ) -> Tensor:
        """Compute the exchange-correlation energy.

        Args:
            grid: Density on the points of one or several molecules, or what `points` read of it (then with `near`).
            centres: Positions of nuclei [n_atoms, 3], Bohr, molecule by molecule.
            centre_system: Number of the molecule of each nucleus [n_atoms]; None for one molecule.
            near: Points near nuclei, from `near`, to be used again; None finds them.
            share: Shares of nuclei in points, from `shares`, to be used again; None computes them.

        Returns:
            Energies [n_systems], Hartree, without the constants of elements.

        Raises:
            OptionError: The density lacks tau, or `near` is missing.
        """
        points = self.points(grid) if isinstance(grid, DensityGrid) else grid
        n_points, decoded = points.electrons.shape[0], None
        n_systems = points.n_systems if centre_system is None else max(points.n_systems, int(centre_system[-1]) + 1)
        features = invariants = None
        if not self.is_local:
            if near is None:
                if not isinstance(grid, DensityGrid):
                    raise OptionError("points without positions need near; take it from the method near")
                near = self.functions(grid.positions, centres, grid.system, centre_system)
            if share is None:
                share = self.shares(near, n_points)
            features = self.projection(points.electrons, near, share)
            features = self.messages(features, centres, centre_system)
            invariants = self.invariants(features)
            if self.decoder is not None:
                decoded = self.decoder(features, invariants, near, n_points)
        energies = points.energies
        if self.weights is not None:
            energies = energies * self.weights(points.known, decoded)
        found = _by_system(energies, points.system, n_systems)
        if self.readout is not None and invariants is not None:
            found = found + RESPONSE * _by_system(self.readout(invariants).squeeze(1), centre_system, n_systems)
        return found

    def points(self, grid: DensityGrid) -> Points:
        """Return what the functional reads of a density, which depends on no weight; raises an OptionError without tau."""
        if grid.density.shape[0] < self.rows:
            raise OptionError(f"the base functional {self.base} needs tau; give a density with {self.rows} rows")
        found = local(grid.density, with_tau=self.rows > ROWS["pbe"])
        electrons = grid.weights * found.density
        return Points(
            electrons, electrons * energy_per_electron(self.base, found), local_quantities(found), grid.system
        )

    def near(self, grid: DensityGrid, centres: Tensor, centre_system: Tensor | None = None) -> Near | None:
        """Find the points near nuclei, with functions that depend on positions alone; None for a local functional."""
        if self.is_local:
            return None
        near: Near = self.functions(grid.positions, centres, grid.system, centre_system)
        return near

    def shares(self, near: Near, n_points: int) -> Tensor:
        """Shares of nuclei in points [n_atoms, n_most]; they depend on positions and on a weight of the network."""
        share: Tensor = self.partition(near, n_points)
        return share

    def set_constants(self, constants: Mapping[int, float]) -> None:
        """Set the constants of elements, Hartree, by atomic number."""
        self._constants = {int(number): float(value) for number, value in constants.items()}
        self.config["constants"] = {str(number): value for number, value in self._constants.items()}

    def constant(self, numbers: Iterable[int]) -> float:
        """Sum of the fitted constants of atoms, Hartree; elements without a constant count as zero."""
        return sum(self._constants.get(int(number), 0.0) for number in numbers)


def _by_system(values: Tensor, system: Tensor | None, n_systems: int) -> Tensor:
    if system is None:
        return values.sum(dim=0, keepdim=True)
    return scatter_sum(values, system, n_systems)
