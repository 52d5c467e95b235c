"""Histograms: bins, soft targets, gradients of the loss, and mixtures."""

from __future__ import annotations

import math

import pytest
import torch

from mlff_calc.errors import OptionError
from mlff_calc.nn.histogram import (
    LAYOUTS,
    centres_of,
    cross_entropies,
    edges_of,
    expectation,
    guards_of,
    outside,
    soft_targets,
    uniform_edges,
)
from mlff_calc.nn.mixture import Mixture, best_temperature

BINS = 64
UNIT = torch.arange(BINS + 1, dtype=torch.float64)
"""Edges of bins of width 1."""
INSIDE = torch.linspace(20.0, 22.0, 401, dtype=torch.float64)
"""Labels in the middle of the bins."""


def bias(ratio: float) -> float:
    """Largest error of the expectation of soft targets in the middle, in widths."""
    return float((soft_targets(INSIDE, UNIT, ratio) @ centres_of(UNIT) - INSIDE).abs().max())


@pytest.mark.parametrize(
    ("ratio", "least", "most"),
    [(0.1, 0.28, 0.30), (0.25, 0.091, 0.095), (0.5, 2.2e-3, 2.4e-3), (0.75, 3e-6, 6e-6), (1.0, 0.0, 1e-8), (2.0, 0.0, 1e-9)],
)
def test_biases_are_those_of_the_table(ratio: float, least: float, most: float) -> None:
    """Largest biases in the interior; at a ratio of 1 the theory has 2 exp(-2 pi^2) / (2 pi) = 8.5e-10."""
    assert least <= bias(ratio) <= most


def test_the_mean_error_of_the_nearest_bin_is_a_quarter_of_a_width() -> None:
    nearest = centres_of(UNIT)[INSIDE.floor().long().clamp(max=BINS - 1)]
    assert float((nearest - INSIDE).abs().mean()) == pytest.approx(0.25, rel=0.02)


