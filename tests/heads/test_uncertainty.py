"""Heads of errors: energies and forces are untouched, errors of copies add up, and distributions are distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from mlff_calc.errors import RecipeError
from mlff_calc.graph import collate, graph_from_atoms
from mlff_calc.potential import Potential, build_potential
from mlff_calc.training.potential.uncertainty import told_logits

CONFIG = {
    "backbone": {"name": "hegnn", "cutoff": 4.0, "l_max": 1, "channels": 8, "n_layers": 1},
    "elements": ["H", "C", "O", "Si"],
}


def potential_of(**options: object) -> Potential:
    found = build_potential(CONFIG | {"uncertainty": {}} | options, seed=0).to_precision("float64").eval()
    for head in found.error_heads:  # as after a training
        head.distance.measure(torch.randn(50, 8, generator=torch.Generator().manual_seed(1)), torch.arange(50) % 4)
    return found


@pytest.fixture(scope="module")
def potential() -> Potential:
    return potential_of()


def batch(potential: Potential, *structures: object) -> dict[str, torch.Tensor]:
    return collate([graph_from_atoms(atoms, potential.cutoff) for atoms in structures])


@pytest.mark.parametrize("backbone", [CONFIG["backbone"], {"name": "deq", "cutoff": 4.0, "l_max": 1, "channels": 8}])
@pytest.mark.parametrize("forces", ["gradient", "direct"])
def test_energies_and_forces_do_not_change_by_a_bit(backbone: dict, forces: str) -> None:
    config = CONFIG | {"backbone": backbone, "forces": forces}
    plain, other = build_potential(config, seed=0).eval(), build_potential(config | {"uncertainty": {}}, seed=0).eval()
    graph = batch(plain, molecule("CH3CH2OH"), molecule("H2O"))
    expected, found = plain(graph), other(graph)
    assert set(found) - set(expected) == {"energy_std", "forces_std"}
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert found["energy_std"].shape == (2,)
    assert found["forces_std"].shape == (12, 3)
    assert bool((found["energy_std"] > 0.0).all() and (found["forces_std"] > 0.0).all())


def test_a_structure_repeated_n_times_has_n_times_the_deviation(potential: Potential) -> None:
    """Size-extensivity: errors of copies are equal, not independent."""
    crystal = bulk("Si", cubic=True)
    crystal.rattle(0.1, seed=0)
    one, many = (potential(batch(potential, atoms)) for atoms in (crystal, crystal.repeat((2, 2, 1))))
    torch.testing.assert_close(many["energy_std"], 4.0 * one["energy_std"])
    torch.testing.assert_close(many["forces_std"], one["forces_std"].repeat(4, 1))
    twice = molecule("CH4")
    twice.extend(molecule("CH4"))
    twice.positions[5:] += 50.0
    alone, both = (potential(batch(potential, atoms))["energy_std"] for atoms in (molecule("CH4"), twice))
    torch.testing.assert_close(both, 2.0 * alone)


def test_deviations_turn_with_nothing(potential: Potential) -> None:
    atoms = molecule("CH3CH2OH")
    turned = atoms.copy()
    turned.rotate(70.0, (1.0, 2.0, 3.0))
    found, other = (potential(batch(potential, one)) for one in (atoms, turned))
    torch.testing.assert_close(other["energy_std"], found["energy_std"])
    torch.testing.assert_close(other["forces_std"], found["forces_std"])


def test_deviations_grow_with_the_distance_from_training_atoms() -> None:
    near, far = potential_of(), potential_of()
    for head in far.error_heads:
        head.distance.whitening.mul_(3.0)
    graph = batch(near, molecule("CH3CH2OH"))
    with told_logits(near.error_heads), told_logits(far.error_heads):
        one, other = near(graph), far(graph)
    for name, key in (("energy_std", "energy_error_far"), ("forces_std", "force_error_far")):
        squares = one[key].square() - 1.0
        ratio = ((1.0 + 9.0 * squares) / (1.0 + squares)).sqrt()
        expected = one[name] * (ratio if name == "energy_std" else ratio.unsqueeze(1))
        torch.testing.assert_close(other[name], expected)
    assert set(near(graph)) & {"energy_error_logits", "energy_error_far"} == set()


@pytest.mark.parametrize("detach", [True, False])
def test_the_loss_of_a_head_reaches_the_backbone_on_request_only(detach: bool) -> None:
    potential = potential_of(uncertainty={"detach": detach}).train()
    found = potential(batch(potential, molecule("CH4"), molecule("H2O")))
    (found["energy_error_logits"][..., 0].sum() + found["force_error_logits"][..., 0].sum()).backward()
    reached = any(p.grad is not None and bool(p.grad.any()) for p in potential.backbone.parameters())
    assert reached is not detach
    assert all(bool(p.grad.any()) for head in potential.error_heads for p in head.parameters())


def test_densities_are_of_errors(potential: Potential) -> None:
    """They integrate to one, and belong to the probabilities of smaller errors."""
    head = potential.error_heads[1]
    logits = torch.randn(1, 1, 48, generator=torch.Generator().manual_seed(0)).double()
    stretch = torch.tensor(1.7, dtype=torch.float64)
    errors = torch.logspace(-8.0, 3.0, 20001, dtype=torch.float64)
    many = logits.expand(len(errors), -1, -1)
    density = head.log_density(many, errors, stretch).exp()
    below = head.distribution(many).below(head.standard(errors, stretch))
    inside = (below > 0.001) & (below < 0.999)
    integral = torch.cumulative_trapezoid(density[inside], errors[inside])
    torch.testing.assert_close(integral, (below[inside] - below[inside][0])[1:], atol=2e-3, rtol=0.0)


def test_untrained_deviations_are_of_the_size_of_the_scale() -> None:
    plain = build_potential(CONFIG | {"uncertainty": {}, "scale": 2.0}, seed=0).eval()
    spread = plain(batch(plain, molecule("CH3CH2OH")))["forces_std"].norm(dim=1)
    assert np.all((spread.numpy() > 0.02) & (spread.numpy() < 2.0))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"bins": 6}, "bins of head 'energy_error' are 6"), ({"width": 9.0}, "width of head"), ({"bin": 9}, "bin")],
)
def test_options_out_of_range(options: dict, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build_potential(CONFIG | {"uncertainty": options}, seed=0)


def test_uncertainty_is_a_dict() -> None:
    with pytest.raises(RecipeError, match="uncertainty is True in a potential's configuration"):
        build_potential(CONFIG | {"uncertainty": True}, seed=0)


@pytest.mark.parametrize(("one", "other"), [("energy_error", "force_error"), ("force_error", "energy_error")])
def test_one_of_the_two_heads_alone_is_refused(one: str, other: str) -> None:
    with pytest.raises(RecipeError, match=f"hold '{one}' without '{other}'; give both"):
        build_potential(CONFIG | {"heads": [{"name": "energy"}, {"name": one}]}, seed=0)
