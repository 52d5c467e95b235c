"""The Lightning module: one training step, one validation step, the optimizer. Everything else is a callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from mlff_calc.datasets import KINDS
from mlff_calc.graph import to_device
from mlff_calc.nn.degree import DegreeNorm
from mlff_calc.potential import Potential
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.training.contraction import SpectralRadius
from mlff_calc.training.correction import counts_for, outputs_on_the_way
from mlff_calc.training.data import Batch
from mlff_calc.training.finite import FiniteGuard
from mlff_calc.training.losses import Loss
from mlff_calc.training.normalization import Normalization, build_normalization
from mlff_calc.training.recipe import Recipe
from mlff_calc.training.starts import Starts
from mlff_calc.training.sums import ErrorSums

Forward = Callable[[dict[str, Tensor]], dict[str, Tensor]]


class TrainingModule(pl.LightningModule):
    """A potential in training.

    Args:
        potential: The potential; its weights are trained in place.
        recipe: Loss and optimizer are read from it.
        example: A graph of at least two systems to compile the potential on; None for eager training.

    Raises:
        RecipeError: A correction on the way of solves that the potential does not make.

    Attributes:
        loss_sum: Sum of the losses of this epoch, on the device (nobody waits for it before the epoch ends).
        steps_in_epoch: Batches added to it.
        validation: Errors of the running or last validation.
        valid_loss: Loss of the last validation.
        validated_epoch: Epoch (from 0) of the last validation.
    """

    def __init__(
        self,
        potential: Potential,
        recipe: Recipe,
        example: dict[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.potential = potential
        self.recipe = recipe
        self.loss = Loss(recipe.loss)
        self._example = example
        self._forward: list[Forward] = []  # in a list: a module as an attribute would count its weights twice
        self.loss_sum: Tensor | None = None
        self.steps_in_epoch = 0
        self.validation = ErrorSums()
        self.valid_loss = float("nan")
        self.validated_epoch = -1
        self._valid_loss_sum: Tensor | None = None
        self._valid_frames = 0
        self.finite = FiniteGuard()
        self.starts = Starts() if potential.backbone.is_fixed_point else None
        self.spectral_radius = SpectralRadius() if potential.backbone.is_fixed_point else None
        self.evaluations: list[Tensor] = []
        self.counts = counts_for(recipe, potential)
        self.normalization = Normalization([])
        self._kept_normalization: dict[str, Tensor] = {}

    def given(self, part: str, batch: Batch) -> dict[str, Tensor]:
        """The graph of a batch; a fixed point is sought from where the last epoch ended."""
        if self.starts is None:
            return batch.graph
        training = part == "train"
        graph = self.starts.give(part, batch.frames, batch.graph)
        return self._with_random(graph, dropout=training, probe=training and self._measures_now())

    def _measures_now(self) -> bool:
        """Whether this step looks at the spectral radius: every few steps do, for it costs a third of one."""
        return self.loss.contraction > 0.0 and self.global_step % self.loss.contraction_every == 0

    def solved(self, part: str, batch: Batch, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs for what `given` gave of a batch; solutions are kept for the next epoch."""
        outputs = self(graph)
        if self.starts is None:
            return outputs
        self.starts.keep(part, batch.frames, batch.n_atoms, outputs)
        counts = [outputs[name].double() for name in ("evaluations", "adjoint_evaluations") if name in outputs]
        if counts and part == "train":  # validation solves to another tolerance, and implicit gradients do not tell
            self.evaluations.append(torch.stack(counts).sum(dim=0).mean())
        return outputs

    def _with_random(self, graph: dict[str, Tensor], *, dropout: bool, probe: bool) -> dict[str, Tensor]:
        """The graph with what a fixed-point potential needs at random: a probe where none is kept, dropout's factors."""
        if not isinstance(self.potential, FixedPointPotential):
            return graph
        backbone = self.potential.backbone
        if not probe:
            graph = {name: value for name, value in graph.items() if name != "probe"}
        elif "probe" not in graph:
            graph = graph | {"probe": backbone.random_state(graph)}
        if backbone.dropout > 0.0:
            factors = backbone.dropout_factors(graph)
            graph = graph | {"dropout": factors if dropout else torch.ones_like(factors)}
        return graph

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the starts of fixed points, and what the optimizer steps in place of weights."""
        if self.starts is not None:
            checkpoint["starts"] = self.starts.state_dict()
        checkpoint["normalization"] = self.normalization.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them up."""
        if self.starts is not None and "starts" in checkpoint:
            self.starts.load_state_dict(checkpoint["starts"])
        self._kept_normalization = checkpoint.get("normalization", {})

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of the potential; compiled on the first call where the recipe asks for it."""
        if self.counts and self.potential.training and isinstance(self.potential, FixedPointPotential):
            found = self.potential.solve(graph, self.counts)
            return self.potential.outputs(graph, found["state"], found["adjoint"]) | found
        if not self._forward:
            self._forward.append(self.potential if self._example is None else self._compiled(self._example))
        return self._forward[0](graph)

    def _compiled(self, example: dict[str, Tensor]) -> Forward:
        from mlff_calc.export import compile_for_training

        example = to_device(example, self.device)
        # A run that is resumed compiles later than one that is not, and draws the same numbers in its steps.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            probe = self.loss.contraction > 0.0
            return compile_for_training(self.potential, self._with_random(example, dropout=True, probe=probe))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move graph and labels; the frame numbers stay."""
        del dataloader_idx
        return batch.to(device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch; the guard raises where it is not finite."""
        del batch_idx
        self.finite.new_batch("train", batch.frames)
        graph = self.given("train", batch)
        outputs = self.solved("train", batch, graph)
        loss = self.loss(outputs, batch.labels, batch.n_atoms)
        if self.counts and isinstance(self.potential, FixedPointPotential):
            on_the_way = outputs_on_the_way(self.potential, graph, outputs)
            loss = loss + self.loss.on_the_way(on_the_way, batch.labels, batch.n_atoms)
        if "growth" in outputs:
            loss = loss + self.loss.penalty(outputs)
        self.finite.look("loss", loss)
        self.loss_sum = loss.detach() if self.loss_sum is None else self.loss_sum + loss.detach()
        self.steps_in_epoch += 1
        return loss

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> None:
        """Scale the gradient to at most `gradient_clip`; a gradient that is not finite ends the run.

        Normalized weights hand their gradients on afterwards, to what the optimizer steps in their place.
        """
        del optimizer, args, kwargs
        gradients = [p.grad for p in self.potential.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        self.finite.look("gradient", norm)
        clip = self.recipe.optimizer.gradient_clip
        if clip is not None:
            torch._foreach_mul_(gradients, (clip / (norm + 1e-6)).clamp(max=1.0))
        self.normalization.pull()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """A step of the optimizer, and what normalization makes of it."""
        super().optimizer_step(*args, **kwargs)
        self.normalization.write()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the errors of one batch to the sums; the guard raises where an output is not finite."""
        del batch_idx
        self.finite.new_batch("valid", batch.frames)
        with torch.enable_grad():
            found = self.solved("valid", batch, self.given("valid", batch))
            outputs = {name: value.detach() for name, value in found.items()}
            if self.spectral_radius is not None and isinstance(self.potential, FixedPointPotential):
                self.spectral_radius.add(self.potential, batch.graph, outputs["state"])
        n_frames = int(batch.n_atoms.shape[0])
        loss = self.loss(outputs, batch.labels, batch.n_atoms) * n_frames
        judged = [outputs[name].sum() for name in KINDS if name in outputs]
        self.finite.look("validation loss", torch.stack([loss, *judged]).sum())
        self._valid_loss_sum = loss if self._valid_loss_sum is None else self._valid_loss_sum + loss
        self._valid_frames += n_frames
        self.validation.add(outputs, batch.labels, batch.n_atoms)

    def on_validation_epoch_start(self) -> None:
        """Start the sums anew."""
        self.validation = ErrorSums()
        self._valid_loss_sum, self._valid_frames = None, 0
        if self.spectral_radius is not None:
            self.spectral_radius = SpectralRadius()

    def on_validation_epoch_end(self) -> None:
        """Sum over processes, and keep the mean loss."""
        self.finite.check()
        if self._valid_loss_sum is None:
            return
        counted = torch.stack([self._valid_loss_sum, self._valid_loss_sum.new_tensor(float(self._valid_frames))])
        if self.trainer.world_size > 1:
            counted = self.trainer.strategy.reduce(counted, reduce_op="sum")
            self.validation.reduce(lambda sums: self.trainer.strategy.reduce(sums, reduce_op="sum"))
        total, frames = counted.tolist()
        self.valid_loss = total / frames
        self.validated_epoch = self.current_epoch

    def take_train_loss(self) -> float:
        """Mean loss over the batches since the last call."""
        if self.loss_sum is None:
            return float("nan")
        mean = self.loss_sum / self.steps_in_epoch
        if self.trainer.world_size > 1:
            mean = self.trainer.strategy.reduce(mean, reduce_op="mean")
        self.loss_sum, self.steps_in_epoch = None, 0
        return float(mean)

    def take_evaluations(self) -> float:
        """Mean number of evaluations, of both solves together, per frame since the last call."""
        mean = float(torch.stack(self.evaluations).mean()) if self.evaluations else float("nan")
        self.evaluations = []
        return mean

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam or AdamW; weights decay, biases, norms and embeddings do not."""
        section = self.recipe.optimizer
        self.normalization = build_normalization(self.potential)
        if self._kept_normalization:
            self.normalization.load_state_dict(self._kept_normalization)
        trained = [(name, p) for name, p in self.potential.named_parameters() if p.requires_grad]
        named, names = self.normalization.coordinates(trained, decayed_names(self.potential))
        groups = [
            {"params": [p for name, p in named if name in names], "weight_decay": section.weight_decay},
            {"params": [p for name, p in named if name not in names], "weight_decay": 0.0},
        ]
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[section.name]
        return kind(
            [g for g in groups if g["params"]], lr=section.learning_rate, betas=(0.9, section.beta2), foreach=True
        )


def decayed_names(potential: torch.nn.Module) -> set[str]:
    """Names of the parameters that weight decay acts on: matrices of linear maps, not biases, norms and embeddings."""
    spared = (torch.nn.Embedding, DegreeNorm)
    modules = [(path, module) for path, module in potential.named_modules() if not isinstance(module, spared)]
    return {
        f"{path}.{name}" if path else name
        for path, module in modules
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim >= 2
    }
