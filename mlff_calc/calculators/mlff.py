"""A potential behind ASE's calculator interface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from mlff_calc.calculators.base import PROPERTIES, GraphCalculator
from mlff_calc.calculators.outputs import Arrays, Results, ase_results
from mlff_calc.calculators.reuse import Reuse
from mlff_calc.calculators.shadow import Shadow, ShadowModel
from mlff_calc.device import gradients_on
from mlff_calc.errors import OptionError
from mlff_calc.export.opening import load_any, precision_of
from mlff_calc.graph.frame import System

if TYPE_CHECKING:
    from mlff_calc.export.exported import ExportedPotential
    from mlff_calc.potential import Potential


class MLFFCalculator(GraphCalculator):
    """An ASE calculator for one potential.

    One evaluation computes energy, free_energy (equal to the energy), energies and forces, and for periodic structures
    stress and stresses, as float64 arrays in eV, eV/Angstrom and eV/Angstrom^3. See `mlff_calc.calculators.outputs` for the
    meaning of the stress of slabs and wires. Potentials trained with `potential.uncertainty` also give `energy_std` (eV) and
    `forces_std` [n, 3] (eV/Angstrom), in `results` and by `get_property`, under the names of `CommitteeCalculator`; ASE does
    not store them. The atoms are never changed. One calculator can serve many structures in turn,
    and all images of a band (`NEB(..., allow_shared_calculator=True)`).

    Args:
        potential: Name of a shipped potential, path of a folder or of an exported file (`mlff export`), an exported file
            that is already loaded, or a `Potential`, which is copied and not changed.
        device: Device: ``auto`` (CUDA if available), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: Precision: ``float32``, ``mixed`` or ``float64`` (for phonons and relaxations to tight forces). All of
            them sum energies in float64. None means float32, or for an exported file the precision of its export.
        skin: Distance by which the neighbour list extends beyond the cutoff, Angstrom. A list is reused until an atom has
            moved by half of it, so that a larger skin is rebuilt less often and has more pairs. Results do not depend on it.
        compile: Whether to run compiled code, which is cached and checked against the eager model (`mlff compile`).
        neighbor_backend: Program for neighbour lists: ``auto``, ``matscipy``, ``ase`` or ``vesin``.
        deterministic: Whether to fix the order of sums on CUDA (see `mlff_calc.device`), which is slower. The order is
            always fixed on CPUs. Cannot be combined with `compile`.
        reuse: Use of the fixed points of earlier steps, for potentials that have one: ``conservative``, ``fast``, ``none``,
            a `Reuse`, or ``auto`` (conservative). Potentials with fields take ``shadow`` or a `Shadow`. See
            `mlff_calc.calculators.reuse` and `mlff_calc.calculators.shadow`.
        domain: Reaction to distances and numbers of neighbours outside the training data: ``warn`` once, ``stop`` with an
            error, or ``off`` for no checks. The first structure, every nineteenth, and each that is far from the one before
            are checked. A potential of `mlff distill` also has its spread of forces (`forces_std`) compared, in every
            calculation, with the one for which it was calibrated.
        trust: Whether to run the code of an exported file that this user did not export on this machine.

    Attributes:
        stats: Times and counts, as `CalculatorStats`.
        potential: Potential as loaded or given.

    Raises:
        PotentialFileError: The potential does not exist, or the file was made by somebody else and is not trusted.
        OptionError: An option cannot be honoured.
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
        reuse: str | Reuse | Shadow = "auto",
        domain: Literal["warn", "stop", "off"] = "warn",
        trust: bool = False,
    ) -> None:
        if isinstance(potential, str | Path):
            self._label, loaded = str(potential), load_any(potential, trust=trust)
        else:
            self._label, loaded = type(potential).__name__, potential
        given = [*PROPERTIES, *getattr(loaded, "uncertainties", ())]
        self.implemented_properties = given  # type: ignore[misc]  # ASE reads that of the object
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

    def shadow_error(self) -> float:
        """Energy of the last calculation minus that of solved fields, eV; for `reuse="shadow"`.

        The fields are solved for this answer alone; the run goes on as if it had not been asked for.

        Raises:
            OptionError: Fields do not follow the atoms here, or nothing has been calculated yet.
        """
        with self._turn:
            self._ensure_prepared()
            model, last = self._models[0], self._last
            if not isinstance(model, ShadowModel) or last is None or "energy" not in self.results:
                raise OptionError(
                    "shadow_error() needs reuse='shadow' and a structure whose energy has been calculated; this calculator "
                    f"has reuse={self.parameters['reuse']!r} and {'no result' if last is None else 'a result'}"
                )
            with gradients_on():
                solved = model.solved_energy(self._lists.graph(last.atoms(), last.frame)[0])
            return float(self.results["energy"]) - solved

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Return the arguments as plain types: `potential` (the name or path, if one was given) and the parameters."""
        return {"potential": self._label, **super().todict(skip_default)}

    def _results(self, outputs: list[Arrays], system: System) -> Results:
        return ase_results(outputs[0], system)
