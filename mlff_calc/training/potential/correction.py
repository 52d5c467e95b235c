"""Fixed-point correction: the outputs of a potential for intermediate states of a solve, for a loss on them.

Training solves to a loose tolerance, and use may be looser still. A loss on outputs at intermediate states asks f to be
right early. After k evaluations the outputs are those of the Lagrangian at z_k and lambda_k, the next iterates of the
two solvers after k evaluations of their own fixed-point equations (the adjoint equation is that of the last z):

    L(z_k, lambda_k; x) = e(z_k) + lambda_k . (f(z_k; x) - z_k),      forces -dL/dx at fixed z_k and lambda_k.

Nothing is solved again. Each state costs the same as the solution after its solve: `phantom_steps` recorded evaluations
of either equation from (z_k, lambda_k), and one backward pass to the edges. Gradients by the weights are phantom
gradients from there. With direct forces the head reads z_k and there is no adjoint.

The states are equally spaced in the number of evaluations that training allows. With 4 evaluations, one state is taken
after 2; two states are taken after 1 and 2. From kept starts solves are short, and a system that was done before
repeats its solution.

Source: Bai, Geng, Savani, Kolter, "Deep equilibrium optical flow estimation" (2022); Burger et al., "DEQuify your
force field" (2025).
"""

from __future__ import annotations

from torch import Tensor

from mlff_calc.potential.fixed_point import FixedPointPotential


def correction_counts(n_states: int, training_evaluations: int) -> list[int]:
    """Return the numbers of evaluations after which states are taken, ascending and without repetition; 0 is the start."""
    return sorted({(i + 1) * training_evaluations // (n_states + 1) for i in range(n_states)})


def outputs_on_the_way(
    potential: FixedPointPotential, graph: dict[str, Tensor], found: dict[str, Tensor]
) -> list[dict[str, Tensor]]:
    """Compute the outputs at each intermediate state that a solve recorded.

    Args:
        potential: Potential in training mode.
        graph: Graph that was solved.
        found: `path_states` and `path_adjoints`, as returned by `FixedPointPotential.solve` with counts.
    """
    plain = {name: value for name, value in graph.items() if name != "probe"}  # growth is measured at the solution
    pairs = zip(found["path_states"], found["path_adjoints"], strict=True)
    return [potential.outputs(plain, state, adjoint) for state, adjoint in pairs]
