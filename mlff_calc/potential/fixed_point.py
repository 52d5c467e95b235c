"""Potentials whose features solve z = f(z; x); forces need one linear solve instead of a tape through the solver.

With e(z) the energy of a state and lambda the adjoint, the Lagrangian

    L(z, lambda; x) = e(z) + lambda . (f(z; x) - z),      lambda = de/dz + (df/dz)^T lambda,

equals the energy at the solution, is stationary there in z and lambda, and depends on x only through f: the gradient is
lambda . df/dx. The returned energy is L, whose error is the product of the two residuals; the error of e(z) is of first
order.

Both solves begin where the graph says (`start_state`, `start_adjoint`), and their solutions are among the outputs. The
caller owns the data that is reused from one step to the next.

In training both solutions are found without a tape. Then `phantom_steps` evaluations of each fixed-point equation are
recorded (the phantom gradient). Gradients of energies are exact for any number of them, because L is stationary.

| symbol | name in code | shape |
|---|---|---|
| z | `state` | `[n_atoms, *state_shape]` |
| lambda | `adjoint` | the same |
| de/dz | `cotangent` | the same |

Source: Burger et al., "DEQuify your force field" (2025) for the model; implicit differentiation as in Bai, Kolter, Koltun,
"Deep equilibrium models" (2019); the Lagrangian as in Niklasson, "Extended Lagrangian Born-Oppenheimer molecular dynamics"
(2008), where z are the electronic degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from mlff_calc.nn.scatter import scatter_sum
from mlff_calc.potential.model import Potential, pair_outputs

if TYPE_CHECKING:
    from mlff_calc.backbones.deq import Deq


DOUBLE_TOLERANCE, LONGER = 1e-8, 2
"""Largest relative residual of a solve in float64, and factor of the allowed evaluations compared with float32."""


class FixedPointPotential(Potential):
    """A force field on a deep-equilibrium backbone.

    It adds to the outputs of `Potential`: `state` and `adjoint` `[n_atoms, *state_shape]`, and `residual`,
    `adjoint_residual` (both relative), `evaluations` and `adjoint_evaluations` [n_systems]. With direct forces the
    adjoint is zero.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.backbone: Deq
        self.implicit_training = self.backbone.gradient == "implicit"

    def to_precision(self, precision: str) -> Self:
        """Return a copy in another precision, with the tolerance that suits it.

        Forces have a relative error of about the residual. Finite displacements, phonons and tight relaxations use
        `float64` and need a residual of `DOUBLE_TOLERANCE`, which then replaces a larger `tolerance` of the backbone.

        Raises:
            OptionError: the precision is unknown.
        """
        other = super().to_precision(precision)
        backbone: Any = other.backbone
        if precision == "float64" and backbone.tolerance > DOUBLE_TOLERANCE:
            backbone.tolerance = DOUBLE_TOLERANCE
            backbone.solver = replace(backbone.solver, max_evaluations=LONGER * backbone.solver.max_evaluations)
        elif precision != "float64" and self.precision == "float64":
            backbone.tolerance = self.config["backbone"]["tolerance"]
            backbone.solver = replace(backbone.solver, max_evaluations=self.config["backbone"]["max_evaluations"])
        return other

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Solve for state and adjoint and return the outputs; see `Potential.forward`.

        Args:
            graph: inputs of `Potential`, and optionally `start_state` and `start_adjoint` `[n_atoms, *state_shape]`.
        """
        if self.training and self.implicit_training:
            return super().forward(graph)
        found = self.solve(graph)
        out = self.outputs(graph, found["state"], found["adjoint"])
        out.update(found)
        return out

    def solve(self, graph: dict[str, Tensor], counts: Sequence[int] = ()) -> dict[str, Tensor]:
        """Solve for state and adjoint with the backbone's solver, to the tolerance of training or use, without a tape.

        Args:
            graph: inputs of `forward`.
            counts: numbers of evaluations, ascending, after which the next iterate of each solve is recorded (0: its
                start).

        Returns:
            `state`, `adjoint`, `residual`, `adjoint_residual`, `evaluations`, `adjoint_evaluations`. With `counts` also
            `path_states` and `path_adjoints` [n_counts, n_atoms, *state_shape], where a system whose solve
            ended sooner repeats its result. Both count their own evaluations; the adjoint equation is that of the final
            state.
        """
        backbone, edge_index = self.backbone, graph["edge_index"]
        inputs = self.inputs(graph, graph["edge_vec"].detach())
        with torch.no_grad():
            prepared = backbone.prepare(inputs)
            start = graph.get("start_state", prepared[0])
            found = backbone.solve(lambda z: backbone.evaluate(z, edge_index, prepared), start, graph, counts)
        out = {"state": found.state, "residual": found.residual, "evaluations": found.evaluations}
        if counts:
            out["path_states"] = torch.stack(found.path)
        if self.direct_forces:
            return out | self.no_adjoint(out, counts)
        here = found.state.detach().requires_grad_(True)
        value = backbone.evaluate(here, edge_index, prepared)
        return out | self.solve_adjoint(graph, here, value, self.read(inputs, here), counts)

    def no_adjoint(self, found: dict[str, Tensor], counts: Sequence[int] = ()) -> dict[str, Tensor]:
        """Return the adjoint's part of the result of `solve` for direct forces: zeros."""
        names = {"adjoint": "state", "adjoint_residual": "residual", "adjoint_evaluations": "evaluations"}
        names |= {"path_adjoints": "path_states"} if counts else {}
        return {name: torch.zeros_like(found[like]) for name, like in names.items()}

    def solve_adjoint(
        self, graph: dict[str, Tensor], here: Tensor, value: Tensor, energies: Tensor, counts: Sequence[int] = ()
    ) -> dict[str, Tensor]:
        """Solve for the adjoint at a state, and return its part of the result of `solve`.

        Args:
            graph: inputs of `forward`.
            here: z `[n_atoms, *state_shape]`, the leaf of the tapes of `value` and `energies`.
            value: f(z), of the same shape.
            energies: e(z) [n_atoms].
            counts: numbers of evaluations after which states are kept, see `solve`.
        """
        cotangent = derivatives([energies], [here])[0]
        found = self.backbone.solve(
            lambda guess: cotangent + derivatives([value], [here], [guess])[0],
            graph.get("start_adjoint", cotangent),
            graph,
            counts,
        )
        out = {"adjoint": found.state, "adjoint_residual": found.residual, "adjoint_evaluations": found.evaluations}
        return out | ({"path_adjoints": torch.stack(found.path)} if counts else {})

    def read(self, inputs: dict[str, Tensor], state: Tensor) -> Tensor:
        """Compute the energies e(z) [n_atoms] (eV) of a state, without repulsion."""
        return self.heads["energy"]({**inputs, "node_features": self.backbone.read(state)})["energies"]

    def outputs(self, graph: dict[str, Tensor], state: Tensor, adjoint: Tensor) -> dict[str, Tensor]:
        """Compute energies, forces and virials of a solution, without a solver or loops that depend on data.

        Args:
            graph: inputs of `forward`.
            state: z `[n_atoms, *state_shape]`.
            adjoint: lambda, of the same shape; not used with direct forces.
        """
        edge_vec = graph["edge_vec"].detach().requires_grad_(True)
        edge_index, training = graph["edge_index"], self.training
        inputs = self.inputs(graph, edge_vec)
        prepared = self.backbone.prepare(inputs)
        here = state.detach().requires_grad_(True)
        if training:
            for _ in range(self.backbone.phantom_steps):
                here = self.backbone.evaluate(here, edge_index, prepared)
        here = here.view_as(here)  # derivatives by z are partial and exclude what z depends on
        features = {**inputs, "node_features": self.backbone.read(here)}
        energies, others = self.heads["energy"](features)["energies"], self.others(features)
        if self.direct_forces:
            return self.finished(self.totals(energies, graph) | others)
        views = [tensor.view_as(tensor) for tensor in prepared]
        value = self.backbone.evaluate(here, edge_index, views)
        adjoint = adjoint.detach()
        if training:
            cotangent = derivatives([energies], [here], create_graph=True)[0]
            for _ in range(self.backbone.phantom_steps):
                adjoint = cotangent + derivatives([value], [here], [adjoint], create_graph=True)[0]
        ends, weights = prepared, [*derivatives([value], views, [adjoint], create_graph=training)]
        energies = energies + (adjoint * (value - here)).flatten(1).double().sum(dim=1)
        if self.repulsion is not None:
            inputs["energies"] = torch.zeros_like(energies)
            repulsion = self.repulsion(inputs)["energies"]
            energies = energies + repulsion
            ends, weights = [*ends, repulsion], [*weights, torch.ones_like(repulsion)]
        out = self.totals(energies, graph) | others
        if training and "probe" in graph:
            out.update(self.growth(value, here, graph))
        gradient = derivatives(ends, [edge_vec], weights, create_graph=training)[0]
        out.update(pair_outputs(gradient, edge_vec.detach(), graph))
        return self.finished(out)

    def growth(self, value: Tensor, here: Tensor, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the factor `growth` [n_systems] by which J^T lengthens `probe` `[n_atoms, *state_shape]`.

        The new direction is the output `probe`, of length one per system. Given back at the next visit of the same
        frames, it makes the training run a power iteration, and `growth` becomes the spectral radius, which a loss can
        limit.
        """
        index, n_systems = graph["system_index"], graph["cell"].shape[0]
        product = derivatives([value], [here], [graph["probe"]], create_graph=True)[0]
        before = scatter_sum(graph["probe"].square().flatten(1).sum(dim=1), index, n_systems)
        after = scatter_sum(product.square().flatten(1).sum(dim=1), index, n_systems)
        lengths = torch.sqrt(after.detach() + 1e-30).index_select(0, index).view(-1, 1, 1)
        return {"growth": torch.sqrt(after / (before + 1e-30) + 1e-12), "probe": product.detach() / lengths}


def derivatives(
    values: Sequence[Tensor], inputs: Sequence[Tensor], weights: Sequence[Tensor] = (), create_graph: bool = False
) -> tuple[Tensor, ...]:
    """Differentiate the sum of `weights` (one by default) times `values` by each input; the tape of `values` is kept."""
    weights = weights or [torch.ones_like(value) for value in values]
    return torch.autograd.grad(values, inputs, weights, retain_graph=True, create_graph=create_graph)
