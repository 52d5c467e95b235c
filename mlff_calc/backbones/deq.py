"""`deq`: node features as the fixed point of one or two blocks of `equiformer`.

A stack of layers is replaced by one map that is applied to its own output until nothing changes: z* = f(z*; x). The
first block adds to the embedding u(x) instead of to z, so f is bounded for any z:

    f(z; x) = B(u + A(norm(z)))      A: graph attention, B: the rest of the block, and the second block where there is one.

A solver finds z*, and `forward` gives the solution the derivatives of a fixed point. A potential, which knows the
energy, obtains forces more cheaply by one further linear solve (potential/fixed_point.py).

Normalization is per atom, so that features depend neither on the batch nor on the size of a system. Everything that
depends only on geometry (u, envelope, frames, radial weights) is computed once per structure and shared by all
evaluations.

| symbol | name in code | shape |
|---|---|---|
| z | `state` | [n_atoms, (l_max+1)^2, channels] |
| u, envelope, frames, radial weights by block | `Prepared` | |

Source: Burger et al., "DEQuify your force field" (2025), Sec. 3, a weight-tied EquiformerV2 block with input injection.
Here the embedding replaces the residual stream and norms are per atom; the paper rescales by one norm over the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mlff_calc.backbones.base import Backbone, node_species, register_backbone
from mlff_calc.backbones.equiformer import AtomEmbedding, EdgeGeometry, EquiformerBlock, check_positive, check_sizes
from mlff_calc.backbones.inputs import edge_inputs, input_features
from mlff_calc.errors import OptionError, RecipeError
from mlff_calc.fixed_point import Solution, Solver, attach, build_solver, solve, unroll
from mlff_calc.nn.degree import DegreeNorm

GRADIENTS = ("phantom", "implicit")
NORMALIZATIONS = ("none", "weight", "spectral")


class LinearMap(NamedTuple):
    """Linear map inside f that acts on the state.

    Attributes:
        name: name of its weight in the backbone.
        weight: matrices in the last two dimensions.
        input_dim: dimension of the inputs, -2 or -1.
        limit: expected largest singular value of a new random matrix of this shape.
    """

    name: str
    weight: nn.Parameter
    input_dim: int
    limit: float


class FixedPointMap(nn.Module):
    """The map f: one or two blocks, of which the first reads z and adds to the embedding."""

    def __init__(self, blocks: list[EquiformerBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self, state: Tensor, edge_index: Tensor, prepared: list[Tensor], nodes: Tensor | None = None
    ) -> Tensor:
        """Map `state` [n_atoms, (l_max+1)^2, channels] to the same shape, with the result of `Deq.prepare`."""
        features = prepared[0]
        for i, block in enumerate(self.blocks):
            source = block.attention_norm(state if i == 0 else features)
            features = features + block.attention(source, edge_index, prepared[3 + i], prepared[1], prepared[2], nodes)
            features = features + block.ffn(block.ffn_norm(features))
        return features


@register_backbone("deq")
class Deq(Backbone):
    """Fixed point of one or two equivariant graph-attention blocks.

    Args:
        n_species: number of elements of the potential.
        n_blocks: number of blocks of f, 1 or 2.
        solver: method, `anderson`, `broyden` or `picard`.
        history: number of earlier states that the solver uses.
        damping: share of the new value in a step.
        tolerance: relative residual |f(z) - z| / |f(z)| at which a solve ends in use, for z and for the adjoint.
        max_evaluations: largest number of evaluations of a solve; a solve that needs more has not converged.
        training_tolerance: relative residual at which a solve ends in training.
        training_evaluations: largest number of evaluations of a solve in training; a solve that is not finished continues
            in the next epoch from its last state.
        gradient: method for gradients of losses through a solution: `phantom` (`phantom_steps` evaluations are recorded)
            or `implicit` (exact, by further linear solves; slower, and not compiled).
        phantom_steps: number of evaluations that `phantom` records, at least 1.
        feedback: scale of the initial weights that act on z. For ethanol new maps were contractive at 0.3 (spectral radius
            0.75 to 0.9) and not at 0.6.
        normalization: treatment in training of the linear maps inside f that act on z: `none`, `weight` (lengths and
            directions of their columns are learned separately) or `spectral` (no largest singular value above that of a
            new matrix). See training/normalization.py. The trained potential has ordinary weights.
        dropout: probability with which a channel of an atom's messages is left out in training, for a whole solve.
        cutoff, l_max, m_max, channels, heads: see `Equiformer`.
        attention_channels, ffn_channels, n_basis, edge_channels: see `Equiformer`.
        envelope_exponent, avg_num_neighbors: see `Equiformer`.

    Raises:
        RecipeError: an option is out of range.
    """

    is_fixed_point = True
    layers_name = "map.blocks"
    after_layers = ("norm",)

    def __init__(
        self,
        n_species: int,
        n_blocks: int = 1,
        solver: str = "anderson",
        history: int = 5,
        damping: float = 1.0,
        tolerance: float = 1e-4,
        training_tolerance: float = 1e-3,
        max_evaluations: int = 50,
        training_evaluations: int = 8,
        gradient: str = "phantom",
        phantom_steps: int = 1,
        feedback: float = 0.3,
        normalization: str = "none",
        dropout: float = 0.0,
        cutoff: float = 5.0,
        l_max: int = 2,
        m_max: int = -1,
        channels: int = 32,
        heads: int = 4,
        attention_channels: int = 0,
        ffn_channels: int = 0,
        n_basis: int = 8,
        edge_channels: int = 32,
        envelope_exponent: int = 5,
        avg_num_neighbors: float = 10.0,
    ) -> None:
        super().__init__()
        m_max = l_max if m_max < 0 else m_max
        attention_channels = attention_channels or channels
        ffn_channels = ffn_channels or 2 * channels
        _check_own_options(
            n_blocks, gradient, training_evaluations, training_tolerance, dropout, phantom_steps, normalization
        )
        check_sizes("deq", cutoff, l_max, m_max, channels, n_blocks, heads, attention_channels)
        check_positive(
            "deq",
            n_basis=n_basis,
            edge_channels=edge_channels,
            ffn_channels=ffn_channels,
            envelope_exponent=envelope_exponent,
            avg_num_neighbors=avg_num_neighbors,
            feedback=feedback,
        )
        self.cutoff = float(cutoff)
        self.l_max = l_max
        self.channels = channels
        self.n_layers = n_blocks
        self.exchange_width = (l_max + 1) ** 2 * attention_channels
        self.gradient = gradient
        self.tolerance = float(tolerance)
        self.training_tolerance = float(training_tolerance)
        self.training_evaluations = training_evaluations
        self.dropout = dropout
        self.normalization = normalization
        self.feedback = feedback
        self.phantom_steps = phantom_steps
        self.solver = _build_solver(solver, tolerance, max_evaluations, damping, history)
        self.geometry = EdgeGeometry(cutoff, n_basis, edge_channels, l_max, m_max, n_species, envelope_exponent)
        self.embedding = AtomEmbedding(l_max, channels, edge_channels, n_species, avg_num_neighbors)
        sizes = (l_max, m_max, channels, attention_channels, heads, ffn_channels, edge_channels)
        self.map = FixedPointMap([EquiformerBlock(*sizes) for _ in range(n_blocks)])
        with torch.no_grad():
            self.map.blocks[0].attention.project.weight.mul_(feedback)
        self.norm = DegreeNorm(l_max, channels)

    def set_double_geometry(self, double: bool) -> None:
        """See `Backbone.set_double_geometry`; distances, basis and frames are computed in float64."""
        self.geometry.double_geometry = double

    def prepare(self, graph: dict[str, Tensor]) -> list[Tensor]:
        """Compute the inputs of f for a structure: embedding, envelope, frames, and the radial weights of each block."""
        species, edge_index = graph["species"], graph["edge_index"]
        edges = self.geometry(graph["edge_vec"], edge_index, species, node_species(graph), edge_inputs(graph))
        embedded = self.embedding(species, edge_index, edges, input_features(graph))
        prepared = [embedded, edges.envelope, edges.wigner]
        for block in self.map.blocks:
            weights = block.attention.radial_weights(edges.scalars)
            if "dropout" in graph:
                weights = weights * graph["dropout"].index_select(0, edge_index[0]).unsqueeze(1)
            prepared.append(weights)
        return prepared

    def evaluate(
        self, state: Tensor, edge_index: Tensor, prepared: list[Tensor], nodes: Tensor | None = None
    ) -> Tensor:
        """Evaluate f once at `state` z [n_atoms, (l_max+1)^2, channels], with the result of `prepare`.

        `nodes` is the result of `node_species` where an engine has ghost atoms.
        """
        return self.map(state, edge_index, prepared, nodes)

    def solve(
        self, function: Callable[[Tensor], Tensor], start: Tensor, graph: dict[str, Tensor], counts: Sequence[int] = ()
    ) -> Solution:
        """Solve z = function(z) for the systems of a graph, to the tolerance of the present mode.

        Args:
            function: f, or the map of the adjoint equation.
            start: first z [n_atoms, (l_max+1)^2, channels], of any precision.
            graph: graph with `system_index`.
            counts: numbers of evaluations after which states are kept, see `fixed_point.solve`.
        """
        return solve(
            function,
            start.to(self.norm.scale.dtype),
            self.solver,
            graph["system_index"],
            graph["cell"].shape[0],
            tolerance=self.training_tolerance if self.training else self.tolerance,
            max_evaluations=self.training_evaluations if self.training else self.solver.max_evaluations,
            counts=counts,
        )

    def dropout_factors(self, graph: dict[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Draw factors of messages [n_atoms, attention_channels]: 0 with probability `dropout`, else 1 / (1 - dropout).

        They are drawn once per solve and used in all of its evaluations ("recurrent" dropout; Gal and Ghahramani,
        2016). New factors in each evaluation would leave no fixed point to find.
        """
        kept = 1.0 - self.dropout
        hidden = cast(EquiformerBlock, self.map.blocks[0]).attention.hidden
        chance = torch.full((graph["atomic_numbers"].shape[0], hidden), kept, device=self.norm.scale.device)
        return torch.bernoulli(chance, generator=generator).to(self.norm.scale.dtype) / kept

    def linear_maps(self) -> list[LinearMap]:
        """List the linear maps inside f that act on the state; maps that read only geometry are not included."""
        found = []
        for path, module in self.map.named_modules():
            for name, weight in module.named_parameters(recurse=False):
                if weight.dim() < 2 or isinstance(module, DegreeNorm) or path.endswith("attention.modulate"):
                    continue
                input_dim = -1 if isinstance(module, nn.Linear) else -2
                n_in, n_out = weight.shape[input_dim], weight.shape[-3 - input_dim]
                limit = 1.0 + math.sqrt(n_out / max(n_in, 1))
                if path == "blocks.0.attention.project":
                    limit = self.feedback * limit
                if weight.numel() > 0:
                    found.append(LinearMap(f"map.{path}.{name}", weight, input_dim, limit))
        return found

    def random_state(self, graph: dict[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Draw normal random numbers in the shape of a state, for power iterations."""
        shape = (graph["atomic_numbers"].shape[0], (self.l_max + 1) ** 2, self.channels)
        like = self.norm.scale
        return torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator)

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add `node_features` [n_atoms, (l_max+1)^2, channels] and the results of the solve to the graph.

        The latter are `state` (z*, [n_atoms, (l_max+1)^2, channels]), `residual` and `evaluations` [n_systems]. The
        solve begins at `start_state` where the graph has it. Features have the exact derivatives of the fixed point, or
        in training with
        `gradient: phantom` those of the last `phantom_steps` evaluations.
        """
        edge_index, prepared = graph["edge_index"], self.prepare(graph)
        with torch.no_grad():
            start = graph.get("start_state", prepared[0])
            found = self.solve(lambda state: self.evaluate(state, edge_index, prepared), start, graph)
        state = found.state
        if self.training and self.gradient == "phantom":
            state = unroll(lambda z: self.evaluate(z, edge_index, prepared), state, (), self.phantom_steps)
        else:
            weights = {name: weight for name, weight in self.map.named_parameters() if weight.requires_grad}
            names, n_prepared = list(weights), len(prepared)

            def function(z: Tensor, *tensors: Tensor) -> Tensor:
                given = dict(zip(names, tensors[n_prepared:], strict=True))
                return functional_call(self.map, given, (z, edge_index, list(tensors[:n_prepared])))

            def solve_adjoint(transposed: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
                return self.solve(transposed, start, graph).state

            state = attach(function, state, [*prepared, *weights.values()], solve_adjoint)
        out = dict(graph)
        out["node_features"] = self.norm(state)
        out["state"], out["residual"], out["evaluations"] = state.detach(), found.residual, found.evaluations
        return out


def _build_solver(name: str, tolerance: float, max_evaluations: int, damping: float, history: int) -> Solver:
    """Build the solver of a recipe.

    Raises:
        RecipeError: the name is unknown or an option is out of range.
    """
    options: dict[str, Any] = {"max_evaluations": max_evaluations, "damping": damping}
    if name != "picard":
        options["history"] = history
    try:
        return build_solver(name, tolerance=tolerance, **options)
    except OptionError as error:
        raise RecipeError(f"backbone deq: {error}") from error


def _check_own_options(
    n_blocks: int,
    gradient: str,
    training_evaluations: int,
    training_tolerance: float,
    dropout: float,
    phantom_steps: int,
    normalization: str,
) -> None:
    """Check the options that no other backbone has.

    Raises:
        RecipeError: an option is out of range; the message names option and value.
    """
    checks = [
        (n_blocks in (1, 2), f"n_blocks is {n_blocks}; choose 1 or 2"),
        (gradient in GRADIENTS, f"gradient is {gradient!r}; choose one of {', '.join(GRADIENTS)}"),
        (training_evaluations >= 1, f"training_evaluations is {training_evaluations}; it must be at least 1"),
        (training_tolerance > 0.0, f"training_tolerance is {training_tolerance}; it must be positive"),
        (0.0 <= dropout < 1.0, f"dropout is {dropout}; it must be at least 0 and below 1"),
        (
            normalization in NORMALIZATIONS,
            f"normalization is {normalization!r}; choose one of {', '.join(NORMALIZATIONS)}",
        ),
        (phantom_steps >= 1, f"phantom_steps is {phantom_steps}; it must be at least 1"),
    ]
    for valid, message in checks:
        if not valid:
            raise RecipeError(f"backbone deq: {message}")
