"""Potentials by name or path, whether weights or exported files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mlff_calc.errors import OptionError
from mlff_calc.export.exported import ExportedPotential, load_exported
from mlff_calc.export.metadata import BACKENDS, Metadata
from mlff_calc.potential import load_potential

if TYPE_CHECKING:
    from mlff_calc.potential import Potential


def is_exported(name_or_path: str | Path) -> bool:
    """Whether this is the path of a file such as `mlff export` writes, by its ending."""
    return Path(name_or_path).suffix in BACKENDS


def load_any(name_or_path: str | Path, *, trust: bool = False) -> Potential | ExportedPotential:
    """A potential, or an exported one where the path is that of a file such as `mlff export` writes.

    Args:
        name_or_path: name of a potential that ships, a folder, or an exported file.
        trust: open an exported file of somebody else; weights need no trust.

    Raises:
        PotentialFileError: neither, or a file of somebody else that is not trusted.
    """
    if is_exported(name_or_path):
        return load_exported(name_or_path, trust=trust)
    return load_potential(name_or_path)


def precision_of(potentials: Sequence[Any], asked: str | None, default: str = "float32") -> str:
    """The precision asked for, else that of the exported files among the potentials, else the default.

    Args:
        potentials: loaded, or what an exported file says of itself in place of the file.
        asked: the precision asked for, or None.
        default: where there is no exported file.

    Raises:
        OptionError: nothing was asked for, and the files are of several precisions.
    """
    if asked is not None:
        return asked
    found = {one.precision for one in potentials if isinstance(one, ExportedPotential | Metadata)}
    if len(found) > 1:
        raise OptionError(f"the exported files are of several precisions ({', '.join(sorted(found))}); export them in one")
    return found.pop() if found else default


class OneByOne:
    """An exported potential that takes batches, by calling the file once for each system.

    Attributes:
        elements: atomic numbers. cutoff: Angstrom. precision: as exported.
    """

    def __init__(self, exported: ExportedPotential) -> None:
        self._exported = exported
        self.elements, self.cutoff, self.precision = exported.elements, exported.cutoff, exported.precision

    def __call__(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Energies [n_systems], forces [n_atoms, 3] and, where the file has it, stress [n_systems, 3, 3]; as `Potential`.

        Raises:
            ConvergenceError: a fixed point was not found.
        """
        found = [self._exported(one) for one in _systems(graph)]
        names = [name for name in ("energy", "energies", "forces", "virial", "atomic_virial", "stress") if name in found[0]]
        return {name: torch.cat([one[name] for one in found]) for name in names}


def _systems(graph: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The systems of a batch, each a graph of its own."""
    index, centres = graph["system_index"], graph["edge_index"][0]
    parts = []
    for k in range(graph["cell"].shape[0]):
        atoms = torch.nonzero(index == k).squeeze(1)
        edges = torch.nonzero(index[centres] == k).squeeze(1)
        new = torch.zeros_like(index)
        new[atoms] = torch.arange(len(atoms), device=index.device)
        parts.append(
            {
                "atomic_numbers": graph["atomic_numbers"][atoms],
                "system_index": torch.zeros_like(atoms),
                "edge_index": new[graph["edge_index"][:, edges]],
                "edge_vec": graph["edge_vec"][edges],
                "cell": graph["cell"][k : k + 1],
            }
        )
    return parts
