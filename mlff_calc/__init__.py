"""Machine-learned force fields behind ASE calculators.

`dir(mlff_calc)` lists the public names. Each is imported on first use, so `import mlff_calc` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mlff_calc.version import __version__

if TYPE_CHECKING:
    from mlff_calc.calculators import CommitteeCalculator, EGXCCalculator, MLFFCalculator, SCFCalculator, freeze
    from mlff_calc.calculators.reuse import Reuse
    from mlff_calc.calculators.shadow import Shadow
    from mlff_calc.datasets.starts import atoms_from_smiles
    from mlff_calc.dynamics import run_md
    from mlff_calc.dynamics.relax import relax
    from mlff_calc.errors import (
        BenchmarkError,
        CacheError,
        ConvergenceError,
        DatasetError,
        EvaluationError,
        IntegrationError,
        MLFFError,
        OptionError,
        OrbitalError,
        PotentialFileError,
        RecipeError,
        SimulationError,
        StructureError,
        TrainingError,
        UnknownElementError,
    )
    from mlff_calc.export import load_exported
    from mlff_calc.potential import Potential, build_potential, list_potentials, load_potential
    from mlff_calc.pretraining import PretrainingNetwork, load_pretraining
    from mlff_calc.properties import PropertyNetwork, load_property
    from mlff_calc.training import evaluate, train

__all__ = [
    "BenchmarkError",
    "CacheError",
    "CommitteeCalculator",
    "ConvergenceError",
    "DatasetError",
    "EGXCCalculator",
    "EvaluationError",
    "IntegrationError",
    "MLFFCalculator",
    "MLFFError",
    "OptionError",
    "OrbitalError",
    "Potential",
    "PotentialFileError",
    "PretrainingNetwork",
    "PropertyNetwork",
    "RecipeError",
    "Reuse",
    "SCFCalculator",
    "Shadow",
    "SimulationError",
    "StructureError",
    "TrainingError",
    "UnknownElementError",
    "__version__",
    "atoms_from_smiles",
    "build_potential",
    "evaluate",
    "freeze",
    "list_potentials",
    "load_exported",
    "load_potential",
    "load_pretraining",
    "load_property",
    "relax",
    "run_md",
    "train",
]

_HOMES = {
    "mlff_calc.calculators": ("CommitteeCalculator", "EGXCCalculator", "MLFFCalculator", "SCFCalculator", "freeze"),
    "mlff_calc.calculators.reuse": ("Reuse",),
    "mlff_calc.calculators.shadow": ("Shadow",),
    "mlff_calc.datasets.starts": ("atoms_from_smiles",),
    "mlff_calc.dynamics": ("run_md",),
    "mlff_calc.dynamics.relax": ("relax",),
    "mlff_calc.errors": tuple(name for name in __all__ if name.endswith("Error")),
    "mlff_calc.export": ("load_exported",),
    "mlff_calc.potential": ("Potential", "build_potential", "list_potentials", "load_potential"),
    "mlff_calc.pretraining": ("PretrainingNetwork", "load_pretraining"),
    "mlff_calc.properties": ("PropertyNetwork", "load_property"),
    "mlff_calc.training": ("evaluate", "train"),
}
"""Modules of the public names."""


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a public name on first use, so that `mlff --help` does not wait for torch."""
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        msg = f"module 'mlff_calc' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
