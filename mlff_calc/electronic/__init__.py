"""Electronic structure of molecules: orbitals, self-consistent fields, learned matrices and learned functionals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlff_calc.electronic.scf.guess import HamiltonianGuess
    from mlff_calc.electronic.scf.predicted import predict_properties

__all__ = ["HamiltonianGuess", "predict_properties"]


def __getattr__(name: str) -> Any:
    """Import what is asked for; processes that label molecules do without torch."""
    if name == "HamiltonianGuess":
        from mlff_calc.electronic.scf.guess import HamiltonianGuess

        return HamiltonianGuess
    if name == "predict_properties":
        from mlff_calc.electronic.scf.predicted import predict_properties

        return predict_properties
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
