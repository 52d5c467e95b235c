"""Solutions of earlier frames, kept as starts for the next epoch.

Weights, and with them the fixed point of a frame, change little in an epoch. A solve that begins at the old solution
needs about half the evaluations, and one that was cut off continues where it ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

MOST_BYTES = 2 * 1024**3
"""Largest size of the solutions that are kept, in memory and in checkpoints. Raising it lets more frames begin warm."""

KEPT = {"state": "start_state", "adjoint": "start_adjoint", "probe": "probe"}
"""Outputs of a potential, and the keys under which they return in a graph."""


class Starts:
    """Kept solutions, by part of the data and number of the frame.

    Args:
        most_bytes: Largest total size of the solutions; further frames start cold in every epoch.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._kept: dict[str, dict[int, dict[str, Tensor]]] = {}
        self._bytes, self._most = 0, most_bytes

    def give(
        self, part: str, frames: list[int], graph: dict[str, Tensor], generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Add starts to the graph if all its frames have one; otherwise return it unchanged.

        Args:
            part: `train` or `valid`.
            frames: Numbers of the frames, in the order of the graph.
            graph: Batch.
            generator: Generator for the probes of frames that have none yet, on the device of the graph.
        """
        known = self._kept.get(part, {})
        if not frames or any(frame not in known for frame in frames):
            return graph
        device = graph["edge_vec"].device
        rows = [known[frame] for frame in frames]
        if any("probe" in row for row in rows):  # frames without a probe begin at random
            rows = [row if "probe" in row else row | {"probe": _normal(row["state"], generator)} for row in rows]
        return graph | {
            key: torch.cat([row[name] for row in rows]).to(device)
            for name, key in KEPT.items()
            if all(name in row for row in rows)
        }

    def keep(self, part: str, frames: list[int], n_atoms: Tensor, outputs: Mapping[str, Tensor]) -> None:
        """Keep the solutions of a batch.

        Args:
            part: `train` or `valid`.
            frames: Numbers of the frames.
            n_atoms: Numbers of atoms [n_systems].
            outputs: Outputs of the potential; values that are not finite are dropped.
        """
        known = self._kept.setdefault(part, {})
        sizes = n_atoms.tolist()
        found = {name: outputs[name].detach().cpu().split(sizes) for name in KEPT if name in outputs}
        if not found:
            return
        for i, frame in enumerate(frames):
            row = {name: parts[i] for name, parts in found.items()}
            before = known.pop(frame, {})
            self._bytes -= _size(before)
            row = before | row if all(bool(torch.isfinite(tensor).all()) for tensor in row.values()) else {}
            if row and self._bytes + _size(row) <= self._most:
                known[frame] = row
                self._bytes += _size(row)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return self._kept

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self._kept = state
        self._bytes = sum(_size(row) for known in state.values() for row in known.values())


def _size(row: Mapping[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in row.values())


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw normal random numbers on the CPU in the shape of a tensor."""
    device = torch.device("cpu") if generator is None else generator.device
    return torch.randn(like.shape, dtype=like.dtype, device=device, generator=generator).cpu()
