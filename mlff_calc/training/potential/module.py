"""The Lightning module of a potential: one training step, one validation step. Everything else is a callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mlff_calc.datasets import KINDS
from mlff_calc.graph import to_device
from mlff_calc.potential import Potential
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.training.data import Batch
from mlff_calc.training.network_module import NetworkModule, decayed_names
from mlff_calc.training.potential.contraction import SpectralRadius
from mlff_calc.training.potential.correction import counts_for, outputs_on_the_way
from mlff_calc.training.potential.losses import Loss
from mlff_calc.training.potential.recipe import PotentialRecipe
from mlff_calc.training.potential.starts import Starts
from mlff_calc.training.sums import ErrorSums

__all__ = ["TrainingModule", "decayed_names"]

Forward = Callable[[dict[str, Tensor]], dict[str, Tensor]]


class TrainingModule(NetworkModule):
    """A potential in training.

    Args:
        potential: The potential; its weights are trained in place.
        recipe: Loss and optimizer are read from it.
        example: A graph of at least two systems to compile the potential on; None for eager training.

    Raises:
        RecipeError: A correction on the way of solves that the potential does not make.

    Attributes:
        validation: Errors of the running or last validation.
    """

    def __init__(
        self,
        potential: Potential,
        recipe: PotentialRecipe,
        example: dict[str, Tensor] | None = None,
    ) -> None:
        super().__init__(recipe)
        self.potential = potential
        self.recipe = recipe
        self.loss = Loss(recipe.loss)
        self._example = example
        self._forward: list[Forward] = []  # in a list: a module as an attribute would count its weights twice
        self.validation = ErrorSums()
        self.starts = Starts() if potential.backbone.is_fixed_point else None
        self.spectral_radius = SpectralRadius() if potential.backbone.is_fixed_point else None
        self.evaluations: list[Tensor] = []
        self.counts = counts_for(recipe, potential)

    @property
    def network(self) -> Potential:
        """The potential."""
        return self.potential

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
        """Add the starts of fixed points."""
        super().on_save_checkpoint(checkpoint)
        if self.starts is not None:
            checkpoint["starts"] = self.starts.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them up."""
        super().on_load_checkpoint(checkpoint)
        if self.starts is not None and "starts" in checkpoint:
            self.starts.load_state_dict(checkpoint["starts"])

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

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch; the guard raises where it is not finite."""
        del batch_idx
        self.finite.new_batch("train", batch.frames)
        graph = self.given("train", batch)
        outputs = self.solved("train", batch, graph)
        loss = self.loss(outputs, batch.labels, batch.n_atoms, batch.weights)
        if self.counts and isinstance(self.potential, FixedPointPotential):
            on_the_way = outputs_on_the_way(self.potential, graph, outputs)
            loss = loss + self.loss.on_the_way(on_the_way, batch.labels, batch.n_atoms, batch.weights)
        if "growth" in outputs:
            loss = loss + self.loss.penalty(outputs)
        self.count_loss(loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the errors of one batch to the sums; the guard raises where an output is not finite."""
        del batch_idx
        self.finite.new_batch("valid", batch.frames)
        with torch.enable_grad():
            found = self.solved("valid", batch, self.given("valid", batch))
            outputs = {name: value.detach() for name, value in found.items()}
            if self.spectral_radius is not None and isinstance(self.potential, FixedPointPotential):
                self.spectral_radius.add(self.potential, batch.graph, outputs["state"])
        loss = self.loss(outputs, batch.labels, batch.n_atoms, batch.weights)
        judged = [outputs[name].sum() for name in KINDS if name in outputs]
        self.finite.look("validation loss", torch.stack([loss, *judged]).sum())
        self.count_valid_loss(loss, int(batch.n_atoms.shape[0]))
        self.validation.add(outputs, batch.labels, batch.n_atoms)

    def on_validation_epoch_start(self) -> None:
        """Start the sums anew."""
        super().on_validation_epoch_start()
        self.validation = ErrorSums()
        if self.spectral_radius is not None:
            self.spectral_radius = SpectralRadius()

    def reduce_validation(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """Sum the errors over processes."""
        self.validation.reduce(reduce)

    def metrics(self) -> dict[str, str]:
        """Errors of the validation and, of a fixed point, evaluations and spectral radius."""
        row: dict[str, str] = {}
        validated = self.validated_epoch == self.current_epoch
        if validated:
            for name, errors in self.validation.errors().items():
                row[f"valid_{name}_mae"] = f"{errors.mae:.6g}"
                row[f"valid_{name}_rmse"] = f"{errors.rmse:.6g}"
        if self.spectral_radius is not None:
            row["evaluations"] = f"{self.take_evaluations():.4g}"
            if validated:
                row["valid_spectral_radius"] = f"{self.spectral_radius.mean():.4g}"
                row["valid_spectral_radius_max"] = f"{self.spectral_radius.largest():.4g}"
        return row

    def validation_text(self) -> str:
        """Mean absolute errors of the last validation."""
        errors = self.validation.errors()
        parts = [
            f"{name} {errors[name].mae:.3g} {errors[name].unit}"
            for name in ("energy", "forces", "stress")
            if name in errors
        ]
        return "valid MAE " + ", ".join(parts) if parts else ""

    def take_evaluations(self) -> float:
        """Mean number of evaluations, of both solves together, per frame since the last call."""
        mean = float(torch.stack(self.evaluations).mean()) if self.evaluations else float("nan")
        self.evaluations = []
        return mean
