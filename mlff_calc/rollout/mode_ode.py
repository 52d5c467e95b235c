"""The differential equation of the modes of a graph, in a form that does not depend on the basis of its eigenspaces.

A mode has C vectors V [C, 3] and F scalars h. With time t,

    dV/dt = W V - d V,    dh/dt = w h - d h,

    W, w = W0 + lambda W1 + MLP(lambda, sqrt(lambda), s(G), mean of s(G), t),

where lambda is the eigenvalue of the mode, G_m = sum_n K_mn V_n V_n^T are inner products, pooled over equal eigenvalues by
the kernel K, and s(u) = sign(u) log(1 + |u|). Signs of eigenvectors drop out, and modes of one eigenspace have the same W. A
weight never knows the number of a mode, so that the same weights serve any graph. The damping d is zero up to a size of V or
h far beyond that of the training, and then outgrows W: states stay finite for any weights and times, the exact solution's
apart. In training, the gradient of each evaluation is bounded as well.

In the second-order form the first two vectors are position and velocity: dx/dt = v holds as it stands, and the force on x is
-lambda k x, so that no force acts on the translation mode.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.errors import RecipeError
from mlff_calc.nn.dense import dense
from mlff_calc.ode import RK4, Dopri5, exact

Solver = Dopri5 | RK4 | None
"""None is the exact solution, without damping."""
BOUND = 1.0
"""Largest size of what the network adds to a weight. Raising it allows faster motion and growth, and takes more steps: at 4,
trainings to 1.5 ps went through states that grew beyond all bounds, and errors were the same."""
LARGE = 30.0
"""Size of the vectors or scalars of a mode, pooled over near eigenvalues, above which they are damped."""
STEEPEST = 1.0
"""Largest norm, over a sample, of the derivative of the loss by the right-hand side at one time. Usual ones are a thousandth
of it; those of samples whose motion is chaotic grow like exp(t), and would drown all others. Raising it lets them."""


def signed_log(values: Tensor) -> Tensor:
    """sign(u) log(1 + |u|)."""
    return values.sign() * torch.log1p(values.abs())


def upper(matrices: Tensor) -> Tensor:
    """Entries on and above the diagonal of symmetric matrices [..., c, c] as [..., c (c + 1) / 2]."""
    i, j = torch.triu_indices(matrices.shape[-1], matrices.shape[-1], device=matrices.device)
    return matrices[..., i, j]


def damping(state: Tensor, kernel: Tensor) -> Tensor:
    """Rates of decay [n_samples, n_modes, 1] of states [n_samples, n_modes, size] that are larger than `LARGE`."""
    sizes = torch.einsum("mn,bn->bm", kernel, state.square().sum(dim=-1))
    return BOUND * torch.log((sizes / LARGE**2).clamp(min=1.0)).square().unsqueeze(-1)


def shortened(gradient: Tensor) -> Tensor:
    """A gradient [n_samples, ...], that of each sample made at most as long as `STEEPEST`."""
    size = torch.linalg.vector_norm(gradient.flatten(1), dim=1).clamp(min=STEEPEST)
    return gradient * (STEEPEST / size).view(-1, *[1] * (gradient.dim() - 1))


class ModeOde(nn.Module):
    """Weights of the equation, and its solution.

    Args:
        vectors: Number of vectors C of a mode, at least 2.
        scalars: Number of scalars F.
        width: Width of the network.
        order: 2 where the first two vectors are position and velocity, otherwise 1.
        stiffness: First value of k.
        sees_state: Whether weights depend on inner products.
        sees_time: Whether weights depend on time.
    """

    def __init__(
        self,
        vectors: int,
        scalars: int,
        width: int = 32,
        order: int = 2,
        stiffness: float = 1.0,
        sees_state: bool = True,
        sees_time: bool = True,
    ) -> None:
        super().__init__()
        self.vectors, self.scalars, self.order = vectors, scalars, order
        self.sees_state, self.sees_time = sees_state, sees_time
        inner = vectors * (vectors + 1) // 2
        n_out = vectors * vectors + scalars
        self.hidden = dense(2 + (2 * inner if sees_state else 0) + (1 if sees_time else 0), width)
        self.last = nn.Linear(width, n_out)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.constant = nn.Parameter(torch.zeros(n_out))
        self.slope = nn.Parameter(torch.zeros(n_out))
        if order == 2:
            self.constant.data[vectors] = stiffness

    def weights(
        self, values: Tensor, kernel: Tensor, state: Tensor | None = None, time: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """W [n_samples or 1, n_modes, C, C] and w [n_samples or 1, n_modes, F].

        Args:
            values: Eigenvalues [n_modes].
            kernel: K [n_modes, n_modes].
            state: Vectors [n_samples, n_modes, C, 3]; None where weights do not depend on them.
            time: Times [n_samples]; None where weights do not depend on them.
        """
        known = [torch.stack([values, values.sqrt()], dim=-1).unsqueeze(0)]
        if self.sees_state and state is not None:
            pooled = torch.einsum("mn,bncd->bmcd", kernel, state @ state.transpose(-1, -2))
            inner = signed_log(upper(pooled))
            known += [inner, inner.mean(dim=1, keepdim=True).expand_as(inner)]
        if self.sees_time and time is not None:
            known.append(time.view(-1, 1, 1).expand(-1, len(values), 1))
        n = max(len(one) for one in known)
        features = torch.cat([one.expand(n, -1, -1) for one in known], dim=-1)
        added = BOUND * torch.tanh(self.last(nn.functional.silu(self.hidden(features))) / BOUND)
        if self.order == 2:
            first = self.constant + values.unsqueeze(-1) * self.slope
            c = self.vectors
            relative = self.constant[c] * added[..., c : c + 1]  # k (1 + f), so that f is a relative change
            whole = first + torch.cat([added[..., :c], relative, added[..., c + 1 :]], dim=-1)
            matrix = whole[..., : c * c].unflatten(-1, (c, c))
            force = -values.view(-1, 1) * matrix[..., 1, :1]
            row = torch.cat([force, matrix[..., 1, 1:]], dim=-1)
            velocity = torch.zeros_like(row)
            velocity[..., 1] = 1.0
            matrix = torch.cat([velocity.unsqueeze(-2), row.unsqueeze(-2), matrix[..., 2:, :]], dim=-2)
        else:
            whole = self.constant + values.unsqueeze(-1) * self.slope + added
            matrix = whole[..., : self.vectors**2].unflatten(-1, (self.vectors, self.vectors))
        return matrix, whole[..., self.vectors**2 :]

    def forward(
        self, solver: Solver, values: Tensor, kernel: Tensor, vectors: Tensor, scalars: Tensor, times: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Vectors [n_samples, n_times, n_modes, C, 3] and scalars [n_samples, n_times, n_modes, F] at later times.

        Args:
            solver: Solver; None for the exact solution.
            values: Eigenvalues [n_modes].
            kernel: K [n_modes, n_modes].
            vectors: At time 0 [n_samples, n_modes, C, 3].
            scalars: At time 0 [n_samples, n_modes, F].
            times: [n_samples, n_times], rising.

        Raises:
            RecipeError: The exact solution is asked for where weights depend on the state or on time.
            IntegrationError: A sample cannot be solved.
        """
        values, kernel = values.to(vectors.dtype), kernel.to(vectors.dtype)
        n, width = len(vectors), 3 * self.vectors
        if solver is None:
            if self.sees_state or self.sees_time:
                raise RecipeError("the exact solution needs weights that depend on neither state nor time; take dopri5")
            matrix, rates = self.weights(values, kernel)
            found = exact(matrix[0], vectors, times).states
            grown = torch.exp(times.to(vectors).view(n, -1, 1, 1) * rates.unsqueeze(1)) * scalars.unsqueeze(1)
            return found, grown

        def slope(time: Tensor, state: Tensor) -> Tensor:
            moving, still = state[..., :width], state[..., width:]
            matrix, rates = self.weights(values, kernel, moving.unflatten(-1, (self.vectors, 3)), time)
            turned = (matrix @ moving.unflatten(-1, (self.vectors, 3))).flatten(-2)
            parts = turned - damping(moving, kernel) * moving, rates * still - damping(still, kernel) * still
            found = torch.cat(parts, dim=-1)
            if found.requires_grad:
                found.register_hook(shortened)
            return found

        state = torch.cat([vectors.flatten(-2), scalars], dim=-1)
        found = solver(slope, state, times).states
        return found[..., :width].unflatten(-1, (self.vectors, 3)), found[..., width:]
