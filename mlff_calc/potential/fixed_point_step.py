"""One step of a trajectory on a fixed-point potential, with a fixed number of evaluations and a start from earlier steps.

No loop depends on data, so the whole step compiles as one: prediction, evaluations of f, products with its transposed
Jacobian, energy and forces. What is kept between steps is passed in and returned as tensors.

| name | shape | meaning |
|---|---|---|
| `past_embeddings`, `past_states`, `past_adjoints` | [window, *state] | results of the last steps, newest first |
| `mix` | [window] | weights of the last steps in the start; all zero: least squares decides |
| `ridges` | [2] | ridge of the least-squares mix, ridge of the acceleration |
| `state_secants`, `adjoint_secants` | [2, kept, *state] | changes of z and of f(z) - z in earlier solves |

`*state` is the shape of z, `[n_atoms, *state_shape]`.

The last evaluation of f carries the tape for all products, and the last product also gives the forces. The step
therefore costs n_forward evaluations and n_adjoint products and nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlff_calc.backbones.base import node_species
from mlff_calc.fixed_point.unrolled import Unrolled, least_squares_mix, same, unrolled
from mlff_calc.nn.exchange import all_sum
from mlff_calc.potential.fixed_point import FixedPointPotential, derivatives
from mlff_calc.potential.model import pair_outputs

MEMORY_INPUTS = ("past_embeddings", "past_states", "past_adjoints", "mix", "ridges", "state_secants", "adjoint_secants")
MEMORY_OUTPUTS = (
    "embedding", "state", "adjoint", "residual", "adjoint_residual", "new_state_secants", "new_adjoint_secants",
)  # fmt: skip


class StepSizes(NamedTuple):
    """Sizes of a step.

    Attributes:
        n_forward: number of evaluations of f.
        n_adjoint: number of products with the transposed Jacobian of f; not used with direct forces.
        window: number of past steps in the start. With 0 the step is cold: it begins at the embedding and at de/dz.
        kept: number of secants kept per solve.
    """

    n_forward: int
    n_adjoint: int
    window: int
    kept: int


class FixedPointStep(nn.Module):
    """Step of a potential with fixed numbers of evaluations.

    Args:
        potential: potential in evaluation mode. With direct forces there are no products, and adjoints are 0.
        sizes: sizes of the step, see `StepSizes`.
    """

    inputs = MEMORY_INPUTS
    outputs = MEMORY_OUTPUTS

    def __init__(self, potential: FixedPointPotential, sizes: StepSizes) -> None:
        super().__init__()
        self.potential = potential
        self.sizes = sizes
        self.n_forward, self.n_adjoint = sizes.n_forward, sizes.n_adjoint

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the potential's outputs and `MEMORY_OUTPUTS` for a graph of one system that holds `MEMORY_INPUTS`.

        A graph with `node_numbers` is the part of a system that one process holds; inner products are then summed over
        all processes. Where its scalar `cold` is true, the step begins at the embedding and at de/dz and ignores the
        memory.
        """
        potential, edge_index = self.potential, graph["edge_index"]
        edge_vec = graph["edge_vec"].detach().requires_grad_(True)
        inputs = potential.inputs(graph, edge_vec)
        nodes, total = node_species(inputs), all_sum if "node_numbers" in graph else same
        prepared = potential.backbone.prepare(inputs)
        views = [tensor.detach().requires_grad_(True) for tensor in prepared]
        start, mix = views[0].detach(), graph["mix"]
        if self.sizes.window > 0:
            mix = self.mix(start, graph, total)
            start = _warm(start, (mix * graph["past_states"]).sum(dim=0), graph)
        here: list[Tensor] = []
        owned = (graph["owned"] > 0.0).view(-1, 1, 1) if "owned" in graph else None

        def only_owned(found: Tensor, given: Tensor) -> Tensor:
            """Leave rows that pad a process's part unchanged, so that they add nothing to sums over all processes."""
            return found if owned is None else torch.where(owned, found, given)

        def evaluate(state: Tensor) -> Tensor:
            here[:] = [state.detach().requires_grad_(True)]
            return only_owned(potential.backbone.evaluate(here[0], edge_index, views, nodes), here[0])

        secants_z, secants_g = graph["state_secants"]
        forward = unrolled(evaluate, start, self.n_forward, secants_z, secants_g, graph["ridges"][1], total)
        if potential.direct_forces:
            out = self.direct(inputs, graph, forward)
            none = Unrolled(*(torch.zeros_like(part).detach() for part in forward))
            return out | _memory(prepared[0].detach(), forward, none)
        features = {**inputs, "node_features": potential.backbone.read(here[0])}
        energies, others = potential.heads["energy"](features)["energies"], potential.others(features)
        cotangent = derivatives([energies], here)[0]
        adjoint = cotangent
        if self.sizes.window > 0:
            adjoint = _warm(cotangent, (mix * graph["past_adjoints"]).sum(dim=0), graph)
        pulled: list[Tensor] = []

        def transpose(adjoint: Tensor) -> Tensor:
            pulled[:] = derivatives([forward.value], [here[0], *views], [adjoint])
            return only_owned(cotangent + pulled[0], adjoint)

        secants_z, secants_g = graph["adjoint_secants"]
        backward = unrolled(transpose, adjoint, self.n_adjoint, secants_z, secants_g, graph["ridges"][1], total)
        gap = (forward.value - here[0]).detach()
        energies = energies.detach() + (backward.state * gap).flatten(1).double().sum(dim=1)
        ends, weights = prepared, pulled[1:]
        if potential.repulsion is not None:
            inputs["energies"] = torch.zeros_like(energies)
            repulsion = potential.repulsion(inputs)["energies"]
            energies = energies + repulsion.detach()
            ends, weights = [*ends, repulsion], [*weights, torch.ones_like(repulsion)]
        gradient = derivatives(ends, [edge_vec], weights)[0]
        out = potential.totals(energies, graph) | others
        out.update(pair_outputs(gradient, edge_vec.detach(), graph))
        out.update(_memory(prepared[0].detach(), forward, backward))
        return out

    def direct(self, inputs: dict[str, Tensor], graph: dict[str, Tensor], forward: Unrolled) -> dict[str, Tensor]:
        """Return the outputs of direct forces, which are read off the best estimate of z; there is no adjoint."""
        potential = self.potential
        features = {**inputs, "node_features": potential.backbone.read(forward.proposal)}
        out = potential.totals(potential.heads["energy"](features)["energies"], graph) | potential.others(features)
        return potential.finished(out)

    def mix(self, embedding: Tensor, graph: dict[str, Tensor], total: Callable[[Tensor], Tensor] = same) -> Tensor:
        """Return the weights [window, 1, 1, 1] of the last solutions: the given ones, or those of least squares."""
        given = graph["mix"]
        fitted = least_squares_mix(graph["past_embeddings"], embedding, graph["ridges"][0], total)
        return torch.where((given == 0.0).all(), fitted, given).to(embedding.dtype).view(-1, 1, 1, 1)


def _warm(cold: Tensor, warm: Tensor, graph: dict[str, Tensor]) -> Tensor:
    return torch.where(graph["cold"], cold, warm) if "cold" in graph else warm


def _memory(embedding: Tensor, forward: Unrolled, backward: Unrolled) -> dict[str, Tensor]:
    return {
        "embedding": embedding,
        "state": forward.proposal,
        "adjoint": backward.proposal,
        "residual": forward.residual.unsqueeze(0),
        "adjoint_residual": backward.residual.unsqueeze(0),
        "new_state_secants": torch.stack([forward.secants_z, forward.secants_g]),
        "new_adjoint_secants": torch.stack([backward.secants_z, backward.secants_g]),
    }
