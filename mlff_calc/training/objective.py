"""What a network learns: how a batch becomes its input, the loss, and the errors that are told; see `module.py`."""

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
    """What a network learns. A kind writes `loss`, and of the rest what it needs.

    Attributes:
        needs_tape: Whether a validation takes derivatives, as forces are.
    """

    needs_tape: ClassVar[bool] = False

    def begin(self, stage: Stage) -> None:
        """Make ready for an epoch of training or a validation."""
        del stage

    def prepare(self, stage: Stage, batch: Batch, generator: torch.Generator) -> Graph:
        """Inputs of the network, with noise, times, masks or starts; the batch that the other methods get holds them.

        Args:
            stage: `train` or `valid`.
            batch: As its source gives it, on the device of the network.
            generator: Random numbers on that device. They follow from seed and epoch, and are the same in every validation.
        """
        del stage, generator
        return batch.graph

    def forward(self, network: Forward, graph: Graph) -> dict[str, Tensor]:
        """Outputs for a prepared graph of the network, which may be compiled."""
        return network(graph)

    def compiled(self, network: Any, example: Batch) -> Forward:  # noqa: ANN401
        """The network as compiled code, compared with the network itself on an example.

        Only kinds whose `Prepared` has an example are asked for it.

        Raises:
            ExportError: Outputs or gradients differ.
        """
        raise NotImplementedError

    def keep(self, stage: Stage, batch: Batch, outputs: Mapping[str, Tensor]) -> None:
        """Take what later epochs or the metrics need from the outputs."""
        del stage, batch, outputs

    @abstractmethod
    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """Loss of a batch, a scalar; a mean over `count(batch)`."""

    def count(self, batch: Batch) -> int:
        """Number of entries that the loss of a batch is a mean of, its weight in the loss of a validation."""
        return len(batch.frames)

    def errors(self, sums: ErrorSums, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Add the errors of a batch of a validation; sums are reduced over processes."""
        sums.add(outputs, batch.labels, batch.n_atoms)

    def columns(self, sums: ErrorSums | None) -> dict[str, str]:
        """Columns of `metrics.csv`.

        Args:
            sums: Errors of the validation; None in an epoch without one.
        """
        row: dict[str, str] = {}
        for name, errors in ({} if sums is None else sums.errors()).items():
            row |= {f"valid_{name}_mae": f"{errors.mae:.6g}", f"valid_{name}_rmse": f"{errors.rmse:.6g}"}
        return row

    def text(self, sums: ErrorSums) -> str:
        """Errors of a validation in a few words; empty where there are none."""
        found = {name: one for name, one in sums.errors().items() if name in sums.labels}
        parts = [f"{name} {one.mae:.3g} {one.unit}" for name, one in found.items()]
        return "valid MAE " + ", ".join(parts) if parts else ""

    def state_dict(self) -> dict[str, Any]:
        """What checkpoints keep: tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what a checkpoint keeps."""
        del state
