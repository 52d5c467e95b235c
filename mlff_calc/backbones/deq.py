"""`deq`: node features as the fixed point of one or two layers of another backbone.

A stack of layers is replaced by one map that is applied to its own output until nothing changes: z* = f(z*; x). Explicit
layers (the prelude) and the embedding make u(x); f adds to it what its layer makes of a bounded z (`maps/`), so that f is
bounded for any z.

A solver finds z*, and `forward` gives the solution the derivatives of a fixed point. A potential, which knows the
energy, obtains forces more cheaply by one further linear solve (potential/fixed_point.py).

Normalization is per atom, so that features depend neither on the batch nor on the size of a system. Everything that
depends only on geometry is computed once per structure and shared by all evaluations.

| symbol | name in code | shape |
|---|---|---|
| z | `state` | `[n_atoms, *state_shape]` |
| u, and what f reads of the geometry | `prepared` | |

Source: Burger et al., "DEQuify your force field" (2025), Sec. 3, a weight-tied EquiformerV2 block with input injection.
Here u replaces the residual stream and norms are per atom; the paper rescales by one norm over the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from mlff_calc.backbones.base import Backbone, backbone_options, register_backbone
from mlff_calc.backbones.equiformer import check_positive
from mlff_calc.backbones.maps import MAPS, LinearMap, map_class
from mlff_calc.errors import OptionError, RecipeError
from mlff_calc.fixed_point import Solution, Solver, attach, build_solver, solve, unroll

GRADIENTS = ("phantom", "implicit")
NORMALIZATIONS = ("none", "weight", "spectral")


@register_backbone("deq")
class Deq(Backbone):
    """Fixed point of one or two layers of another backbone.

    Args:
        n_species: number of elements of the potential.
        block: backbone whose layers f repeats: `hegnn`, `equiformer` or `cg_egnn`. Its own options are options as well.
        prelude: number of layers before the fixed point, which are evaluated once.
        n_blocks: number of layers of f, 1 or 2.
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
        feedback: scale of the initial weights that act on z. For ethanol new maps of `equiformer` were contractive at 0.3
            (spectral radius 0.75 to 0.9) and not at 0.6.
        normalization: treatment in training of the linear maps inside f that act on z: `none`, `weight` (lengths and
            directions of their columns are learned separately) or `spectral` (no largest singular value above that of a
            new matrix). See training/normalization.py. The trained potential has ordinary weights.
        dropout: probability with which a channel of an atom's messages is left out in training, for a whole solve.
        **options: options of the backbone `block`, without its number of layers.

    Attributes:
        stack: the backbone `block` with the layers of the prelude.
        map: the map f.
        state_shape: shape of the state of an atom.

    Raises:
        RecipeError: an option is out of range.
    """

    is_fixed_point = True
    layers_name = "map.blocks"

    def __init__(
        self,
        n_species: int,
        block: str = "hegnn",
        prelude: int = 1,
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
        **options: Any,
    ) -> None:
        super().__init__()
        _check_own_options(
            n_blocks, prelude, gradient, training_evaluations, training_tolerance, dropout, phantom_steps, normalization
        )
        check_positive("deq", feedback=feedback)
        own = map_class(block)
        try:
            self.stack = own.stack_class(n_species, n_layers=prelude + n_blocks, **options)
        except RecipeError as error:
            raise RecipeError(str(error).replace(f"backbone {block}: ", "backbone deq: ")) from error
        self.map = own(self.stack, n_blocks)
        self.map.scale(feedback)
        self.cutoff, self.l_max, self.channels = self.stack.cutoff, self.stack.l_max, self.stack.channels
        self.n_layers, self.first_hops = self.stack.n_layers, self.stack.first_hops
        self.exchange_width = self.stack.exchange_width
        self.n_explicit = self.n_layers * prelude // (prelude + n_blocks)
        self.state_shape = self.map.state_shape(self.stack)
        self.gradient = gradient
        self.tolerance = float(tolerance)
        self.training_tolerance = float(training_tolerance)
        self.training_evaluations = training_evaluations
        self.dropout = dropout
        self.normalization = normalization
        self.feedback = feedback
        self.phantom_steps = phantom_steps
        self.solver = _build_solver(solver, tolerance, max_evaluations, damping, history)

    @classmethod
    def further_options(cls, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the options of the backbone `block` with their defaults; those of all of them where nothing is given.

        Raises:
            RecipeError: there is no such block.
        """
        names = sorted(MAPS, reverse=True) if given is None else [given.get("block", "hegnn")]
        found: dict[str, Any] = {}
        for name in names:
            left_out = map_class(name).left_out
            found |= {key: value for key, value in backbone_options(name).items() if key not in left_out | found.keys()}
        return found

    @classmethod
    def detail(cls, given: Mapping[str, Any]) -> str:
        """Name the block, on which further options depend."""
        return f" with block {given.get('block', 'hegnn')}"

    @property
    def precision(self) -> torch.dtype:
        """Precision of the weights."""
        return next(self.map.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.map.parameters()).device

    @property
    def n_levels(self) -> int:
        """See `Backbone.n_levels`: layers of the prelude and of the map."""
        return self.stack.n_levels + super().n_levels

    def layer_of(self, name: str) -> int:
        """See `Backbone.layer_of`; the layers of the prelude come first."""
        owner, _, rest = name.partition(".")
        if owner != "stack":
            return self.stack.n_levels + super().layer_of(name)
        is_read = rest.partition(".")[0] in self.stack.after_layers
        return self.n_levels if is_read else self.stack.layer_of(rest)

    def limit_outputs(self, l_max: int) -> None:
        """See `Backbone.limit_outputs`; the state keeps all degrees."""
        self.map.limit_outputs(self.stack, l_max)

    def set_double_geometry(self, double: bool) -> None:
        """See `Backbone.set_double_geometry`."""
        self.stack.set_double_geometry(double)

    def prepare(self, graph: dict[str, Tensor]) -> list[Tensor]:
        """Compute the inputs of f for a structure: u `[n_atoms, *state_shape]`, and what f reads of the geometry."""
        return self.map.prepare(self.stack, graph)

    def evaluate(
        self, state: Tensor, edge_index: Tensor, prepared: list[Tensor], nodes: Tensor | None = None
    ) -> Tensor:
        """Evaluate f once at `state` z `[n_atoms, *state_shape]`, with the result of `prepare`.

        `nodes` is the result of `node_species` where an engine has ghost atoms.
        """
        return self.map(state, edge_index, prepared, nodes)

    def read(self, state: Tensor) -> Tensor:
        """Read node features [n_atoms, (l_max+1)^2, channels] from a state; see `limit_outputs`."""
        return self.map.read(self.stack, state)

    def solve(
        self, function: Callable[[Tensor], Tensor], start: Tensor, graph: dict[str, Tensor], counts: Sequence[int] = ()
    ) -> Solution:
        """Solve z = function(z) for the systems of a graph, to the tolerance of the present mode.

        Args:
            function: f, or the map of the adjoint equation.
            start: first z `[n_atoms, *state_shape]`, of any precision.
            graph: graph with `system_index`.
            counts: numbers of evaluations after which states are kept, see `fixed_point.solve`.
        """
        return solve(
            function,
            start.to(self.precision),
            self.solver,
            graph["system_index"],
            graph["cell"].shape[0],
            tolerance=self.training_tolerance if self.training else self.tolerance,
            max_evaluations=self.training_evaluations if self.training else self.solver.max_evaluations,
            counts=counts,
        )

    def dropout_factors(self, graph: dict[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Draw factors of messages [n_atoms, hidden]: 0 with probability `dropout`, else 1 / (1 - dropout).

        They are drawn once per solve and used in all of its evaluations ("recurrent" dropout; Gal and Ghahramani,
        2016). New factors in each evaluation would leave no fixed point to find.
        """
        kept = 1.0 - self.dropout
        chance = torch.full((graph["atomic_numbers"].shape[0], self.map.hidden(self.stack)), kept, device=self.device)
        return torch.bernoulli(chance, generator=generator).to(self.precision) / kept

    def linear_maps(self) -> list[LinearMap]:
        """List the linear maps inside f that act on the state; maps that read only geometry are not included."""
        return self.map.linear_maps(self.feedback)

    def random_state(self, graph: dict[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Draw normal random numbers in the shape of a state, for power iterations."""
        shape = (graph["atomic_numbers"].shape[0], *self.state_shape)
        return torch.randn(shape, dtype=self.precision, device=self.device, generator=generator)

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add `node_features` [n_atoms, (l_max+1)^2, channels] and the results of the solve to the graph.

        The latter are `state` (z*, `[n_atoms, *state_shape]`), `residual` and `evaluations` [n_systems]. The
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
        out["node_features"] = self.read(state)
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
    prelude: int,
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
        (prelude >= 0, f"prelude is {prelude}; it must be at least 0"),
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
