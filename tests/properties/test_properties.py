"""Property networks: size, calibration, files, and structures that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

import mlff_calc
from mlff_calc.errors import DatasetError, PotentialFileError, RecipeError, StructureError, UnknownElementError
from mlff_calc.graph import collate, graph_from_atoms
from mlff_calc.heads import Features, build_head
from mlff_calc.heads.properties import DistributionHead
from mlff_calc.nn.mixture import Mixture
from mlff_calc.potential import load_potential
from mlff_calc.properties import Predictive, PropertyNetwork, build_property, load_property, standard_of
from mlff_calc.properties.predictive import LEVELS, conformal_widening
from mlff_calc.properties.standard import size_note

HEADS: list[dict[str, Any]] = [{"name": "scalar"}, {"name": "distribution", "bins": 20, "gate": True}]


def network(head: dict[str, Any] | str = "scalar", **changes: Any) -> PropertyNetwork:
    own = {"name": head} if isinstance(head, str) else head
    backbone = {"name": "hegnn", "cutoff": 3.0, "channels": 4, "l_max": 1, "n_layers": 1}
    return build_property({"backbone": backbone, "head": own, "elements": [1, 8], **changes}, seed=0).eval()


def value(net: PropertyNetwork, *structures: Atoms) -> torch.Tensor:
    graph = collate([graph_from_atoms(one, net.cutoff) for one in structures])
    return net(graph)["property"].detach()


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head["name"])
def test_totals_grow_with_the_structure_and_others_do_not(head: dict[str, Any]) -> None:
    """Two equal molecules far apart have twice the total, and the same mean, as one of them."""
    one = molecule("H2O")
    two = one.copy()
    two.positions += 50.0
    for pooling, factor in (("mean", 1.0), ("sum", 2.0), ("references", 2.0)):
        net = network(head, pooling=pooling, references={"1": -3.0, "8": 10.0}, mean=0.4 * (pooling == "mean"), scale=2.0)
        assert float(value(net, one + two)) == pytest.approx(factor * float(value(net, one)), rel=1e-5)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head["name"])
def test_the_property_is_that_of_the_turned_structure_and_of_a_batch(head: dict[str, Any]) -> None:
    net, one, other = network(head).to_precision("float64"), molecule("H2O"), molecule("H2O2")
    turned = one.copy()
    turned.rotate(40.0, "xyz")
    alone = torch.cat([value(net, one), value(net, other)])
    assert torch.allclose(value(net, one, other), alone, atol=1e-10)
    assert torch.allclose(value(net, turned), alone[:1], atol=1e-8)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head["name"])
def test_a_file_keeps_predictions_and_calibration(tmp_path: Path, head: dict[str, Any]) -> None:
    net = network(head, name="gap", unit="eV")
    if isinstance(net.head, DistributionHead):
        net.head.measure(torch.linspace(-2.0, 2.0, 50))
    net.temperature.fill_(1.7)
    net.deviation.fill_(0.3)
    net.widening.copy_(torch.tensor([0.1, 0.2, 0.3]))
    net.calibrated.fill_(12)
    net.save(tmp_path / "net", card="", recipe="")
    again = load_property(tmp_path / "net")
    one, other = net.predict(molecule("H2O")), again.predict(molecule("H2O"))
    assert one == other
    assert (other.name, other.unit, int(again.calibrated)) == ("gap", "eV", 12)
    assert list(other.quantiles) == sorted(other.quantiles) == [0.025, 0.05, 0.25, 0.5, 0.75, 0.95, 0.975]
    assert list(other.quantiles.values()) == sorted(other.quantiles.values())
    low, high = other.interval(0.9)
    assert (low, high) == (other.quantiles[0.05], other.quantiles[0.95])
    assert again.predict_many([molecule("H2O2"), molecule("H2O")])[1].mean == pytest.approx(other.mean, rel=1e-4)
    assert mlff_calc.load_property is load_property
    with pytest.raises(PotentialFileError, match="load_property"):
        load_potential(tmp_path / "net")


def test_structures_that_the_network_does_not_know_are_refused() -> None:
    net = network()
    with pytest.raises(UnknownElementError, match="unknown element C"):
        net.predict(molecule("CH4"))
    charged = molecule("H2O")
    charged.info["charge"] = 1
    with pytest.raises(StructureError, match="structure 1 has a total charge of 1 e, and the network was trained on 0 e"):
        net.predict_many([molecule("H2O"), charged])
    heavy = molecule("H2O")
    heavy.set_masses([15.999, 2.014, 1.008])
    with pytest.raises(StructureError, match=r"atom 1 \(H\) has the mass 2.014 amu of an isotope"):
        net.predict(heavy)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head": {"name": "energy"}}, "head 'energy' gives no property; take distribution or scalar"),
        ({"pooling": "maximum"}, "pooling of a property is 'maximum'"),
        ({"scale": 0.0}, "scale of a property is 0"),
        ({"elements": [0]}, "elements holds 0"),
        ({"head": {"name": "distribution", "bins": 13}}, "bins of head 'distribution' are 13; give 14 to 4096, of which 6"),
        ({"head": {"name": "distribution", "width": 0.1}}, "width of head 'distribution' is 0.1"),
        ({"head": {"name": "distribution", "layouts": ["normal", "normal"]}}, "give some of uniform, quantile, normal"),
        ({"colour": 1}, "unknown option 'colour'"),
    ],
)
def test_configurations_that_cannot_be_built(changes: dict[str, Any], words: str) -> None:
    config = {"backbone": {"name": "hegnn"}, "head": {"name": "scalar"}, "elements": [1], **changes}
    with pytest.raises(RecipeError, match=words):
        build_property(config)


NUMBERS = [np.array([1] * n + [8] * (n // 2)) for n in range(2, 12)]
SIZES = np.array([float(len(one)) for one in NUMBERS])


def test_standard_units() -> None:
    labels = np.array([5.0 * (own == 8).sum() - 1.0 * (own == 1).sum() for own in NUMBERS])
    noise = np.random.default_rng(0).normal(size=len(labels))
    found = standard_of(labels + 0.1 * noise * SIZES, NUMBERS, [1, 8], "references", "here")
    assert found["references"]["1"] == pytest.approx(-1.0, abs=0.5)
    assert found["scale"] == pytest.approx(0.1, rel=0.6)
    assert standard_of(noise, NUMBERS, [1, 8], "mean", "here")["mean"] == pytest.approx(noise.mean())
    with pytest.raises(DatasetError, match="all 10 labels of here are 3; there is nothing to learn"):
        standard_of(np.full(10, 3.0), NUMBERS, [1, 8], "mean", "here")
    with pytest.raises(DatasetError, match="sums over atoms explain all 10 labels of here exactly"):
        standard_of(labels, NUMBERS, [1, 8], "references", "here")


def test_labels_of_another_size_are_named() -> None:
    noise = np.random.default_rng(0).normal(size=len(SIZES))
    totals = -10.0 * SIZES + 0.01 * noise
    assert "they look like totals; set property.pooling to references" in size_note(totals, NUMBERS, [1, 8], "mean")
    assert "they look like values per atom" in size_note(5.0 + 0.01 * noise, NUMBERS, [1, 8], "sum")
    assert size_note(totals, NUMBERS, [1, 8], "references") == size_note(noise, NUMBERS, [1, 8], "mean") == ""


def test_bins_wider_than_the_labels_are_named() -> None:
    head = build_head({"name": "distribution", "bins": 40}, features=Features(1, 4, species=[1]))
    assert isinstance(head, DistributionHead)
    labels = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    head.measure(labels)
    assert head.outside(torch.tensor([0.0, 100.0, float("nan")])).tolist() == [False, True, True]
    labels[0] = 1000.0
    with pytest.raises(DatasetError, match=r"the uniform bins of head 'distribution' are .* raise bins"):
        head.measure(labels)


def test_a_new_distribution_is_that_of_the_training_labels() -> None:
    net = network({"name": "distribution", "bins": 40})
    assert isinstance(net.head, DistributionHead)
    labels = torch.randn(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net.head.measure(labels)
    with torch.no_grad():
        net.head.last.weight.zero_()
    found = net.predict(molecule("H2O"))
    assert found.mean == pytest.approx(float(labels.mean()), abs=0.02)
    assert found.std == pytest.approx(float(labels.std()), rel=0.1)
    assert found.interval(0.9)[1] == pytest.approx(1.645, abs=0.15)


def test_extensivity_of_distributions_and_the_end_of_their_bins() -> None:
    """The mean of a histogram cannot leave its bins, so that forces vanish at their end."""
    net = network("distribution")
    assert isinstance(net.head, DistributionHead)
    net.head.measure(torch.linspace(-1.0, 1.0, 100))
    with torch.no_grad():
        net.head.last.bias[net.head.bins - 1 :: net.head.bins] = 1000.0
    edges = net.head.edges
    assert float(value(net, molecule("H2O"))) == pytest.approx(float((0.5 * (edges[:, -1] + edges[:, -2])).mean()))


def gaussian(n: int, deviation: float, seed: int = 0) -> tuple[Predictive, torch.Tensor]:
    """Predictions of 0 with a deviation, and normal labels of deviation 1."""
    labels = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    zero = torch.zeros(n, dtype=torch.float64)
    return Predictive(zero, zero, zero + 1.0, deviation, None, torch.zeros(3, dtype=torch.float64)), labels


@pytest.mark.parametrize("deviation", [0.3, 1.0, 3.0])
def test_conformal_intervals_cover_new_labels(deviation: float) -> None:
    """Whatever the predicted deviation, 2000 validation labels make intervals right for others."""
    found, labels = gaussian(2000, deviation)
    widening = conformal_widening(found, labels)
    new, others = gaussian(4000, deviation, seed=1)
    ends = Predictive(new.centre, new.base, new.spread, deviation, None, widening).intervals()
    covered = ((others[:, None] >= ends[..., 0]) & (others[:, None] <= ends[..., 1])).double().mean(dim=0)
    assert covered.tolist() == pytest.approx(LEVELS, abs=0.025)


def test_few_validation_labels_take_the_largest_error() -> None:
    found, labels = gaussian(5, 1.0)
    ends = found.raw_quantiles(torch.tensor([0.025, 0.975], dtype=torch.float64))
    worst = torch.maximum(ends[:, 0] - labels, labels - ends[:, 1]).max()
    assert float(conformal_widening(found, labels)[2]) == float(worst)


def test_two_branches_have_a_better_likelihood_as_a_mixture_than_as_a_normal_distribution() -> None:
    """Labels at -1 and 1 (deviation 0.1): the best normal distribution is worse by more than 0.3 nats."""
    generator = torch.Generator().manual_seed(0)
    labels = 0.1 * torch.randn(2000, generator=generator, dtype=torch.float64)
    labels += 1.0 - 2.0 * (torch.rand(2000, generator=generator) < 0.5).double()
    head = build_head({"name": "distribution", "bins": 40}, features=Features(1, 4, species=[1]))
    assert isinstance(head, DistributionHead)
    head.measure(labels)
    best = head.targets(labels).mean(dim=0)  # what the cross entropy converges to without any input
    mixture = Mixture(best.expand(2000, -1, -1), torch.full((2000, 3), 1.0 / 3.0, dtype=torch.float64), head.edges)
    normal = torch.distributions.Normal(labels.mean(), labels.std())
    assert float(mixture.log_density(labels).mean()) > float(normal.log_prob(labels).mean()) + 0.3
