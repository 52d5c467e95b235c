"""The Lightning module of every kind: a network and its objective, with one training step and one validation step.

The objective defines inputs, losses and errors. This module sums over an epoch, clips gradients, builds the optimizer
and fills checkpoints; everything else is done by callbacks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from mlff_calc.errors import IntegrationError
from mlff_calc.nn.degree import DegreeNorm
from mlff_calc.training.data import Batch, generator_of
from mlff_calc.training.finite import FiniteGuard, NotSolvedError
from mlff_calc.training.layers import freeze_weights, groups_by_layer
from mlff_calc.training.normalization import Normalization, build_normalization
from mlff_calc.training.objective import Forward, Objective, Stage
from mlff_calc.training.recipe_base import TrainingRecipe
from mlff_calc.training.sums import ErrorSums


class TrainingModule(pl.LightningModule):
    """A network in training.

    Args:
        kind: Name of the kind, under which checkpoints hold the weights.
        network: Network that is trained in place; it holds all trained parameters.
        objective: Objective of the training.
        recipe: Recipe with optimizer and seed.
        example: Batch to compile the network on; None for eager training.

    Attributes:
        loss_sum: Sum of the losses of this epoch, kept on the device until the epoch ends.
        steps_in_epoch: Number of batches in the sum.
        train_loss: Mean loss of the last finished epoch.
        valid_loss: Loss of the last validation.
        validated_epoch: Epoch (from 0) of the last validation.
        errors: Errors of the current or last validation.
    """

    def __init__(
        self, kind: str, network: nn.Module, objective: Objective, recipe: TrainingRecipe, example: Batch | None = None
    ) -> None:
        super().__init__()
        self.kind, self.objective = kind, objective
        self._modules[kind] = network  # add_module refuses names of Lightning's methods
        self.optimizer_section, self.seed, self._recipe = recipe.optimizer, recipe.trainer.seed, recipe
        freeze_weights(network, recipe)
        self.example = example
        self._forward: list[Forward] = []  # in a list: a module as an attribute would count its weights twice
        self._generators: dict[Stage, torch.Generator] = {}
        self.loss_sum: Tensor | None = None
        self.steps_in_epoch = 0
        self.train_loss = float("nan")
        self.valid_loss = float("nan")
        self.validated_epoch = -1
        self.errors = ErrorSums()
        self._valid_loss_sum: Tensor | None = None
        self._valid_count = 0
        self.finite = FiniteGuard()
        self.normalization = Normalization([])
        self._kept_normalization: dict[str, Tensor] = {}

    @property
    def network(self) -> nn.Module:
        """Network that is trained."""
        return cast(nn.Module, self._modules[self.kind])

    def metrics(self) -> dict[str, str]:
        """Columns of `metrics.csv` for this epoch, besides those that all runs have."""
        return self.objective.columns(self.errors if self.validated_epoch == self.current_epoch else None)

    def validation_text(self) -> str:
        """Errors of the last validation in a few words; empty where there was none."""
        return self.objective.text(self.errors)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state of the normalization and of the objective."""
        checkpoint["normalization"] = self.normalization.state_dict()
        checkpoint["objective"] = self.objective.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore them; checkpoints of earlier versions hold the state of the objective at the top level."""
        self._kept_normalization = checkpoint.get("normalization", {})
        self.objective.load_state_dict(checkpoint.get("objective", checkpoint))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move the tensors of a batch; the numbers of its frames stay."""
        del dataloader_idx
        return batch.to(device)

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of the network; compiled on the first call where the recipe asks for it."""
        if not self._forward:
            self._forward.append(self.network if self.example is None else self._compiled(self.example))
        return self.objective.forward(self._forward[0], graph)

    def _solved(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        """Outputs of the network; an equation that cannot be solved names its frame."""
        try:
            return cast("dict[str, Tensor]", self(batch.graph))
        except IntegrationError as error:
            raise NotSolvedError(stage, batch.frames[error.sample], error) from error

    def _compiled(self, example: Batch) -> Forward:
        # Keep the random state: a resumed run compiles at another time and must draw the same numbers in its steps.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.enable_grad():
            return self.objective.compiled(self.network, example.to(self.device))

    def prepared(self, stage: Stage, batch: Batch) -> Batch:
        """Return the batch with its graph prepared for the network."""
        if stage not in self._generators:
            epoch, stream = (self.current_epoch, 1) if stage == "train" else (0, 2)
            self._generators[stage] = generator_of(self.seed, epoch, self.global_rank, stream, device=self.device)
        return replace(batch, graph=self.objective.prepare(stage, batch, self._generators[stage]))

    def _begin(self, stage: Stage) -> None:
        self._generators.pop(stage, None)
        self.objective.begin(stage)

    def on_train_epoch_start(self) -> None:
        """Start a new random stream."""
        self._begin("train")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch; the guard raises where it is not finite."""
        del batch_idx
        self.finite.new_batch("train", batch.frames)
        batch = self.prepared("train", batch)
        outputs = self._solved("train", batch)
        self.objective.keep("train", batch, outputs)
        loss = self.objective.loss(outputs, batch)
        self.finite.look("loss", loss)
        self.loss_sum = loss.detach() if self.loss_sum is None else self.loss_sum + loss.detach()
        self.steps_in_epoch += 1
        return loss

    def on_validation_epoch_start(self) -> None:
        """Reset the sums."""
        self._begin("valid")
        self.errors, self._valid_loss_sum, self._valid_count = ErrorSums(), None, 0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the errors of one batch to the sums; the guard raises where an output that is judged is not finite."""
        del batch_idx
        self.finite.new_batch("valid", batch.frames)
        batch = self.prepared("valid", batch)
        # Compiled code was made for training steps, which keep a tape.
        with torch.set_grad_enabled(self.objective.needs_tape or self.example is not None):
            outputs = {name: value.detach() for name, value in self._solved("valid", batch).items()}
            self.objective.keep("valid", batch, outputs)
        loss, count = self.objective.loss(outputs, batch).detach(), self.objective.count(batch)
        judged = [outputs[name].sum() for name in batch.labels if name in outputs]
        self.finite.look("validation loss", torch.stack([loss, *judged]).sum())
        self._valid_loss_sum = loss * count if self._valid_loss_sum is None else self._valid_loss_sum + loss * count
        self._valid_count += count
        self.objective.errors(self.errors, outputs, batch)

    def on_validation_epoch_end(self) -> None:
        """Sum over processes, and store the mean loss."""
        self.finite.check()
        if self._valid_loss_sum is None:
            return
        counted = torch.stack([self._valid_loss_sum, self._valid_loss_sum.new_tensor(float(self._valid_count))])
        if self.trainer.world_size > 1:
            counted = self.trainer.strategy.reduce(counted, reduce_op="sum")
            self.errors.reduce(lambda sums: self.trainer.strategy.reduce(sums, reduce_op="sum"))
        total, frames = counted.tolist()
        self.valid_loss = total / frames
        self.validated_epoch = self.current_epoch

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> None:
        """Scale the gradient to at most `gradient_clip`; a gradient that is not finite ends the run.

        Afterwards normalized weights pass their gradients on to the coordinates that the optimizer steps.
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
        """Step the optimizer, then update normalized weights."""
        super().optimizer_step(*args, **kwargs)
        self.normalization.write()

    def take_train_loss(self) -> float:
        """Mean loss over the batches since the last call, which stays in `train_loss`."""
        if self.loss_sum is None:
            return float("nan")
        mean = self.loss_sum / self.steps_in_epoch
        if self.trainer.world_size > 1:
            mean = self.trainer.strategy.reduce(mean, reduce_op="mean")
        self.loss_sum, self.steps_in_epoch, self.train_loss = None, 0, float(mean)
        return self.train_loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build Adam or AdamW. Weight decay acts on matrices, not on biases, norms and embeddings."""
        section = self.optimizer_section
        self.normalization = build_normalization(self.network)
        if self._kept_normalization:
            self.normalization.load_state_dict(self._kept_normalization)
        trained = [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]
        named, names = self.normalization.coordinates(trained, decayed_names(self.network))
        groups = groups_by_layer(named, names, self.network, self._recipe)
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[section.name]
        return kind(groups, lr=section.learning_rate, betas=(0.9, section.beta2), foreach=True)


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
