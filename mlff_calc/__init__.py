"""Machine-learned force fields behind ASE calculators."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlff_calc.calculators import CommitteeCalculator, MLFFCalculator, freeze
    from mlff_calc.potential import Potential, build_potential, list_potentials, load_potential

try:
    __version__ = version("mlff_calc")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0.0.0"

_LAZY = {
    "Potential": "mlff_calc.potential",
    "build_potential": "mlff_calc.potential",
    "list_potentials": "mlff_calc.potential",
    "load_potential": "mlff_calc.potential",
    "MLFFCalculator": "mlff_calc.calculators",
    "CommitteeCalculator": "mlff_calc.calculators",
    "freeze": "mlff_calc.calculators",
}

__all__ = [
    "CommitteeCalculator",
    "MLFFCalculator",
    "Potential",
    "__version__",
    "build_potential",
    "freeze",
    "list_potentials",
    "load_potential",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the public names on first use: `mlff --help` should not wait for torch."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    msg = f"module 'mlff_calc' has no attribute {name!r}"
    raise AttributeError(msg)
