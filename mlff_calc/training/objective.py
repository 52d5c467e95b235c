"""Objective of a training: the input made from a batch, the loss, and the reported errors; see `module.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mlff_calc.graph.keys import Graph
from mlff_calc.training.data import Batch
from mlff_calc.training.sums import ErrorSums

Stage = Literal["train", "valid"]
Forward = Callable[[Graph], dict[str, Tensor]]


class Objective(ABC):
    """Objective of a training. A kind must define `loss`; the other methods have defaults.

    Attributes:
        needs_tape: Whether a validation needs derivatives, such as forces.
    """

    needs_tape: ClassVar[bool] = False

    def yardstick(self) -> int:
        """Number of what validations are measured against. Where it changes, earlier validations no longer count as best."""
        return 0

    def begin(self, stage: Stage) -> None:
        """Prepare for an epoch of training or a validation."""
        del stage

    def prepare(self, stage: Stage, batch: Batch, generator: torch.Generator) -> Graph:
        """Return the inputs of the network, with noise, times, masks or starts. The other methods get them in their batch.

        Args:
            stage: `train` or `valid`.
            batch: Batch from the source, on the device of the network.
            generator: Generator on that device. It depends only on seed and epoch, and is the same in every validation.
        """
        del stage, generator
        return batch.graph

    def forward(self, network: Forward, graph: Graph) -> dict[str, Tensor]:
        """Compute the outputs for a prepared graph; the network may be compiled."""
        return network(graph)

    def compiled(self, network: Any, example: Batch) -> Forward:  # noqa: ANN401
        """Compile the network, and compare it with the eager one on an example.

        Called only for kinds whose `Prepared` has an example.

        Raises:
            ExportError: Outputs or gradients differ.
        """
        raise NotImplementedError

    def keep(self, stage: Stage, batch: Batch, outputs: Mapping[str, Tensor]) -> None:
        """Keep what later epochs or the metrics need from the outputs."""
        del stage, batch, outputs

    @abstractmethod
    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """Compute the loss of a batch, a scalar that is a mean over `count(batch)` entries."""

    def count(self, batch: Batch) -> int:
        """Number of entries that the loss of a batch averages; its weight in the validation loss."""
        return len(batch.frames)

    def errors(self, sums: ErrorSums, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Add the errors of a validation batch to the sums, which are later reduced over processes."""
        sums.add(outputs, batch.labels, batch.n_atoms)

    def columns(self, sums: ErrorSums | None) -> dict[str, str]:
        """Return columns of `metrics.csv`.

        Args:
            sums: Errors of the validation; None in an epoch without one.
        """
        row: dict[str, str] = {}
        for name, errors in ({} if sums is None else sums.errors()).items():
            row |= {f"valid_{name}_mae": f"{errors.mae:.6g}", f"valid_{name}_rmse": f"{errors.rmse:.6g}"}
        return row

    def text(self, sums: ErrorSums) -> str:
        """Describe the errors of a validation in a few words; empty where there are none."""
        found = {name: one for name, one in sums.errors().items() if name in sums.labels}
        parts = [f"{name} {one.mae:.3g} {one.unit}" for name, one in found.items()]
        return "valid MAE " + ", ".join(parts) if parts else ""

    def state_dict(self) -> dict[str, Any]:
        """State for checkpoints: tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        del state
