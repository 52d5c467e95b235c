"""The network of a functional: symmetry, locality, batches, its start, its file, and wrong configurations."""

from __future__ import annotations

import pytest
import torch

from mlff_calc.electronic.functional import DensityGrid, build_functional, load_functional
from mlff_calc.electronic.functional.bases import energy_per_electron, local
from mlff_calc.electronic.functional.build import resolve_functional
from mlff_calc.electronic.functional.near import Near
from mlff_calc.errors import MLFFError, OptionError, PotentialFileError, RecipeError

from .densities import functional, gaussians, on_points

WATER = torch.tensor([[0.0, 0.0, 0.2], [0.1, 1.4, -0.9], [0.0, -1.5, -0.9], [1.9, 0.3, 0.8]], dtype=torch.float64)
MODES = {"all": {}, "semilocal": {"reweight": "local", "readout": False}, "readout": {"reweight": "none"}}


@pytest.mark.parametrize("base", ["lda", "pbe", "r2scan"])
def test_a_new_functional_is_its_base(base):
    network, grid = build_functional({"base": base, "basis": "sto-3g", "elements": [8, 1]}, seed=3), gaussians(WATER)
    points = local(grid.density, with_tau=base == "r2scan")
    expected = (grid.weights * points.density * energy_per_electron(base, points)).sum()
    torch.testing.assert_close(network(grid, WATER).item(), expected.item(), rtol=0.0, atol=1e-13)
    assert network.elements == (1, 8)
    assert abs((functional(base=base)(grid, WATER) - expected).item()) > 1e-4


@pytest.mark.parametrize("l_max", [0, 1, 3])
def test_rotations_mirrors_and_orders_of_atoms_and_points_change_nothing(l_max):
    network, grid = functional(base="r2scan", l_max=l_max), gaussians(WATER)
    expected = network(grid, WATER)
    generator = torch.Generator().manual_seed(5)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    for matrix in (turn, -turn):
        rows = torch.cat([grid.density[:1], matrix @ grid.density[1:4], grid.density[4:]])
        turned = network(DensityGrid(grid.positions @ matrix.t(), grid.weights, rows), WATER @ matrix.t())
        torch.testing.assert_close(turned, expected, rtol=0.0, atol=1e-9)
    order, atoms = torch.randperm(len(grid), generator=generator), torch.tensor([2, 0, 3, 1])
    mixed = DensityGrid(grid.positions[order], grid.weights[order], grid.density[:, order])
    torch.testing.assert_close(network(mixed, WATER[atoms]), expected, rtol=0.0, atol=1e-9)


