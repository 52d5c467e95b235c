"""The Lightning module of the toy kind; imported when a run starts."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mlff_calc.training.network_module import NetworkModule


class LineModule(NetworkModule):
    def __init__(self, line: Any, recipe: Any) -> None:
        super().__init__(recipe)
        self.line = line

    @property
    def network(self) -> nn.Module:
        return self.line

    def _loss(self, part: str, points: Any) -> Tensor:
        self.finite.new_batch(part, points.frames)
        return (self.line(points.xy[:, :1]) - points.xy[:, 1:]).square().mean()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self._loss("train", batch)
        self.count_loss(loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.count_valid_loss(self._loss("valid", batch), len(batch))
