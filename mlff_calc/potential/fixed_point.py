"""Potentials whose features solve z = f(z; x): energy, and forces by one linear solve instead of a tape through the solver.

With e(z) the energy read off a state and lambda the adjoint, the Lagrangian

    L(z, lambda; x) = e(z) + lambda . (f(z; x) - z),      lambda = de/dz + (df/dz)^T lambda,

equals the energy at the solution, is stationary there in z and lambda, and depends on x through f alone: the gradient is
lambda . df/dx. The energy that is returned is L: its error is the product of the two residuals, that of e(z) is of first
order.

Both solves begin where the graph says (`start_state`, `start_adjoint`) and their solutions are among the outputs: what is
reused from one step to the next is data of the caller.

In training both solutions are found without a tape; then `phantom_steps` evaluations of each fixed-point equation are
recorded (the phantom gradient). Gradients of energies are exact whatever their number, because L is stationary.

| symbol | name in code | shape |
|---|---|---|
| z | `state` | [n_atoms, (l_max+1)^2, channels] |
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
"""In float64: the relative residual at which a solve in use ends, and how many times the evaluations it may then take."""


class FixedPointPotential(Potential):
    """A force field on a deep-equilibrium backbone.

    Outputs beside those of `Potential`: `state` and `adjoint` [n_atoms, (l_max+1)^2, channels], `residual`,
    `adjoint_residual` (relative), `evaluations` and `adjoint_evaluations` [n_systems]. With direct forces there is no
    adjoint.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.backbone: Deq
        self.implicit_training = self.backbone.gradient == "implicit"

    def to_precision(self, precision: str) -> Self:
        """Return a copy in another precision, whose solves end at what that precision is for.

        Forces are wrong by about the residual times their size, so that those of `float64`, which displaced copies, phonons
        and tight relaxations ask for, need a residual of `DOUBLE_TOLERANCE`, whatever the backbone's own `tolerance` is.

        Raises:
            OptionError: a precision of another name.
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
        """Solve, then give outputs; see `Potential.forward`.

        Args:
            graph: as for `Potential`, and optionally `start_state` and `start_adjoint` [n_atoms, (l_max+1)^2, channels].
        """
        if self.training and self.implicit_training:
            return super().forward(graph)
        found = self.solve(graph)
        out = self.outputs(graph, found["state"], found["adjoint"])
        out.update(found)
        return out

    def solve(self, graph: dict[str, Tensor], counts: Sequence[int] = ()) -> dict[str, Tensor]:
        """State and adjoint by the backbone's solver, to the tolerance of training or use, without a tape.

        Args:
            graph: as for `forward`.
            counts: numbers of evaluations, ascending, after which what either solve tries next is wanted too (0: its start).

        Returns:
            `state`, `adjoint`, `residual`, `adjoint_residual`, `evaluations`, `adjoint_evaluations`; with `counts` also
            `path_states` and `path_adjoints` [n_counts, n_atoms, (l_max+1)^2, channels], where a system whose solve ended
            sooner has what it ended with. Both belong to the same number of evaluations; the adjoint equation is that of
            the last state.
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
        """What `solve` says of the adjoint with direct forces: zeros, after what it says of the state."""
        names = {"adjoint": "state", "adjoint_residual": "residual", "adjoint_evaluations": "evaluations"}
        names |= {"path_adjoints": "path_states"} if counts else {}
        return {name: torch.zeros_like(found[like]) for name, like in names.items()}

    def solve_adjoint(
        self, graph: dict[str, Tensor], here: Tensor, value: Tensor, energies: Tensor, counts: Sequence[int] = ()
    ) -> dict[str, Tensor]:
        """What `solve` says of the adjoint at a state.

        Args:
            graph: as for `forward`.
            here: z [n_atoms, (l_max+1)^2, channels], the beginning of the tapes of the two that follow.
            value: f(z).
            energies: e(z) [n_atoms].
            counts: as for `solve`.
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
        """Energies e(z) [n_atoms] (eV) of a state, without repulsion."""
        return self.heads["energy"]({**inputs, "node_features": self.backbone.norm(state)})["energies"]

    def outputs(self, graph: dict[str, Tensor], state: Tensor, adjoint: Tensor) -> dict[str, Tensor]:
        """Energies, forces and virials for a solution, without solver and without loops that depend on data.

        Args:
            graph: as for `forward`.
            state: z [n_atoms, (l_max+1)^2, channels].
            adjoint: lambda, of the same shape; not looked at with direct forces.
        """
        edge_vec = graph["edge_vec"].detach().requires_grad_(True)
        edge_index, training = graph["edge_index"], self.training
        inputs = self.inputs(graph, edge_vec)
        prepared = self.backbone.prepare(inputs)
        here = state.detach().requires_grad_(True)
        if training:
            for _ in range(self.backbone.phantom_steps):
                here = self.backbone.evaluate(here, edge_index, prepared)
        here = here.view_as(here)  # derivatives by z are partial: what z depends on itself stays out
        features = {**inputs, "node_features": self.backbone.norm(here)}
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
        """How much J^T lengthens the graph's `probe` [n_atoms, (l_max+1)^2, channels]: `growth` [n_systems].

        The new direction is the output `probe`, of length one per system: given back at the next visit of the same frames,
        it makes a power iteration of the training run itself, and `growth` the spectral radius, which a loss can hold down.
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
    """Derivatives of the sum of weights (one by default) times values by each input; the tape of `values` is kept."""
    weights = weights or [torch.ones_like(value) for value in values]
    return torch.autograd.grad(values, inputs, weights, retain_graph=True, create_graph=create_graph)
