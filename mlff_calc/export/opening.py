"""Opening potentials by name or path, both weights and exported files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mlff_calc.errors import OptionError
from mlff_calc.export.exported import ExportedPotential, load_exported
from mlff_calc.export.metadata import BACKENDS, Metadata
from mlff_calc.export.trace import GRADIENT_OUTPUTS
from mlff_calc.graph import split
from mlff_calc.potential import load_potential

if TYPE_CHECKING:
    from mlff_calc.potential import Potential


def is_exported(name_or_path: str | Path) -> bool:
    """Whether a path has the suffix of an exported file."""
    return Path(name_or_path).suffix in BACKENDS


def load_any(name_or_path: str | Path, *, trust: bool = False) -> Potential | ExportedPotential:
    """Load a potential, or an exported file where the path is that of one.

    Args:
        name_or_path: name of a shipped potential, a folder, or an exported file.
        trust: whether to open an exported file of somebody else; weights need no trust.

    Raises:
        PotentialFileError: there is no such potential, or the file is somebody else's and not trusted.
    """
    if is_exported(name_or_path):
        return load_exported(name_or_path, trust=trust)
    return load_potential(name_or_path)


def precision_of(potentials: Sequence[Any], asked: str | None, default: str = "float32") -> str:
    """Return the requested precision, else that of the exported files among the potentials, else the default.

    Args:
        potentials: loaded potentials, or records of exported files.
        asked: requested precision, or None.
        default: precision where there is no exported file.

    Raises:
        OptionError: no precision is requested, and the files have several.
    """
    if asked is not None:
        return asked
    found = {one.precision for one in potentials if isinstance(one, ExportedPotential | Metadata)}
    if len(found) > 1:
        raise OptionError(f"the exported files are of several precisions ({', '.join(sorted(found))}); export them in one")
    return found.pop() if found else default


class ExportedBatches:
    """An exported potential that accepts batches, by calling the file for each system.

    Attributes:
        elements: atomic numbers.
        cutoff: cutoff radius, Angstrom.
        precision: precision of the export.
    """

    def __init__(self, exported: ExportedPotential) -> None:
        self._exported = exported
        self.elements, self.cutoff, self.precision = exported.elements, exported.cutoff, exported.precision

    def __call__(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute energies [n_systems], forces [n_atoms, 3] and, if any, stress [n_systems, 3, 3]; see `Potential`.

        Raises:
            ConvergenceError: a fixed point was not found.
        """
        found = [self._exported(one) for one in split({name: graph[name] for name in _INPUTS})]
        names = [name for name in (*GRADIENT_OUTPUTS, *self._exported.uncertainties) if name in found[0]]
        return {name: torch.cat([one[name] for one in found]) for name in names}


_INPUTS = ("atomic_numbers", "system_index", "edge_index", "edge_vec", "cell")
