"""What a potential on a fixed point learns and needs beside others: starts of solves, dropout, contraction, correction.

Every solve begins where the same frame was in the last epoch. The potential may be held contractive: `contraction` times
mean_s (rho_s - spectral_radius)^2 is added where rho_s, the spectral radius of df/dz by a power iteration that goes on from
epoch to epoch, is above `spectral_radius`. A fixed-point correction adds `correction` times the mean of the loss over
outputs read on the way of the solves (correction.py), so that a solve that is cut off early is right already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mlff_calc.errors import RecipeError
from mlff_calc.graph.keys import Graph
from mlff_calc.potential import Potential
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.training.data import Batch, generator_of
from mlff_calc.training.objective import Forward, Stage
from mlff_calc.training.potential.contraction import SpectralRadius
from mlff_calc.training.potential.correction import correction_counts, outputs_on_the_way
from mlff_calc.training.potential.objective import PotentialObjective
from mlff_calc.training.potential.recipe import PotentialRecipe
from mlff_calc.training.potential.starts import Starts
from mlff_calc.training.sums import ErrorSums


def objective_for(recipe: PotentialRecipe, potential: Potential) -> PotentialObjective:
    """The objective of a potential, on a fixed point or not.

    Raises:
        RecipeError: The section `fixed_point` asks for what the potential, which may be one to go on from, does not have.
    """
    finding = recipe.fixed_point.finding(potential.config["backbone"], direct=potential.direct_forces)
    if finding:
        raise RecipeError(f"{recipe.origin}: {finding}")
    if isinstance(potential, FixedPointPotential):
        return FixedPointObjective(recipe, potential)
    return PotentialObjective(recipe.loss)


class FixedPointObjective(PotentialObjective):
    """Energies, forces and stresses of a potential on a fixed point.

    Args:
        recipe: Sections `loss` and `fixed_point` are read from it.
        potential: Potential that is trained.

    Attributes:
        starts: Solutions of the frames that were seen.
        spectral_radius: Spectral radii of the running or last validation.
        steps: Number of training steps.
    """

    def __init__(self, recipe: PotentialRecipe, potential: FixedPointPotential) -> None:
        super().__init__(recipe.loss)
        self.section, self.potential = recipe.fixed_point, potential
        section, allowed = self.section, potential.backbone.training_evaluations
        self.counts = correction_counts(section.correction_states, allowed) if section.correction > 0.0 else []
        self.starts, self.spectral_radius, self.steps = Starts(), SpectralRadius(), 0
        self._evaluations: list[Tensor] = []

    def begin(self, stage: Stage) -> None:
        """Count evaluations, or radii, anew."""
        if stage == "train":
            self._evaluations = []
        else:
            self.spectral_radius = SpectralRadius()

    def prepare(self, stage: Stage, batch: Batch, generator: torch.Generator | None) -> Graph:
        """The graph with starts, a probe in steps that look at the spectral radius, and the factors of dropout."""
        training, section = stage == "train", self.section
        graph = self.starts.give(stage, batch.frames, batch.graph, generator)
        # Not every step looks at the spectral radius, which costs a third of a step.
        probe = training and section.contraction > 0.0 and self.steps % section.contraction_every == 0
        return self._with_random(graph, generator, dropout=training, probe=probe)

    def _with_random(self, graph: Graph, generator: torch.Generator | None, *, dropout: bool, probe: bool) -> Graph:
        backbone = self.potential.backbone
        if not probe:
            graph = {name: value for name, value in graph.items() if name != "probe"}
        elif "probe" not in graph:
            graph = graph | {"probe": backbone.random_state(graph, generator)}
        if backbone.dropout > 0.0:
            factors = backbone.dropout_factors(graph, generator)
            graph = graph | {"dropout": factors if dropout else torch.ones_like(factors)}
        return graph

    def forward(self, network: Forward, graph: Graph) -> dict[str, Tensor]:
        """Outputs, with states on the way of the solves where a correction asks for them."""
        if not (self.counts and self.potential.training):
            return super().forward(network, graph)
        found = self.potential.solve(graph, self.counts)
        return self.potential.outputs(graph, found["state"], found["adjoint"]) | found

    def compiled(self, network: Potential, example: Batch) -> Forward:
        """See `compile_for_training`."""
        generator = generator_of(0, device=example.n_atoms.device)
        graph = self._with_random(example.graph, generator, dropout=True, probe=self.section.contraction > 0.0)
        return super().compiled(network, replace(example, graph=graph))

    def keep(self, stage: Stage, batch: Batch, outputs: Mapping[str, Tensor]) -> None:
        """Keep solutions for the next epoch; count evaluations in training, measure radii in a validation."""
        self.starts.keep(stage, batch.frames, batch.n_atoms, outputs)
        if stage == "valid":  # solves to another tolerance, so that its evaluations say nothing of training
            self.spectral_radius.add(self.potential, batch.graph, outputs["state"])
            return
        self.steps += 1
        counts = [outputs[name].double() for name in ("evaluations", "adjoint_evaluations") if name in outputs]
        if counts:  # implicit gradients do not tell
            self._evaluations.append(torch.stack(counts).sum(dim=0).mean())

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """Loss of one batch, a float64 scalar, with what correction and contraction add in a training step."""
        loss = super().loss(outputs, batch)
        if "path_states" in outputs:
            loss = loss + self.on_the_way(outputs_on_the_way(self.potential, batch.graph, outputs), batch)
        return loss + self.penalty(outputs["growth"]) if "growth" in outputs else loss

    def on_the_way(self, outputs: list[dict[str, Tensor]], batch: Batch) -> Tensor:
        """What is added for outputs read off intermediate states, one dict for each; a float64 scalar."""
        loss = super().loss
        return self.section.correction * torch.stack([loss(one, batch) for one in outputs]).mean()

    def penalty(self, growth: Tensor) -> Tensor:
        """What is added every few steps for spectral radii [n_systems] that are too large; a float64 scalar."""
        excess = torch.relu(growth.double() - self.section.spectral_radius)
        return self.section.contraction * self.section.contraction_every * excess.square().mean()

    def columns(self, sums: ErrorSums | None) -> dict[str, str]:
        """Errors of the validation, mean number of evaluations of both solves together per frame, spectral radii."""
        evaluations = float(torch.stack(self._evaluations).mean()) if self._evaluations else float("nan")
        row = super().columns(sums) | {"evaluations": f"{evaluations:.4g}"}
        if sums is not None:
            row["valid_spectral_radius"] = f"{self.spectral_radius.mean():.4g}"
            row["valid_spectral_radius_max"] = f"{self.spectral_radius.largest():.4g}"
        return row

    def state_dict(self) -> dict[str, Any]:
        """Starts, and the number of steps."""
        return {"starts": self.starts.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up; checkpoints of earlier versions count steps as Lightning does."""
        self.starts.load_state_dict(state.get("starts", {}))
        self.steps = state.get("steps", state.get("global_step", 0))
