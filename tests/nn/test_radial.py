"""Envelope and Bessel basis at and around the cutoff."""

from __future__ import annotations

import torch

from mlff_calc.nn.radial import BesselBasis, PolynomialEnvelope


def test_envelope_is_smooth_at_the_cutoff() -> None:
    envelope = PolynomialEnvelope(5.0, 5)
    r = torch.tensor([1e-9, 5.0, 6.0, 100.0], dtype=torch.float64, requires_grad=True)
    value = envelope(r)
    torch.testing.assert_close(value, torch.tensor([1.0, 0.0, 0.0, 0.0]).double(), rtol=0, atol=1e-12)
    inside = torch.tensor([5.0 - 1e-9], dtype=torch.float64, requires_grad=True)
    first = torch.autograd.grad(envelope(inside).sum(), inside, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), inside)[0]
    assert abs(first.item()) < 1e-12
    assert abs(second.item()) < 1e-6


def test_envelope_decreases() -> None:
    value = PolynomialEnvelope(4.0, 6)(torch.linspace(0.0, 4.0, 100, dtype=torch.float64))
    assert (value.diff() <= 0).all()


def test_bessel_basis_is_orthonormal() -> None:
    r = torch.linspace(1e-6, 5.0, 20001, dtype=torch.float64)
    basis = BesselBasis(5.0, 6)(r) / 5.0**0.5 / 5.0**0.5
    overlap = torch.trapezoid((basis * r.unsqueeze(1)).unsqueeze(1) * (basis * r.unsqueeze(1)).unsqueeze(2), r, dim=0)
    torch.testing.assert_close(overlap, torch.eye(6).double(), rtol=0, atol=1e-6)
