"""Spectrum and equation of the modes: truncation, degenerate spaces, and the recovery of springs."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import Tensor

from mlff_calc.errors import RecipeError
from mlff_calc.ode import Dopri5
from mlff_calc.rollout.mode_ode import ModeOde, damping
from mlff_calc.rollout.spectrum import Spectrum, laplacian, pieces

RING = [[i, (i + 1) % 8] for i in range(8)]
OTHER = [[i, i + 1] for i in range(10)]  # a chain, whose eigenvalues lie between those of the ring


def ring() -> Spectrum:
    return Spectrum.of(laplacian(8, RING, hops=1))


def test_spectrum_of_a_ring() -> None:
    found = ring()
    assert np.allclose(found.values.numpy(), np.sort(2.0 - 2.0 * np.cos(2.0 * np.pi * np.arange(8) / 8.0)), atol=1e-12)
    assert found.eigenspaces() == [(0, 1), (1, 3), (3, 5), (5, 7), (7, 8)]
    with pytest.raises(RecipeError, match=r"modes is 2, which cuts through the eigenvalues 0.585786, 0.585786"):
        found.lowest(modes=2)
    with pytest.raises(RecipeError, match="modes is 9, which is not from 1 to 8"):
        found.lowest(modes=9)
    assert len(found.lowest(eigenspaces=2).values) == 3
    assert pieces(4, [[0, 1], [2, 3]]) == [[0, 1], [2, 3]]


def test_truncation_loses_the_energy_of_the_modes_left_out() -> None:
    signal = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = ring()
    for modes in (1, 3, 5, 7, 8):
        vectors = whole.lowest(modes=modes).vectors
        lost = (signal - vectors @ (vectors.T @ signal)).square().sum()
        dropped = (whole.vectors[:, modes:].T @ signal).square().sum()
        assert float(lost) == pytest.approx(float(dropped), rel=1e-12, abs=1e-12)


def springs(spectrum: Spectrum, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """First states in modes [n, m, 2, 3], times [n, 6], and exact later states of x'' = -L x [n, 6, m, 2, 3]."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(n, len(spectrum.values), 2, 3, generator=generator, dtype=torch.float64)
    times = torch.sort(3.0 * torch.rand(n, 6, generator=generator, dtype=torch.float64)).values
    w = spectrum.values.sqrt().view(-1, 1)
    t = times[..., None, None]
    cosine, sine = torch.cos(w * t), torch.where(w > 1e-9, torch.sin(w * t) / w.clamp(min=1e-9), t)
    x, v = start[:, None, :, 0], start[:, None, :, 1]
    return start, times, torch.stack([x * cosine + v * sine, v * cosine - x * w.square() * sine], dim=3)


def test_exact_solution_and_steps_agree() -> None:
    torch.manual_seed(0)
    ode = ModeOde(3, 2, 8, sees_state=False, sees_time=False).double()
    with torch.no_grad():
        for weight in ode.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, dtype=torch.float64))
    spectrum = ring()
    state = torch.randn(2, 8, 3, 3, dtype=torch.float64), torch.randn(2, 8, 2, dtype=torch.float64)
    times = torch.tensor([[0.5, 2.0], [1.0, 3.0]], dtype=torch.float64)
    found = ode(None, spectrum.values, spectrum.kernel(), *state, times)
    steps = ode(Dopri5(1e-9, 1e-9), spectrum.values, spectrum.kernel(), *state, times)
    assert torch.allclose(found[0], steps[0], atol=1e-6)
    assert torch.allclose(found[1], steps[1], atol=1e-6)
    with pytest.raises(RecipeError, match="depend on neither state nor time"):
        ModeOde(3, 2).double()(None, spectrum.values, spectrum.kernel(), *state, times)


def test_no_force_acts_on_the_translation() -> None:
    ode = ModeOde(2, 1, 8, sees_state=False, sees_time=False).double()
    with torch.no_grad():
        ode.slope.add_(0.3)
        matrix, _ = ode.weights(torch.tensor([0.0, 1.0], dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    assert float(matrix[0, 0, 1, 0]) == 0.0
    assert matrix[0, 0, 0].tolist() == [0.0, 1.0]


def test_any_weights_give_finite_solutions_and_gradients() -> None:
    torch.manual_seed(0)
    ode = ModeOde(4, 2, 8)
    with torch.no_grad():
        for weight in ode.parameters():
            weight.add_(2.0 * torch.randn(weight.shape))
    spectrum = ring()
    state = torch.randn(3, 8, 4, 3), torch.randn(3, 8, 2)
    times = torch.linspace(1.0, 12.0, 4).repeat(3, 1)
    found = ode(Dopri5(1e-3, 1e-3), spectrum.values, spectrum.kernel(), *state, times)
    sum(part.square().mean() for part in found).backward()
    assert max(float(part.detach().abs().max()) for part in found) < 1000.0
    assert all(float(weight.grad.abs().max()) < 1e6 for weight in ode.parameters())


def test_motion_of_usual_size_is_not_damped() -> None:
    kernel, state = ring().kernel(), torch.randn(5, 8, 12, dtype=torch.float64)
    assert float(damping(3.0 * state, kernel).abs().max()) == 0.0
    assert float(damping(300.0 * state, kernel).min()) > 0.0


@pytest.mark.slow
def test_springs_are_recovered_on_the_ring_and_on_a_graph_never_seen() -> None:
    torch.manual_seed(0)
    ode = ModeOde(2, 1, 16, stiffness=0.5, sees_state=False, sees_time=False).double()
    plain, bent = [ode.constant, ode.slope], [*ode.hidden.parameters(), *ode.last.parameters()]
    optimizer = torch.optim.Adam([{"params": plain, "lr": 0.03}, {"params": bent, "lr": 0.001}])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 500)
    train = ring()
    other = Spectrum.of(laplacian(11, OTHER, hops=1))
    assert float(other.values[-1]) <= float(train.values[-1])
    began = time.process_time()

    def error(spectrum: Spectrum, n: int, seed: int) -> Tensor:
        start, times, truth = springs(spectrum, n, seed)
        still = torch.zeros(n, len(spectrum.values), 1, dtype=torch.float64)
        found, _ = ode(None, spectrum.values, spectrum.kernel(), start, still, times)
        return (found[..., 0, :] - truth[..., 0, :]).square().mean()

    for step in range(500):
        loss = error(train, 8, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        assert float(error(train, 100, 10_000)) < 1e-4
        assert float(error(other, 100, 10_001)) < 1e-4
    assert time.process_time() - began < 60.0
