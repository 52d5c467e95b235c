"""A calculator of several potentials, whose disagreement shows where they are unreliable."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from mlff_calc.calculators.base import PROPERTIES, GraphCalculator
from mlff_calc.calculators.outputs import Arrays, Results, ase_results
from mlff_calc.calculators.reuse import Reuse
from mlff_calc.calculators.shadow import Shadow
from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.export.opening import load_any, precision_of
from mlff_calc.graph.domain import longest
from mlff_calc.graph.frame import System
from mlff_calc.graph.keys import EDGE_INDEX, EDGE_VEC, Graph
from mlff_calc.potential.keys import ATOMIC_VIRIAL, ENERGIES, ENERGY, FORCES

if TYPE_CHECKING:
    from mlff_calc.export.exported import ExportedPotential
    from mlff_calc.potential import Potential

ACTIONS = ("warn", "stop")


class CommitteeWarning(UserWarning):
    """The members of a committee disagree about a force by more than the threshold."""


class CommitteeCalculator(GraphCalculator):
    """The mean of several potentials, with their spread.

    All of `MLFFCalculator`'s properties are means over the members. `results` and `get_property` also offer

    ==============  ========  ==============  ==============================================================
    name            shape     unit            what
    ==============  ========  ==============  ==============================================================
    energy_std      scalar    eV              standard deviation of the members' energies
    energies_std    [n]       eV              the same for each atom's energy
    forces_std      [n, 3]    eV/Angstrom     the same for each component of the forces
    ==============  ========  ==============  ==============================================================

    Standard deviations divide by the number of members. The spread of the force on an atom is the length of its row in
    `forces_std`: the root mean square distance of the members' forces from their mean. What members with heads of errors
    expect of themselves is not read. ASE does not know these names, so
    what it stores (`export_properties`, `SinglePointCalculator`, frames of a trajectory) does not contain them.

    Neighbour list and edges are built once for all members; a member with a shorter cutoff gets the edges within it.

    Args:
        potentials: Members, at least two names, paths (folders and exported files) or `Potential` objects.
        threshold: Largest accepted spread of a force, in eV/Angstrom; None accepts any.
        action: Reaction to a larger spread: ``warn`` (a `CommitteeWarning` at each such calculation) or ``stop``
            (a SimulationError; the results remain available).
        device, precision, skin, compile, neighbor_backend, deterministic, reuse, domain, trust: Options of `MLFFCalculator`.

    Raises:
        PotentialFileError: A potential does not exist or cannot be read.
        OptionError: An option cannot be honoured, or there are fewer than two members.
    """

    implemented_properties: ClassVar[list[str]] = [*PROPERTIES, "energy_std", "energies_std", "forces_std"]
    default_parameters: ClassVar[dict[str, Any]] = {
        **GraphCalculator.default_parameters,
        "threshold": None,
        "action": "warn",
    }

    def __init__(
        self,
        potentials: Sequence[str | Path | Potential | ExportedPotential],
        *,
        threshold: float | None = None,
        action: Literal["warn", "stop"] = "warn",
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
        if isinstance(potentials, str | Path) or len(potentials) < 2:
            raise OptionError(
                f"a committee needs a list of at least two potentials, got {potentials!r}; for one use MLFFCalculator"
            )
        self._labels = [str(p) if isinstance(p, str | Path) else type(p).__name__ for p in potentials]
        members = [load_any(p, trust=trust) if isinstance(p, str | Path) else p for p in potentials]
        super().__init__(
            members,
            threshold=threshold,
            action=action,
            device=str(device),
            precision=precision_of(members, precision),
            skin=skin,
            compile=compile,
            neighbor_backend=neighbor_backend,
            deterministic=deterministic,
            reuse=reuse,
            domain=domain,
        )

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Parameters in plain types."""
        return {"potentials": list(self._labels), **super().todict(skip_default)}

    def calculate(self, atoms: Atoms | None = None, *arguments: Any, **options: Any) -> None:
        """Calculate as `GraphCalculator` does, then compare the spread with the threshold.

        Raises:
            SimulationError: The spread is above the threshold and the action is ``stop``; `results` are available.
        """
        with self._turn:
            super().calculate(atoms, *arguments, **options)
            self._judge()

    def _judge(self) -> None:
        """Compare the spread with the threshold."""
        threshold = self.parameters["threshold"]
        if threshold is None or self._last is None or len(self._last.frame) == 0:
            return
        spread, worst = longest(self._held["forces_std"])
        if spread <= threshold:
            return
        symbol = chemical_symbols[self._last.frame.numbers[worst]]
        message = (
            f"the committee's spread of the force on atom {worst} ({symbol}) is {spread:.4f} "
            f"eV/Angstrom, above the threshold of {threshold}. Label this structure and train on it, or raise the threshold"
        )
        if self.parameters["action"] == "stop":
            raise SimulationError(message)
        warnings.warn(message, CommitteeWarning, stacklevel=3)

    def _prepare(self) -> None:
        threshold, action = self.parameters["threshold"], self.parameters["action"]
        if threshold is not None and not (np.isfinite(threshold) and threshold > 0.0):
            raise OptionError(f"threshold is {threshold} eV/Angstrom; give a positive number, or None to switch it off")
        if action not in ACTIONS:
            raise OptionError(f"unknown action {action!r} above the threshold; choose one of {', '.join(ACTIONS)}")
        known = [set(potential.elements) for potential in self._potentials]
        if not set.intersection(*known):
            raise OptionError(f"the members have no element in common: {[sorted(one) for one in known]}")
        super()._prepare()

    def _outputs(self, graph: Graph) -> list[dict[str, torch.Tensor]]:
        """Evaluate each member on the edges within its own cutoff."""
        shared = self.cutoff
        cutoffs = [float(potential.cutoff) for potential in self._potentials]
        parts = {cutoff: graph if cutoff == shared else _shorter(graph, cutoff) for cutoff in dict.fromkeys(cutoffs)}
        return [model(parts[cutoff]) for model, cutoff in zip(self._models, cutoffs, strict=True)]

    def _results(self, outputs: list[Arrays], system: System) -> Results:
        names = [name for name in (ENERGY, ENERGIES, FORCES, ATOMIC_VIRIAL) if all(name in one for one in outputs)]
        stacked = {name: np.stack([one[name] for one in outputs]) for name in names}
        results = ase_results({name: array.mean(axis=0) for name, array in stacked.items()}, system)
        results["energy_std"] = float(stacked[ENERGY].std(axis=0)[0])
        results["energies_std"] = stacked[ENERGIES].std(axis=0)
        results["forces_std"] = stacked[FORCES].std(axis=0)
        return results


def _shorter(graph: Graph, cutoff: float) -> Graph:
    """Keep the edges within a shorter cutoff, in their order."""
    inside = torch.nonzero(graph[EDGE_VEC].square().sum(dim=1) < cutoff**2).squeeze(1)
    return {**graph, EDGE_INDEX: graph[EDGE_INDEX][:, inside], EDGE_VEC: graph[EDGE_VEC][inside]}
