"""Fixed-point correction: what a potential gives for states on the way to its solution, for a loss on them.

Training solves to a loose tolerance, and use may be looser still. A loss on outputs read before the end asks f to be right
early. At the number of evaluations k, the outputs are those of the Lagrangian at z_k and lambda_k, both what the solver
would try next after k evaluations of its own fixed-point equation (the adjoint one is that of the last z):

    L(z_k, lambda_k; x) = e(z_k) + lambda_k . (f(z_k; x) - z_k),      forces -dL/dx at fixed z_k and lambda_k.

Nothing is solved anew. Each state costs what the solution costs after its solve: `phantom_steps` recorded evaluations of
either equation from (z_k, lambda_k), and one backward pass to the edges; gradients by the weights are phantom gradients
from there. With direct forces the head reads z_k and there is no adjoint.

The states are equally spaced in the number of evaluations that training allows: of 4, one state is after 2, two states are
after 1 and 2. From kept starts solves are short, and a system that was done before counts with its solution.

Source: Bai, Geng, Savani, Kolter, "Deep equilibrium optical flow estimation" (2022); Burger et al., "DEQuify your
force field" (2025).
"""

from __future__ import annotations

from torch import Tensor

from mlff_calc.potential.fixed_point import FixedPointPotential


def correction_counts(n_states: int, training_evaluations: int) -> list[int]:
    """Numbers of evaluations after which intermediate states are read, ascending, each once; 0 is the start."""
    return sorted({(i + 1) * training_evaluations // (n_states + 1) for i in range(n_states)})


def outputs_on_the_way(
    potential: FixedPointPotential, graph: dict[str, Tensor], found: dict[str, Tensor]
) -> list[dict[str, Tensor]]:
    """Outputs at each of the intermediate states that a solve has found.

    Args:
        potential: in training mode.
        graph: what was solved.
        found: `path_states` and `path_adjoints`, as `FixedPointPotential.solve` gives them for counts.
    """
    plain = {name: value for name, value in graph.items() if name != "probe"}  # the radius is measured at the solution
    pairs = zip(found["path_states"], found["path_adjoints"], strict=True)
    return [potential.outputs(plain, state, adjoint) for state, adjoint in pairs]
