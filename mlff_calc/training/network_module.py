"""What Lightning modules of all kinds have in common: sums over an epoch, clipping, the optimizer, averaged validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from mlff_calc.nn.degree import DegreeNorm
from mlff_calc.training.finite import FiniteGuard
from mlff_calc.training.normalization import Normalization, build_normalization
from mlff_calc.training.recipe_base import TrainingRecipe


class NetworkModule(pl.LightningModule):
    """A network in training; a kind of network adds its steps and what it tells of them.

    Args:
        recipe: Optimizer and trainer are read from it.

    Attributes:
        loss_sum: Sum of the losses of this epoch, on the device (nobody waits for it before the epoch ends).
        steps_in_epoch: Batches added to it.
        valid_loss: Loss of the last validation.
        validated_epoch: Epoch (from 0) of the last validation.
    """

    def __init__(self, recipe: TrainingRecipe) -> None:
        super().__init__()
        self.optimizer_section = recipe.optimizer
        self.loss_sum: Tensor | None = None
        self.steps_in_epoch = 0
        self.valid_loss = float("nan")
        self.validated_epoch = -1
        self._valid_loss_sum: Tensor | None = None
        self._valid_count = 0
        self.finite = FiniteGuard()
        self.normalization = Normalization([])
        self._kept_normalization: dict[str, Tensor] = {}

    @property
    def network(self) -> nn.Module:
        """What is trained; its parameters are all the parameters there are."""
        raise NotImplementedError

    def metrics(self) -> dict[str, str]:
        """Columns of `metrics.csv` for this epoch, beside those that all runs have; called once an epoch."""
        return {}

    def validation_text(self) -> str:
        """Errors of the last validation in a few words; empty where there was none."""
        return ""

    def reduce_validation(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """Sum what `metrics` tells of the running validation over processes."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the optimizer steps in place of weights."""
        checkpoint["normalization"] = self.normalization.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up."""
        self._kept_normalization = checkpoint.get("normalization", {})

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move the tensors of a batch; the numbers of its frames stay."""
        del dataloader_idx
        return batch.to(device)

    def count_loss(self, loss: Tensor) -> None:
        """Look at the loss of a training step and add it to the sum of the epoch.

        Raises:
            NotFiniteError: It is not finite.
        """
        self.finite.look("loss", loss)
        self.loss_sum = loss.detach() if self.loss_sum is None else self.loss_sum + loss.detach()
        self.steps_in_epoch += 1

    def count_valid_loss(self, loss: Tensor, count: int) -> None:
        """Add the mean loss of `count` frames of a validation."""
        total = loss.detach() * count
        self._valid_loss_sum = total if self._valid_loss_sum is None else self._valid_loss_sum + total
        self._valid_count += count

    def on_validation_epoch_start(self) -> None:
        """Start the sums anew."""
        self._valid_loss_sum, self._valid_count = None, 0

    def on_validation_epoch_end(self) -> None:
        """Sum over processes, and keep the mean loss."""
        self.finite.check()
        if self._valid_loss_sum is None:
            return
        counted = torch.stack([self._valid_loss_sum, self._valid_loss_sum.new_tensor(float(self._valid_count))])
        if self.trainer.world_size > 1:
            counted = self.trainer.strategy.reduce(counted, reduce_op="sum")
            self.reduce_validation(lambda sums: self.trainer.strategy.reduce(sums, reduce_op="sum"))
        total, frames = counted.tolist()
        self.valid_loss = total / frames
        self.validated_epoch = self.current_epoch

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> None:
        """Scale the gradient to at most `gradient_clip`; a gradient that is not finite ends the run.

        Normalized weights hand their gradients on afterwards, to what the optimizer steps in their place.
        """
        del optimizer, args, kwargs
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        self.finite.look("gradient", norm)
        clip = self.optimizer_section.gradient_clip
        if clip is not None:
            torch._foreach_mul_(gradients, (clip / (norm + 1e-6)).clamp(max=1.0))
        self.normalization.pull()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """A step of the optimizer, and what normalization makes of it."""
        super().optimizer_step(*args, **kwargs)
        self.normalization.write()

    def take_train_loss(self) -> float:
        """Mean loss over the batches since the last call."""
        if self.loss_sum is None:
            return float("nan")
        mean = self.loss_sum / self.steps_in_epoch
        if self.trainer.world_size > 1:
            mean = self.trainer.strategy.reduce(mean, reduce_op="mean")
        self.loss_sum, self.steps_in_epoch = None, 0
        return float(mean)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam or AdamW; weights decay, biases, norms and embeddings do not."""
        section = self.optimizer_section
        self.normalization = build_normalization(self.network)
        if self._kept_normalization:
            self.normalization.load_state_dict(self._kept_normalization)
        trained = [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]
        named, names = self.normalization.coordinates(trained, decayed_names(self.network))
        groups = [
            {"params": [p for name, p in named if name in names], "weight_decay": section.weight_decay},
            {"params": [p for name, p in named if name not in names], "weight_decay": 0.0},
        ]
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[section.name]
        return kind(
            [g for g in groups if g["params"]], lr=section.learning_rate, betas=(0.9, section.beta2), foreach=True
        )


def decayed_names(network: torch.nn.Module) -> set[str]:
    """Names of the parameters that weight decay acts on: matrices of linear maps, not biases, norms and embeddings."""
    spared = (torch.nn.Embedding, DegreeNorm)
    modules = [(path, module) for path, module in network.named_modules() if not isinstance(module, spared)]
    return {
        f"{path}.{name}" if path else name
        for path, module in modules
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim >= 2
    }
