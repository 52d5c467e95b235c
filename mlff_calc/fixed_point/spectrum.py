"""The spectral radius of the Jacobian of f at a solution, which measures how contractive f is.

Plain iteration converges where the radius is below one. The smaller the radius, the fewer evaluations any solver needs
and the less an error in the start matters.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mlff_calc.fixed_point.systems import system_dot, to_rows


def spectral_radius(
    function: Callable[[Tensor], Tensor],
    state: Tensor,
    system_index: Tensor | None = None,
    n_systems: int = 1,
    *,
    iterations: int = 40,
    seed: int = 0,
) -> Tensor:
    """Largest absolute eigenvalue [n_systems] of J = df/dz at `state`, by power iteration with J^T.

    The estimate is the geometric mean of the growth over the second half of the iterations. It therefore also covers
    complex pairs, whose growth alternates.

    Args:
        function: map f of z [n_rows, ...] that does not couple systems.
        state: solution [n_rows, ...].
        system_index: system of each row [n_rows]; one system by default.
        n_systems: number of systems.
        iterations: number of products with J^T.
        seed: seed of the first vector.
    """
    if system_index is None:
        system_index = torch.zeros(state.shape[0], dtype=torch.long, device=state.device)
    with torch.enable_grad():
        here = state.detach().requires_grad_()
        value = function(here)
    generator = torch.Generator().manual_seed(seed)
    probe = torch.randn(state.shape, generator=generator).to(state)
    logarithms = []
    for _ in range(iterations):
        probe = probe / to_rows(row_norm(probe, system_index, n_systems), system_index, n_systems).view(
            -1, *[1] * (probe.dim() - 1)
        ).to(probe.dtype)
        probe = torch.autograd.grad(value, here, probe, retain_graph=True)[0]
        logarithms.append(torch.log(row_norm(probe, system_index, n_systems)))
    return torch.exp(torch.stack(logarithms[iterations // 2 :]).mean(dim=0))


def row_norm(tensor: Tensor, system_index: Tensor, n_systems: int) -> Tensor:
    """Euclidean norm [n_systems] (float64) of each system's rows of `tensor` [n_rows, ...]."""
    flat = tensor.flatten(1)
    return torch.sqrt(system_dot(flat.unsqueeze(0), flat, system_index, n_systems)[0].clamp(min=1e-60))
