"""A potential behind ASE's calculator interface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from mlff_calc.calculators.base import GraphCalculator
from mlff_calc.calculators.outputs import Arrays, Results, ase_results
from mlff_calc.calculators.reuse import Reuse
from mlff_calc.export.opening import load_any, precision_of
from mlff_calc.graph.frame import System

if TYPE_CHECKING:
    from mlff_calc.export.exported import ExportedPotential
    from mlff_calc.potential import Potential


class MLFFCalculator(GraphCalculator):
    """An ASE calculator for one potential.

    One evaluation gives energy, free_energy (the same), energies, forces, and for periodic structures stress and stresses,
    as float64 arrays in eV, eV/Angstrom and eV/Angstrom^3. What stress means for slabs and wires stands in
    `mlff_calc.calculators.outputs`. The atoms are never changed. One calculator may serve many structures in turn, and
    many images of a band (`NEB(..., allow_shared_calculator=True)`).

    Args:
        potential: name of a potential that ships, path of a folder or of an exported file (`mlff export`), an exported file
            that is loaded, or a `Potential`, which is copied and not changed.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``float32``, ``mixed`` or ``float64`` (relaxations to tight forces, phonons). Energies are summed in
            float64 in each of them. None is float32, and of an exported file the one it was exported in.
        skin: Angstrom that the neighbour list reaches beyond the cutoff: a list is reused until an atom has moved half of
            it. Results do not depend on it.
        compile: run compiled code, cached and checked against the eager model (`mlff compile`).
        neighbor_backend: ``auto``, ``matscipy``, ``ase`` or ``vesin``.
        deterministic: fix the order of sums on CUDA (see `mlff_calc.device`); slower there. The CPU's order
            is fixed anyway. Cannot be combined with `compile`.
        reuse: of fixed points from step to step, for potentials that have one: ``conservative``, ``fast``, ``none``, a
            `Reuse`, or ``auto`` (conservative). See `mlff_calc.calculators.reuse`.
        domain: of structures outside the distances and numbers of neighbours of the training data: ``warn`` once, ``stop``
            with an error, or ``off``, for no looks. Looked at are the first structure, every twentieth, and each that is far
            from the one before.
        trust: open an exported file although it was not exported by this user on this machine: its code runs.

    Attributes:
        stats: times and counts, `CalculatorStats`.
        potential: as loaded or given.

    Raises:
        PotentialFileError: no such potential, or a file of somebody else that is not trusted.
        OptionError: an option that cannot be honoured.
    """

    def __init__(
        self,
        potential: str | Path | Potential | ExportedPotential,
        *,
        device: str | torch.device = "auto",
        precision: str | None = None,
        skin: float = 0.5,
        compile: bool = False,
        neighbor_backend: str = "auto",
        deterministic: bool = False,
        reuse: str | Reuse = "auto",
        domain: Literal["warn", "stop", "off"] = "warn",
        trust: bool = False,
    ) -> None:
        if isinstance(potential, str | Path):
            self._label, loaded = str(potential), load_any(potential, trust=trust)
        else:
            self._label, loaded = type(potential).__name__, potential
        super().__init__(
            [loaded],
            device=str(device),
            precision=precision_of([loaded], precision),
            skin=skin,
            compile=compile,
            neighbor_backend=neighbor_backend,
            deterministic=deterministic,
            reuse=reuse,
            domain=domain,
        )

    @property
    def potential(self) -> Potential:
        """The potential as loaded or given; changing it does not change the calculator."""
        return self._potentials[0]

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """What was asked for, in plain types: `potential` (a name or path where one was given) and the parameters."""
        return {"potential": self._label, **super().todict(skip_default)}

    def _results(self, outputs: list[Arrays], system: System) -> Results:
        return ase_results(outputs[0], system)
