"""Runs at constant energy of a potential with fields: truncated, solved, and shadow dynamics from the same start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ase.optimize import BFGS

from mlff_calc.bench.reuse import Run, calculator_of, nve, reference_of
from mlff_calc.bench.systems import build_system
from mlff_calc.calculators.shadow import Shadow
from mlff_calc.dynamics.structures import read_structure
from mlff_calc.errors import OptionError
from mlff_calc.potential import Potential
from mlff_calc.potential.shadow import fields_of, with_products

SOLVED_BY = 20
"""Number of products that count as a solve in the runs. With bounds up to 2 the energy is then exact in float32."""
WAYS: dict[str, tuple[str | Shadow, bool]] = {
    "solved": ("none", True),
    "as trained": ("none", False),
    "shadow": (Shadow(), False),
    "shadow, 2 products": (Shadow(products=2), False),
    "shadow, no friction": (Shadow(dissipation=0), False),
}
"""Reuse of the fields by name, and whether they are solved in every step."""


def shadow_runs(
    potential: Potential,
    structure: str,
    *,
    temperatures: Sequence[float],
    timestep_fs: float,
    time_ps: float,
    frames: int,
    compiled: bool,
) -> list[Run]:
    """Make all runs in turn.

    Args:
        potential: Potential with fields.
        structure: File of the structure, or the name of a system; it is relaxed first.
        temperatures: Temperatures, K.
        timestep_fs: Time step.
        time_ps: Length of each run.
        frames: Number of frames at which forces are compared with those of solved fields in float64.
        compiled: Whether potential and steps are compiled.

    Raises:
        OptionError: The potential has no fields.
    """
    if potential.fields is None:
        raise OptionError("shadow dynamics needs a potential with fields (`potential.fields` in its recipe)")
    atoms = read_structure(Path(structure)) if Path(structure).is_file() else build_system(structure)
    atoms.calc = calculator_of(potential, "none", compiled=False, precision="float64")
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=300)
    atoms.calc = None
    reference, found = reference_of(potential), []
    for temperature in temperatures:
        for name, (reuse, solve) in WAYS.items():
            own = with_products(potential, SOLVED_BY) if solve else potential
            run, _ = nve(
                atoms,
                calculator_of(own, reuse, compiled=compiled, precision="float32"),
                reference,
                name=name,
                temperature_K=temperature,
                timestep_fs=timestep_fs,
                time_ps=time_ps,
                frames=frames,
            )
            found.append(run if run.n_forward else replace(run, n_forward=float(fields_of(own).products)))
    return found
