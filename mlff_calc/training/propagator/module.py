"""The Lightning module of a propagator: one training step, one validation step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mlff_calc.graph import to_device
from mlff_calc.propagator import Propagator
from mlff_calc.training.data import Batch
from mlff_calc.training.network_module import NetworkModule
from mlff_calc.training.propagator.compiling import Forward, compile_propagator
from mlff_calc.training.propagator.losses import MotionLoss, mean_squares
from mlff_calc.training.propagator.recipe import MotionRecipe
from mlff_calc.training.sums import ErrorSums


class MotionModule(NetworkModule):
    """A propagator in training.

    Args:
        propagator: Its weights are trained in place.
        recipe: Loss and optimizer are read from it.
        example: A graph to compile the propagator on; None for eager training.
    """

    def __init__(self, propagator: Propagator, recipe: MotionRecipe, example: dict[str, Tensor] | None = None) -> None:
        super().__init__(recipe)
        self.propagator = propagator
        self.loss = MotionLoss(recipe.loss)
        self.validation = ErrorSums()
        self._example = example
        self._forward: list[Forward] = []  # in a list: a module as an attribute would count its weights twice

    @property
    def network(self) -> Propagator:
        """The propagator."""
        return self.propagator

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of the propagator; compiled on the first call where the recipe asks for it."""
        if not self._forward:
            self._forward.append(self.propagator if self._example is None else self._compiled(self._example))
        return self._forward[0](graph)

    def _compiled(self, example: dict[str, Tensor]) -> Forward:
        # A run that is resumed compiles later than one that is not, and draws the same numbers in its steps.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.enable_grad():
            return compile_propagator(self.propagator, to_device(example, self.device))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch; the guard raises where it is not finite."""
        del batch_idx
        self.finite.new_batch("train", batch.frames)
        loss = self.loss(self(batch.graph), batch.labels)
        self.count_loss(loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the errors of one batch to the sums; the guard raises where an output is not finite."""
        del batch_idx
        self.finite.new_batch("valid", batch.frames)
        with torch.set_grad_enabled(self._example is not None):  # compiled code is that of training steps
            outputs = {name: value.detach() for name, value in self(batch.graph).items()}
        loss = self.loss(outputs, batch.labels)
        self.finite.look("validation loss", torch.stack([loss, *(value.sum() for value in outputs.values())]).sum())
        self.count_valid_loss(loss, len(batch.labels["positions"]))  # a mean over particles: so are its parts
        for name, output in outputs.items():
            self.validation.add_pairs(name, output, batch.labels[name])

    def on_validation_epoch_start(self) -> None:
        """Start the sums anew."""
        super().on_validation_epoch_start()
        self.validation = ErrorSums()
        if self._example is not None:
            self.propagator.train()  # nothing acts otherwise in training, and the code need not be compiled again

    def reduce_validation(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """Sum the errors over processes."""
        self.validation.reduce(reduce)

    def metrics(self) -> dict[str, str]:
        """Mean square errors of the validation, over particles and components, in the units of the data."""
        if self.validated_epoch != self.current_epoch:
            return {}
        return {f"valid_{name}_mse": f"{mse:.8g}" for name, mse in mean_squares(self.validation).items()}

    def validation_text(self) -> str:
        """Mean square errors of the last validation."""
        parts = [f"{name} {mse:.4g}" for name, mse in mean_squares(self.validation).items()]
        return "valid MSE " + ", ".join(parts) if parts else ""
