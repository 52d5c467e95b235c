"""Learned functionals in PySCF: their start, potentials, gradients, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("pyscf")

from pyscf import dft, gto

from mlff_calc.electronic.functional import build_functional
from mlff_calc.electronic.functional.bases import BASES
from mlff_calc.electronic.scf.functional_engine import density_grid, nuclei, rks
from mlff_calc.electronic.scf.functional_gradient import functional_gradient
from mlff_calc.electronic.scf.grid_orbitals import Factors, GridOrbitals
from mlff_calc.electronic.scf.mean_field import no_file
from mlff_calc.electronic.scf.starts import Starter
from mlff_calc.errors import MLFFError, OptionError, SimulationError, StructureError, UnknownElementError

from ..functional.densities import functional

WATER = "O 0 0.02 0.12; H 0 0.76 -0.48; H 0.03 -0.79 -0.46"
MOLECULES = {
    "water": WATER,
    "methane": "C 0 0 0; H .63 .63 .63; H -.63 -.63 .63; H -.63 .63 -.63; H .63 -.63 -.63",
    "carbon dioxide": "C 0 0 0; O 0 0 1.16; O 0 0 -1.16",
}


def molecule(atoms: str = WATER, **options: Any) -> Any:
    return gto.M(**({"atom": atoms, "basis": "sto-3g", "verbose": 0} | options))


@pytest.fixture(autouse=True)
def no_files(monkeypatch):
    """Files that PySCF opens for every mean field are closed when the mean field is collected, with a warning."""
    from pyscf.scf import hf

    begin = hf.SCF.__init__

    def quiet(self: Any, mol: Any) -> None:
        begin(self, mol)
        no_file(self)

    monkeypatch.setattr(hf.SCF, "__init__", quiet)


def moved(mf: Any, atom: int, axis: int, step: float) -> Any:
    """The same mean field with a moved atom (Bohr), on the grid of the first."""
    places = mf.mol.atom_coords()
    places[atom, axis] += step
    other = rks(mf.functional, mf.mol.set_geom_(places, unit="Bohr", inplace=False))
    other.conv_tol, other.conv_tol_grad = mf.conv_tol, mf.conv_tol_grad
    other.grids.coords, other.grids.weights = mf.grids.coords, mf.grids.weights
    return other


def slope(values: Any, step: float) -> float:
    """Derivative by differences of fourth order."""
    return (8 * (values(step) - values(-step)) - (values(2 * step) - values(-2 * step))) / (12 * step)


@pytest.mark.parametrize("fit", [False, True])
@pytest.mark.parametrize("base", ["lda", "pbe", "r2scan"])
def test_a_new_functional_is_its_base_in_pyscf(base, fit):
    mol = molecule()
    mf = rks(build_functional({"base": base, "basis": "STO-3G", "grid_level": 0, "elements": [1, 8]}), mol)
    reference = dft.RKS(mol, xc=BASES[base])
    reference.grids.level, reference.grids.prune = 0, None
    if fit:
        mf, reference = mf.density_fit(), reference.density_fit()
    for one in (mf, reference):
        one.conv_tol = 1e-11
        one.kernel()
    assert mf.converged
    assert mf.e_tot == pytest.approx(reference.e_tot, abs=1e-10)
    for response in (False, True):
        gradients = [one.nuc_grad_method().set(grid_response=response, verbose=0) for one in (mf, reference)]
        np.testing.assert_allclose(gradients[0].kernel(), gradients[1].kernel(), atol=1e-9)
        assert gradients[0].grid_response is response
    np.testing.assert_allclose(mf.Gradients().kernel(), mf.nuc_grad_method().kernel(), atol=1e-12)


@pytest.mark.parametrize("base", ["lda", "pbe", "r2scan"])
def test_the_potential_is_the_derivative_by_the_density_matrix(base):
    mf = rks(functional(base=base, strength=0.3), molecule())
    mf.grids.build()
    density = np.asarray(mf.get_init_guess())
    random = np.random.default_rng(0)
    change = random.normal(size=density.shape) * 0.1
    change = change + change.T

    def energy(step: float) -> float:
        return float(mf._numint.nr_rks(mf.mol, mf.grids, mf.xc, density + step * change)[1])

    n, _, potential = mf._numint.nr_rks(mf.mol, mf.grids, mf.xc, density)
    assert n == pytest.approx(10.0, abs=0.2)
    expected = np.sum(potential * change)
    assert slope(energy, 1e-3) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(potential, potential.T, atol=1e-13)
    many = mf._numint.nr_rks(mf.mol, mf.grids, mf.xc, np.stack([density, density]))
    np.testing.assert_allclose(many[2][1], potential)


@pytest.mark.parametrize("name", MOLECULES)
def test_explicit_derivatives_by_nuclei_are_differences_on_a_fixed_grid(name):
    """With degenerate orbitals (methane) and atoms in a line (carbon dioxide)."""
    mf = rks(functional(base="r2scan"), molecule(MOLECULES[name]))
    mf.grids.build()
    density = np.asarray(mf.get_init_guess())
    found = functional_gradient(mf, density)
    for atom, axis in ((0, 2), (1, 0)):

        def energy(step: float, atom: int = atom, axis: int = axis) -> float:
            other = moved(mf, atom, axis, step)
            return float(other._numint.nr_rks(other.mol, other.grids, other.xc, density)[1])

        assert found[atom, axis] == pytest.approx(slope(energy, 3e-4), abs=1e-7)


@pytest.mark.parametrize("name", MOLECULES)
def test_gradients_are_differences_of_self_consistent_energies(name):
    atom, axis = (1, 2)
    mf = rks(functional(), molecule(MOLECULES[name]))
    mf.conv_tol, mf.conv_tol_grad = 1e-13, 1e-7
    mf.kernel()
    assert mf.converged
    found = mf.nuc_grad_method().kernel()
    start = mf.make_rdm1()
    assert np.isfinite(found).all()
    assert found[atom, axis] == pytest.approx(slope(lambda step: moved(mf, atom, axis, step).kernel(start), 1e-3), abs=1e-6)


def test_with_the_response_of_the_grid_gradients_are_slopes_and_sum_to_zero():
    mf = rks(functional(base="r2scan"), molecule())
    mf.conv_tol, mf.conv_tol_grad = 1e-13, 1e-7
    mf.kernel()
    gradients = mf.nuc_grad_method()
    fixed = gradients.kernel()
    gradients.grid_response = True
    found = gradients.kernel()
    assert abs(found.sum(axis=0)).max() < 1e-9
    assert abs(fixed.sum(axis=0)).max() > 1e-6

    def energy(step: float) -> float:
        other = moved(mf, 1, 1, step)
        other.grids.reset()
        return float(other.kernel(mf.make_rdm1()))

    assert found[1, 1] == pytest.approx(slope(energy, 1e-3), abs=1e-6)


def test_derivatives_by_weights_are_those_at_the_frozen_density():
    """Hellmann and Feynman: dE/dtheta of full SCFs is the explicit derivative, here along a direction of all weights."""
    network = functional(strength=0.1)
    mf = rks(network, molecule())
    mf.conv_tol, mf.conv_tol_grad = 1e-13, 1e-7
    mf.kernel()
    grid, density = density_grid(mf), mf.make_rdm1()
    energy = network(grid, nuclei(mf.mol))
    assert energy.item() == pytest.approx(mf.scf_summary["exc"], abs=1e-9)
    weights = [one for one in network.parameters() if one.requires_grad]
    slopes = torch.autograd.grad(energy.sum(), weights, allow_unused=True)
    generator = torch.Generator().manual_seed(2)
    directions = [torch.randn(one.shape, generator=generator, dtype=torch.float64) * 0.01 for one in weights]
    before = [one.detach().clone() for one in weights]
    expected = sum(float((s * d).sum()) for s, d in zip(slopes, directions, strict=True) if s is not None)

    def total(step: float) -> float:
        with torch.no_grad():
            for one, start, direction in zip(weights, before, directions, strict=True):
                one.copy_(start + step * direction)
        return float(mf.kernel(density))

    assert abs(expected) > 1e-3
    assert slope(total, 0.03) == pytest.approx(expected, rel=1e-6)


def test_pyscf_restarts_from_its_own_file_and_shifts_levels(tmp_path):
    mf = rks(functional(), molecule())
    mf.chkfile = str(tmp_path / "water.chk")
    first = mf.kernel()
    again = rks(mf.functional, mf.mol)
    again.chkfile, again.init_guess = mf.chkfile, "chkfile"
    again.max_cycle = 3
    assert again.kernel() == pytest.approx(first, abs=1e-8)
    assert again.converged
    shifted = rks(mf.functional, mf.mol).set(level_shift=0.3, max_cycle=100)
    assert shifted.kernel() == pytest.approx(first, abs=1e-7)
    other = molecule(WATER.replace("0.76", "0.80"))
    again.reset(other)
    again.max_cycle = 50
    assert again.kernel() == pytest.approx(rks(mf.functional, other).kernel(), abs=1e-7)


@pytest.mark.parametrize(("basis", "start"), [("3-21g", "atom"), ("sto-3g", "minao")])
def test_a_cold_start_is_of_atoms_in_basis_sets_of_pople(basis, start):
    mf = rks(functional(basis=basis, elements=[1]), molecule("H 0 0 0; H 0 0 0.74", basis=basis))
    assert mf.init_guess == start
    mf.kernel()
    assert mf.converged
    given = Starter("previous").density(mf)  # without an earlier density
    np.testing.assert_allclose(given, mf.init_guess_by_atom() if start == "atom" else mf.init_guess_by_minao())


def test_constants_of_elements_are_part_of_the_energy():
    plain = rks(functional(), molecule())
    fitted = rks(functional(constants={"8": -0.5, "1": 0.125}), molecule())
    assert fitted.kernel() == pytest.approx(plain.kernel() - 0.25, abs=1e-8)
    np.testing.assert_allclose(fitted.nuc_grad_method().kernel(), plain.nuc_grad_method().kernel(), atol=1e-6)


def test_densities_from_orbitals_and_from_matrices_are_equal_with_little_memory_too():
    mol = molecule()
    mf = rks(functional(base="r2scan"), mol)
    mf.max_cycle = 2
    mf.kernel()
    tagged = mf.make_rdm1()
    kept, other = GridOrbitals(mol, mf.grids.coords), GridOrbitals(mol, mf.grids.coords, memory=0.0)
    expected = kept.density(Factors.of(tagged), 5)
    torch.testing.assert_close(kept.density(Factors.of(np.array(tagged)), 5), expected)
    torch.testing.assert_close(other.density(Factors.of(tagged), 5), expected)
    ao = dft.numint.eval_ao(mol, mf.grids.coords, deriv=1)
    reference = dft.numint.eval_rho(mol, ao, np.array(tagged), xctype="MGGA", with_lapl=False)
    np.testing.assert_allclose(expected.numpy(), reference, atol=1e-12)
    difference = np.array(tagged) - 0.5 * np.diag(np.ones(len(tagged)))  # not a density: eigenvalues of both signs
    reference = dft.numint.eval_rho(mol, ao, difference, xctype="MGGA", with_lapl=False)
    np.testing.assert_allclose(kept.density(Factors.of(difference), 5).numpy(), reference, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "switch", "error"),
    [
        ({"charge": 2}, "allow_charge", OptionError),
        ({"atom": "N 0 0 0; N 0 0 1.1"}, "allow_other_elements", UnknownElementError),
        ({"basis": "3-21g"}, "allow_other_basis", OptionError),
        ({"basis": {"O": "sto-3g", "H": "3-21g"}}, "allow_other_basis", OptionError),
    ],
)
def test_other_molecules_than_trained_are_refused_unless_a_switch_allows_them(options, switch, error):
    network, mol = functional(), molecule(**options)
    with pytest.raises(error, match=f"set {switch}=True"):
        rks(network, mol)
    mf = rks(network, mol, **{switch: True})
    assert mf.mol is mol
    with pytest.raises(error, match=switch):  # a molecule that comes in later
        rks(network, molecule()).reset(mol).kernel()


def test_another_grid_or_functional_is_refused():
    mf = rks(functional(), molecule())
    mf.grids.level = 1
    with pytest.raises(OptionError, match="level 1, and the functional was trained with level 0"):
        mf.kernel()
    mf.grids.level, mf.grids.prune = 0, dft.gen_grid.nwchem_prune
    with pytest.raises(OptionError, match="pruned"):
        mf.kernel()
    other = rks(functional(), molecule(), allow_other_grid=True)
    other.grids.level, other.max_cycle = 1, 1
    other.kernel()
    assert len(other.grids.weights) > 5000
    mf.grids.prune, mf.xc = None, "b3lyp"
    with pytest.raises(OptionError, match="xc of the mean field"):
        mf.kernel()


def test_open_shells_are_refused():
    with pytest.raises(StructureError, match="unpaired"):
        rks(functional(), molecule("O 0 0 0; O 0 0 1.2", spin=2))
    mf = rks(functional(), molecule())
    mf.max_cycle = 1
    mf.kernel()
    with pytest.raises(OptionError, match="closed shells"):
        mf.to_uks().kernel()


@pytest.mark.parametrize(
    "use",
    [
        lambda mf: mf.TDA().kernel(),
        lambda mf: mf.newton().kernel(),
        lambda mf: mf.to_gpu(),
        lambda mf: mf.density_fit().to_gpu(),
        lambda mf: mf.to_gks(),
        lambda mf: mf._numint.eval_xc("pbe", np.ones(3)),
        lambda mf: mf.Hessian().kernel(),
    ],
)
def test_what_would_silently_be_the_base_functional_is_an_error(use):
    mf = rks(functional(), molecule())
    mf.max_cycle = 1
    mf.kernel()
    with pytest.raises(MLFFError, match="learned functional"):
        use(mf)


def test_values_that_are_not_finite_are_an_error():
    network = functional()
    with torch.no_grad():
        network.weights.shift.fill_(float("nan"))
    with pytest.raises(SimulationError, match="not finite"):
        rks(network, molecule()).kernel()


def test_an_absent_functional_is_an_error(tmp_path):
    with pytest.raises(MLFFError, match="no functional"):
        rks(tmp_path / "nowhere", molecule())
