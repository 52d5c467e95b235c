"""Electronic structure of molecules: orbitals, self-consistent fields, learned matrices and learned functionals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlff_calc.electronic.scf.guess import HamiltonianGuess

__all__ = ["HamiltonianGuess"]


def __getattr__(name: str) -> Any:
    """Import what is asked for; processes that label molecules do without torch."""
    if name == "HamiltonianGuess":
        from mlff_calc.electronic.scf.guess import HamiltonianGuess

        return HamiltonianGuess
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