@pytest.mark.parametrize(("k", "least", "most"), [(0, 0.80, 0.925), (1, 0.29, 0.335), (2, 0.055, 0.065), (3, 0.004, 0.0055)])
@pytest.mark.parametrize("ratio", [0.75, 2.0])
def test_targets_near_the_last_edge_are_pulled_in(ratio: float, k: int, least: float, most: float) -> None:
    label = UNIT[-1:] - k * ratio
    pulled = float(label - soft_targets(label, UNIT, ratio) @ centres_of(UNIT)) / ratio
    assert least <= pulled <= most


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ratio", [0.75, 1.5])
def test_expectations_are_the_labels_in_every_layout(layout: str, ratio: float) -> None:
    """Heavy tails, so that bins of equal mass differ by factors of thousands; all labels of the training are inside."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(4, 2000, generator=generator, dtype=torch.float64)
    labels = normal[0] / (normal[1:].square().mean(dim=0)).sqrt()
    edges = edges_of(layout, labels, BINS, guards_of(ratio))
    assert len(edges) == BINS + 1
    assert bool((edges.diff() > 0.0).all())
    found = soft_targets(labels, edges, ratio, centred=True)
    widths = edges.diff()[torch.searchsorted(edges, labels, right=True) - 1]
    assert float(((found @ centres_of(edges) - labels) / widths).abs().max()) < 1e-5
    assert torch.allclose(found.sum(dim=1), torch.ones(len(labels), dtype=torch.float64))
    assert bool((found >= 0.0).all())


def test_centres_are_not_one_bin_too_low() -> None:
    """With centres lower + (lower - upper) / 2, the expectation would be a whole width below the label."""
    edges = uniform_edges(-1.0, 3.0, 40, 3)
    label = torch.tensor([0.7], dtype=torch.float64)
    found = float(soft_targets(label, edges, 0.75) @ centres_of(edges))
    assert abs(found - 0.7) < 1e-5 * float(edges[1] - edges[0])


@pytest.mark.parametrize("label", [-0.1, 64.1, math.nan])
def test_labels_outside_are_refused(label: float) -> None:
    labels = torch.tensor([3.0, label], dtype=torch.float64)
    assert outside(labels, UNIT).tolist() == [False, True]
    with pytest.raises(OptionError, match="1 of 2 labels lie outside of the bins from 0 to 64"):
        soft_targets(labels, UNIT)


def test_equal_labels_do_not_make_empty_bins() -> None:
    labels = torch.tensor([0.0] * 90 + [1.0] * 10, dtype=torch.float64)
    for layout in LAYOUTS:
        assert bool((edges_of(layout, labels, 32, 3).diff() > 0.0).all())


def test_gradients_of_the_cross_entropy_are_bounded() -> None:
    """Sharp and wrong by 60 bins, 5 bins or not at all: never more than the root of 2, and nearly that when wrong."""
    target = soft_targets(torch.tensor([2.5] * 3, dtype=torch.float64), UNIT, 0.1)
    logits = torch.zeros(3, 1, BINS, dtype=torch.float64)
    for row, peak in enumerate((62, 7, 2)):
        logits[row, 0, peak] = 60.0
    logits.requires_grad_()
    cross_entropies(logits, target.unsqueeze(1)).sum().backward()
    assert logits.grad is not None
    norms = logits.grad.flatten(1).norm(dim=1)
    assert bool((norms <= math.sqrt(2.0) + 1e-9).all())
    assert norms[:2].tolist() == pytest.approx([math.sqrt(2.0)] * 2, rel=1e-6)


def test_the_term_on_expectations_is_blind_to_a_sharp_wrong_distribution() -> None:
    norms = []
    for height in (2.0, 10.0, 40.0):
        logits = torch.zeros(1, 1, BINS, dtype=torch.float64)
        logits[0, 0, 50] = height
        logits.requires_grad_()
        mean = expectation(logits, centres_of(UNIT).unsqueeze(0), torch.ones(1, 1))
        (mean - 2.5).abs().sum().backward()
        assert logits.grad is not None
        norms.append(float(logits.grad.norm()))
    assert norms[2] < 1e-12 < norms[1] < norms[0]


def some(n: int = 5, heads: int = 3) -> Mixture:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randn(500, generator=generator, dtype=torch.float64)
    edges = torch.stack([edges_of(layout, labels, 24, 3) for layout in LAYOUTS[:heads]])
    logits = 2.0 * torch.randn(n, heads, 24, generator=generator)
    return Mixture.of_logits(logits, torch.full((n, heads), 1.0 / heads), edges)


def test_mixtures_are_distributions() -> None:
    found = some()
    assert torch.allclose(found.masses.sum(dim=1), torch.ones(5, dtype=torch.float64))
    assert torch.allclose(found.mean, (found.masses * centres_of(found.grid)).sum(dim=1))
    levels = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
    quantiles = found.quantiles(levels)
    points = torch.linspace(float(found.grid[0]), float(found.grid[-1]), 40001, dtype=torch.float64)[:-1]
    density = torch.stack([found.log_density(p.expand(5)) for p in points[::40]]).exp()
    step = 40 * float(points[1] - points[0])
    assert torch.allclose(density.sum(dim=0) * step, torch.ones(5, dtype=torch.float64), atol=0.03)
    for column, level in enumerate(levels):
        below = (points[::40, None] <= quantiles[:, column]).double()
        assert torch.allclose((below * density).sum(dim=0) * step, level.expand(5), atol=0.03)


def test_entropy_and_disagreement() -> None:
    found = some()
    points = centres_of(found.grid)
    density = found.masses / found.grid.diff()
    assert torch.allclose(found.entropy, -(density * density.log() * found.grid.diff()).sum(dim=1))
    assert bool((found.disagreement > 0.0).all())
    one = some(heads=1)
    assert torch.allclose(one.disagreement, torch.zeros(5, dtype=torch.float64), atol=1e-9)
    assert len(points) == found.masses.shape[1]


def test_the_entropy_of_a_uniform_distribution_is_the_logarithm_of_its_length() -> None:
    edges = uniform_edges(0.0, 10.0, 16, 3).unsqueeze(0)
    flat = Mixture.of_logits(torch.zeros(1, 1, 16), torch.ones(1, 1), edges)
    assert float(flat.entropy) == pytest.approx(math.log(float(edges[0, -1] - edges[0, 0])))
    assert float(flat.variance) == pytest.approx(float(edges[0, -1] - edges[0, 0]) ** 2 / 12.0 * (1.0 - 1.0 / 16.0**2))


def test_one_temperature_undoes_too_sharp_logits() -> None:
    """Labels are drawn from a distribution; logits three times as large need the temperature 3."""
    generator = torch.Generator().manual_seed(0)
    edges = uniform_edges(0.0, 1.0, 12, 3)
    logits = torch.randn(1, 1, 12, generator=generator)
    drawn = torch.multinomial(torch.softmax(logits[0, 0], 0), 4000, replacement=True, generator=generator)
    labels = centres_of(edges)[drawn]
    sharp = 3.0 * logits.expand(4000, 1, 12)

    def loss(temperature: float) -> float:
        mixture = Mixture.of_logits(sharp, torch.ones(4000, 1), edges.unsqueeze(0), temperature)
        return -float(mixture.log_density(labels).mean())

    assert best_temperature(loss) == pytest.approx(3.0, rel=0.1)
