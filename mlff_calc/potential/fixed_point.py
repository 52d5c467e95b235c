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
            backbone.solver.max_evaluations *= LONGER
        elif precision != "float64" and self.precision == "float64":
            backbone.tolerance = float(self.config["backbone"]["tolerance"])
            backbone.solver.max_evaluations = int(self.config["backbone"]["max_evaluations"])
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

    def solve(self, graph: dict[str, Tensor], counts: list[int] | None = None) -> dict[str, Tensor]:
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
        wanted: list[int] = []
        if counts is not None:
            wanted = counts
        index, edge_index, n_systems = graph["system_index"], graph["edge_index"], graph["cell"].shape[0]
        tolerance = self.backbone.training_tolerance if self.training else self.backbone.tolerance
        most = self.backbone.training_evaluations if self.training else self.backbone.solver.max_evaluations
        inputs = self.inputs(graph, graph["edge_vec"].detach())
        with torch.no_grad():
            prepared = self.backbone.prepare(inputs)
            start = graph["start_state"].to(prepared[0].dtype) if "start_state" in graph else prepared[0]
            known = self.backbone.solver.begin(start.flatten(1), index, n_systems, tolerance, most)
            path: list[Tensor] = []
            made = 0
            while not bool(known["done"].all()):
                if made in wanted:
                    path.append(known["z"].view(start.shape))
                made += 1
                value = self.backbone.evaluate(known["z"].view(start.shape), edge_index, prepared)
                known = self.backbone.solver.tell(known, value.flatten(1))
        out = {"state": known["best"].view(start.shape), "residual": known["best_residual"]}
        out["evaluations"] = known["evaluations"]
        if len(wanted) > 0:
            out["path_states"] = along(path, out["state"], wanted)
        out.update(self.solve_adjoint(graph, inputs, prepared, out["state"], wanted))
        return out

    def solve_adjoint(
        self,
        graph: dict[str, Tensor],
        inputs: dict[str, Tensor],
        prepared: list[Tensor],
        state: Tensor,
        counts: list[int],
    ) -> dict[str, Tensor]:
        """What `solve` says of the adjoint at a state; zeros with direct forces.

        Args:
            graph: as for `forward`.
            inputs: what the backbone reads of it.
            prepared: what f needs of it.
            state: z [n_atoms, (l_max+1)^2, channels].
            counts: as for `solve`, empty where nothing more is wanted.
        """
        index, n_systems = graph["system_index"], graph["cell"].shape[0]
        tolerance = self.backbone.training_tolerance if self.training else self.backbone.tolerance
        most = self.backbone.training_evaluations if self.training else self.backbone.solver.max_evaluations
        here = state.detach().requires_grad_(True)
        path: list[Tensor] = []
        if self.direct_forces:
            nothing = torch.zeros(n_systems, dtype=torch.float64, device=here.device)
            out = {"adjoint": torch.zeros_like(state), "adjoint_residual": nothing}
            out["adjoint_evaluations"] = torch.zeros(n_systems, dtype=torch.long, device=here.device)
        else:
            cotangent = derivatives([self.read(inputs, here)], [here])[0]
            value = self.backbone.evaluate(here, graph["edge_index"], prepared)
            start = graph["start_adjoint"].to(here.dtype) if "start_adjoint" in graph else cotangent
            known = self.backbone.solver.begin(start.flatten(1), index, n_systems, tolerance, most)
            made = 0
            while not bool(known["done"].all()):
                if made in counts:
                    path.append(known["z"].view(here.shape))
                made += 1
                pulled = derivatives([value], [here], [known["z"].view(here.shape)])[0]
                known = self.backbone.solver.tell(known, (cotangent + pulled).flatten(1))
            out = {"adjoint": known["best"].view(here.shape), "adjoint_residual": known["best_residual"]}
            out["adjoint_evaluations"] = known["evaluations"]
        if len(counts) > 0:
            out["path_adjoints"] = along(path, out["adjoint"], counts)
        return out

    def read(self, inputs: dict[str, Tensor], state: Tensor) -> Tensor:
        """Energies e(z) [n_atoms] (eV) of a state, without repulsion."""
        graph = dict(inputs)
        graph["node_features"] = self.backbone.norm(state)
        return self.heads["energy"](graph)["energies"]

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
        energies = self.read(inputs, here)
        others = self.others({**inputs, "node_features": self.backbone.norm(here)})
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


def along(path: list[Tensor], best: Tensor, counts: list[int]) -> Tensor:
    """What a solve tried at `counts` [n_counts, *best.shape], as far as it came; `best` for the rest."""
    for _ in range(len(counts) - len(path)):
        path.append(best)
    return torch.stack(path)


def derivatives(
    values: Sequence[Tensor], inputs: Sequence[Tensor], weights: Sequence[Tensor] = (), create_graph: bool = False
) -> tuple[Tensor, ...]:
    """Derivatives of the sum of weights (one by default) times values by each input; the tape of `values` is kept."""
    weights = weights or [torch.ones_like(value) for value in values]
    return torch.autograd.grad(values, inputs, weights, retain_graph=True, create_graph=create_graph)
