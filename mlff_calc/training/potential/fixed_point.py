"""The objective of a potential on a fixed point: starts of solves, dropout, contraction and correction.

Every solve begins at the solution for the same frame in the last epoch. The potential may be kept contractive: the loss
then includes `contraction` times mean_s (rho_s - spectral_radius)^2 over the systems whose spectral radius rho_s of
df/dz exceeds `spectral_radius`; rho_s comes from a power iteration that continues from epoch to epoch. A fixed-point
correction adds `correction` times the mean loss of outputs at intermediate states of the solves (correction.py), so
that f is right early.
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
    """Create the objective of a potential, on a fixed point or not.

    Raises:
        RecipeError: The section `fixed_point` asks for something that the potential does not have.
    """
    finding = recipe.fixed_point.finding(potential.config["backbone"], direct=potential.direct_forces)
    if finding:
        raise RecipeError(f"{recipe.origin}: {finding}")
    if isinstance(potential, FixedPointPotential):
        return FixedPointObjective(recipe, potential)
    return PotentialObjective(recipe.loss, potential)


class FixedPointObjective(PotentialObjective):
    """Objective for energies, forces and stresses of a potential on a fixed point.

    Args:
        recipe: Recipe with the sections `loss` and `fixed_point`.
        potential: Potential that is trained.

    Attributes:
        starts: Solutions of earlier frames.
        spectral_radius: Spectral radii of the current or last validation.
        steps: Number of training steps.
    """

    def __init__(self, recipe: PotentialRecipe, potential: FixedPointPotential) -> None:
        super().__init__(recipe.loss, potential)
        self.section, self.potential = recipe.fixed_point, potential
        section, allowed = self.section, potential.backbone.training_evaluations
        self.counts = correction_counts(section.correction_states, allowed) if section.correction > 0.0 else []
        self.starts, self.spectral_radius, self.steps = Starts(), SpectralRadius(), 0
        self._evaluations: list[Tensor] = []

    def begin(self, stage: Stage) -> None:
        """Reset the counts of evaluations, or the radii."""
        if stage == "train":
            self._evaluations = []
        else:
            self.spectral_radius = SpectralRadius()

    def prepare(self, stage: Stage, batch: Batch, generator: torch.Generator | None) -> Graph:
        """Add starts, a probe in steps that measure the spectral radius, and the factors of dropout to the graph."""
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
        """Compute the outputs, with intermediate states of the solves where a correction needs them."""
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
        """Keep solutions for the next epoch; count evaluations in training, measure radii in validations."""
        self.starts.keep(stage, batch.frames, batch.n_atoms, outputs)
        if stage == "valid":  # its solves use another tolerance, so their evaluations are not counted
            self.spectral_radius.add(self.potential, batch.graph, outputs["state"])
            return
        self.steps += 1
        counts = [outputs[name].double() for name in ("evaluations", "adjoint_evaluations") if name in outputs]
        if counts:  # absent with implicit gradients
            self._evaluations.append(torch.stack(counts).sum(dim=0).mean())

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """Compute the loss of one batch, a float64 scalar, including correction and contraction in a training step."""
        loss = super().loss(outputs, batch)
        if "path_states" in outputs:
            loss = loss + self.on_the_way(outputs_on_the_way(self.potential, batch.graph, outputs), batch)
        return loss + self.penalty(outputs["growth"]) if "growth" in outputs else loss

    def on_the_way(self, outputs: list[dict[str, Tensor]], batch: Batch) -> Tensor:
        """Return the correction, from one dict of outputs for each intermediate state; a float64 scalar."""
        loss = super().loss
        return self.section.correction * torch.stack([loss(one, batch) for one in outputs]).mean()

    def penalty(self, growth: Tensor) -> Tensor:
        """Return the penalty on spectral radii [n_systems] that are too large; a float64 scalar."""
        excess = torch.relu(growth.double() - self.section.spectral_radius)
        return self.section.contraction * self.section.contraction_every * excess.square().mean()

    def columns(self, sums: ErrorSums | None) -> dict[str, str]:
        """Return validation errors, mean number of evaluations per frame (both solves), and spectral radii."""
        evaluations = float(torch.stack(self._evaluations).mean()) if self._evaluations else float("nan")
        row = super().columns(sums) | {"evaluations": f"{evaluations:.4g}"}
        if sums is not None:
            row["valid_spectral_radius"] = f"{self.spectral_radius.mean():.4g}"
            row["valid_spectral_radius_max"] = f"{self.spectral_radius.largest():.4g}"
        return row

    def state_dict(self) -> dict[str, Any]:
        """Return starts and number of steps."""
        return {"starts": self.starts.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state; checkpoints of earlier versions use Lightning's count of steps."""
        self.starts.load_state_dict(state.get("starts", {}))
        self.steps = state.get("steps", state.get("global_step", 0))