def test_parts_farther_apart_than_two_cutoffs_add():
    network = functional(cutoff=4.0, layers=2)
    other = WATER[:3] + torch.tensor([8.01 + 3.4, 0.0, 0.0])
    one, two = gaussians(WATER), gaussians(other, seed=1)
    positions, weights = torch.cat([one.positions, two.positions]), torch.cat([one.weights, two.weights])
    whole = network(on_points(positions, weights, torch.cat([WATER, other])), torch.cat([WATER, other]))
    parts = network(on_points(positions, weights, WATER), WATER) + network(on_points(positions, weights, other), other)
    near = positions[:, 0] < 6.0  # each part's density is zero to 1e-13 at the other's points
    apart = network(on_points(positions[near], weights[near], WATER), WATER) + network(
        on_points(positions[~near], weights[~near], other), other
    )
    torch.testing.assert_close(whole, apart, rtol=0.0, atol=1e-8)
    torch.testing.assert_close(parts, apart, rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_is_its_systems_one_by_one(mode):
    network = functional(**MODES[mode])
    places = [WATER, WATER[:1], WATER[1:] * 1.2]
    grids = [gaussians(one, n_points=20 + 7 * k, seed=k) for k, one in enumerate(places)]
    system = torch.repeat_interleave(torch.arange(3), torch.tensor([len(one) for one in places]))
    together, centres = DensityGrid.join(grids), torch.cat(places)
    expected = torch.cat([network(grid, one) for grid, one in zip(grids, places, strict=True)])
    assert together.n_systems == 3
    torch.testing.assert_close(network(together, centres, system), expected, rtol=0.0, atol=1e-12)
    alone = [network.near(grid, one) for grid, one in zip(grids, places, strict=True)]
    if network.is_local:
        assert alone == [None] * 3
        return
    near = Near.join([one for one in alone if one is not None], [len(grid) for grid in grids])
    share = network.shares(near, len(together))
    again = network(together, centres, system, near=near, share=share)
    torch.testing.assert_close(again, expected, rtol=0.0, atol=1e-12)
    covered = torch.zeros(len(together), dtype=torch.float64).index_add(0, near.points.flatten(), share.flatten())
    assert bool(((covered - 1.0).abs() < 1e-12).logical_or(covered == 0.0).all())


def test_energies_are_smooth_where_points_leave_the_cutoff_and_at_nuclei():
    network, grid = functional(cutoff=3.0), gaussians(WATER)
    for start in ([3.0, 0.0, 0.2], [0.0, 0.0, 0.2]):  # on the cutoff of the first atom, and on the atom

        def energy(shift: float, start: list[float] = start) -> torch.Tensor:
            place = torch.tensor([start], dtype=torch.float64) + torch.tensor([[shift, 0.0, 0.0]])
            extra = on_points(place, torch.ones(1, dtype=torch.float64), WATER)
            positions = torch.cat([grid.positions, place])
            weights = torch.cat([grid.weights, extra.weights])
            return network(on_points(positions, weights, WATER), WATER)

        step = 1e-4
        left, middle, right = energy(-step), energy(0.0), energy(step)
        assert abs((right - 2 * middle + left).item()) < 1e3 * step**2
        assert bool(torch.isfinite(middle).all())


def test_every_weight_has_a_gradient_and_none_is_nan():
    network, grid = functional(layers=1), gaussians(WATER[:3])
    network(grid, WATER[:3]).sum().backward()
    named = [(name, one) for name, one in network.named_parameters() if one.requires_grad]
    silent = [name for name, one in named if one.grad is None or not one.grad.any()]
    assert all("backbone" in name for name in silent), silent
    assert all(bool(torch.isfinite(one.grad).all()) for one in network.parameters() if one.grad is not None)
    alone = functional()
    centre = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    atom = gaussians(torch.zeros(1, 3, dtype=torch.float64))
    (slope,) = torch.autograd.grad(alone(atom, centre).sum(), centre)  # an atom at points with all symmetries of none
    assert bool(torch.isfinite(slope).all())


def test_files_keep_every_bit_and_damage_is_noticed(tmp_path):
    network = functional(constants={"8": -0.25, 1: 0.5}, level="CCSD(T)/6-31G*")
    folder = network.save(tmp_path / "one", card="# one", recipe="")
    loaded, grid = load_functional(folder), gaussians(WATER)
    assert torch.equal(loaded(grid, WATER), network(grid, WATER))
    assert loaded.sha256 == network.sha256
    assert (loaded.config["level"], loaded.precision) == ("CCSD(T)/6-31G*", "float64")
    assert loaded.constant([8, 1, 1]) == pytest.approx(0.75)
    assert torch.equal(network.to_precision("float64")(grid, WATER), network(grid, WATER))
    with pytest.raises(OptionError, match="unknown precision"):
        network.to_precision("float32")
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(PotentialFileError):
        load_functional(folder)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"base": "b3lyp"}, "base of a functional is 'b3lyp'"),
        ({"elements": []}, "elements"),
        ({"elements": [0]}, "elements"),
        ({"basis": " "}, "basis"),
        ({"cutoff": 0.0}, "cutoff"),
        ({"filters": 0}, "filters"),
        ({"grid_level": 10}, "grid_level"),
        ({"reweight": "global"}, "reweight"),
        ({"constants": {"8": "x"}}, "constants"),
        ({"constants": {"8": float("nan")}}, "constant"),
        ({"filter": 3}, "filter"),
    ],
)
def test_wrong_configurations_are_refused(change, error):
    with pytest.raises(RecipeError, match=error):
        resolve_functional({"basis": "sto-3g", "elements": [1, 8]} | change)


def test_densities_that_do_not_fit_are_refused():
    grid = gaussians(WATER)
    with pytest.raises(OptionError, match="needs tau"):
        functional(base="r2scan")(DensityGrid(grid.positions, grid.weights, grid.density[:4]), WATER)
    with pytest.raises(MLFFError, match="does not fit"):
        DensityGrid(grid.positions[1:], grid.weights, grid.density)


def test_points_at_the_very_cutoff_of_a_nucleus_have_shares_of_at_most_one():
    """The envelope is the rounding error of 1 - 1 there, of either sign."""
    network = functional()
    ends = network.cutoff * (1.0 - torch.logspace(-7, -4, 2000, dtype=torch.float64))
    points, centres = torch.stack([ends * 0.0, ends * 0.0, ends], dim=1), torch.zeros(1, 3, dtype=torch.float64)
    assert float(network.functions.envelope(ends).min()) < 0.0
    grid = on_points(points, torch.ones_like(ends), centres)
    share = network.shares(network.near(grid, centres), len(grid))
    assert 0.0 <= float(share.detach().min()) <= float(share.detach().max()) <= 1.0
    assert torch.isfinite(network(grid, centres)).all()
