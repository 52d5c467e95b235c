"""Starts of PySCF's SCF by models, good ones and bad ones, and what is refused."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

pytest.importorskip("pyscf")

from pyscf import dft, gto, lib, scf

from mlff_calc.electronic.scf.fits import same_functional
from mlff_calc.electronic.scf.fock_builds import counted
from mlff_calc.electronic.scf.guess import HamiltonianGuess
from mlff_calc.electronic.scf.mean_field import mean_field
from mlff_calc.electronic.scf.orders import to_ours
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import OptionError, StructureError, UnknownElementError

from .fakes import NoisyModel, frames

SETTINGS = SCFSettings("b3lyp", "sto-3g", grid_level=0, conv_tol=1e-10)


@pytest.fixture(scope="module")
def references():
    found = []
    for atoms in frames(3):
        mf = mean_field(atoms, SETTINGS)
        with counted(mf) as watch:
            mf.kernel()
        found.append((atoms, mf.e_tot, mf.cycles, watch.builds))
    return found


@pytest.mark.parametrize("needs_initial", [False, True])
@pytest.mark.parametrize("noise", [None, 1.0, 0.05])
def test_bad_models_change_no_energy_and_cost_one_fock_build(references, noise, needs_initial):
    guess = HamiltonianGuess(NoisyModel(SETTINGS, noise, needs_initial))
    for k, (atoms, energy, cycles, builds) in enumerate(references):
        before = guess.stats.fallbacks
        mf = mean_field(atoms, SETTINGS)
        with counted(mf) as watch:
            mf.kernel(dm0=guess(mf))
        assert mf.converged
        assert mf.e_tot == pytest.approx(energy, abs=1e-8)
        assert mf.cycles <= cycles + 1
        if guess.stats.fallbacks > before:
            assert (mf.cycles, watch.builds) == (cycles, builds + 1)
        assert guess.stats.calls == k + 1
    if noise != 0.05:
        assert guess.stats.fallbacks == len(references)
    assert guess.stats.fock_builds <= len(references)


@pytest.mark.parametrize("needs_initial", [False, True])
def test_a_good_model_needs_fewer_cycles_and_one_fock_build_at_most(references, needs_initial):
    model = NoisyModel(SETTINGS, 1e-5, needs_initial)
    guess = HamiltonianGuess(model)
    for k, (atoms, energy, cycles, _) in enumerate(references):
        mf = mean_field(atoms, SETTINGS)
        with counted(mf) as watch:
            density = guess(mf)
            mf.kernel(dm0=density)
        assert mf.e_tot == pytest.approx(energy, abs=1e-8)
        assert mf.cycles <= cycles - 2
        extra = needs_initial or k == 0  # minao's Fock matrix: for the model, or for the guard at the first structure
        assert watch.builds == mf.cycles + 2 + extra
        assert density.mo_coeff.shape == (7, 7)
        assert density.mo_occ.sum() == 10
    assert guess.stats.fallbacks == 0
    overlaps, initials = model.seen[0]
    np.testing.assert_allclose(overlaps[0], to_ours(mf.mol, mean_field(references[0][0], SETTINGS).get_ovlp()), atol=1e-12)
    if needs_initial:
        start = mean_field(references[0][0], SETTINGS)
        wanted = start.get_fock(dm=start.get_init_guess(start.mol, "minao"))
        np.testing.assert_allclose(initials[0], to_ours(start.mol, wanted), atol=1e-10)


def test_a_prediction_that_is_not_finite_is_replaced(references):
    class Broken(NoisyModel):
        def _one(self, atoms):
            return np.full((7, 7), np.nan)

    atoms, energy, cycles, _ = references[0]
    guess, mf = HamiltonianGuess(Broken(SETTINGS, 0.0)), mean_field(atoms, SETTINGS)
    mf.kernel(dm0=guess(mf))
    assert (mf.cycles, guess.stats.fallbacks) == (cycles, 1)
    assert mf.e_tot == pytest.approx(energy, abs=1e-8)


def test_the_mean_field_is_as_before_after_its_kernel(references):
    guess, mf = HamiltonianGuess(NoisyModel(SETTINGS, 1e-5)), mean_field(references[0][0], SETTINGS)
    kind, names = type(mf), set(vars(mf))
    mf.kernel(dm0=guess(mf))
    assert type(mf) is kind
    assert not {name for name in set(vars(mf)) - names if "mlff" in name}


def test_a_fock_matrix_is_not_handed_to_another_density_geometry_or_functional(references):
    atoms, _, _, _ = references[0]
    guess = HamiltonianGuess(NoisyModel(SETTINGS, 1e-5))
    other = mean_field(references[1][0], SETTINGS)
    for change in ("density", "geometry", "functional", "fitted"):
        mf = mean_field(atoms, SETTINGS)
        density = guess(mf)
        if change == "density":
            density = mf.get_init_guess(mf.mol, "minao")
        elif change == "geometry":
            mf.reset(other.mol)
        elif change == "functional":
            mf.xc = "pbe"
        else:
            mf = mf.density_fit()
        plain = mean_field(references[1 if change == "geometry" else 0][0], SETTINGS)
        if change == "functional":
            plain.xc = "pbe"
        if change == "fitted":
            plain = plain.density_fit()
        found, wanted = mf.get_veff(mf.mol, density), plain.get_veff(plain.mol, np.asarray(density))
        np.testing.assert_allclose(found, wanted, atol=1e-10, err_msg=change)


def test_copies_of_a_mean_field_with_a_start_work(references):
    atoms, energy, _, _ = references[0]
    guess, mf = HamiltonianGuess(NoisyModel(SETTINGS, 1e-5)), mean_field(atoms, SETTINGS)
    density = guess(mf)
    for other in (mf.copy(), copy.copy(mf)):
        assert other.kernel(dm0=density) == pytest.approx(energy, abs=1e-8)
    assert mf.kernel(dm0=density) == pytest.approx(energy, abs=1e-8)


def test_spellings_of_functionals():
    assert same_functional("B3LYP", "b3lypg")
    assert same_functional("b3lyp", "B3LYPG")
    assert same_functional("pbe,pbe", "PBE")
    assert not same_functional("b3lyp", "b3lyp5")
    assert not same_functional("pbe", "pbe0")
    with pytest.raises(OptionError, match="does not know"):
        same_functional("b3lyq", "pbe")


WATER = "O 0 0 0.12; H 0 0.76 -0.48; H 0 -0.76 -0.48"


def refused(error: type[Exception], match: str, mf) -> None:
    with pytest.raises(error, match=match):
        HamiltonianGuess(NoisyModel(SETTINGS, 0.0))(mf)


def test_mean_fields_of_another_level_are_refused():
    def made(atom=WATER, kind=dft.RKS, xc="b3lyp", **more):
        mf = kind(gto.M(atom=atom, verbose=0, **{"basis": "sto-3g", **more}))
        if hasattr(mf, "xc"):
            mf.xc = xc
        return mf

    refused(OptionError, "'pbe', and the model was trained for 'b3lyp'", made(xc="pbe"))
    refused(OptionError, "b3lyp5", made(xc="b3lyp5"))
    refused(OptionError, "'hf'", made(kind=scf.RHF))
    refused(OptionError, "basis of atom 0", made(basis="def2-svp"))
    refused(OptionError, r"basis of atom 1 \(H\)", made(basis={"O": "sto-3g", "H": "6-31g"}))
    refused(OptionError, "charge of 2 e", made(charge=2))
    refused(StructureError, "unpaired", made(charge=1, spin=1))
    refused(StructureError, "unpaired", made(spin=2, kind=dft.UKS))
    refused(OptionError, "restricted closed shell", made(kind=dft.UKS))
    refused(UnknownElementError, "element S at atom 0", made(atom=WATER.replace("O ", "S ")))
    refused(StructureError, "ghost", made(atom=WATER + "; ghost-O 3 0 0"))
    refused(OptionError, "Cartesian", made(cart=True, basis="def2-svp"))
    refused(OptionError, "effective core", made(basis="lanl2dz", ecp={"O": "bfd"}))
    refused(OptionError, "not a mean field", gto.M(atom=WATER, verbose=0))


def test_objects_that_are_no_models_are_refused():
    for thing in (None, 3, torch.nn.Linear(2, 2)):
        with pytest.raises(OptionError, match="predicts no Fock matrices; give the name or folder"):
            HamiltonianGuess(thing)
    with pytest.raises(OptionError, match="at which level"):
        HamiltonianGuess(NoisyModel(None, 0.0))


def test_equal_spellings_and_labels_are_accepted():
    mol = gto.M(atom=WATER.replace("H ", "H1 ", 1), basis="sto3g", verbose=0)
    mf = dft.RKS(mol)
    mf.xc, mf.grids.level = "B3LYPG", 0
    mf.kernel(dm0=HamiltonianGuess(NoisyModel(SETTINGS, 1e-5))(mf))
    assert mf.converged


def test_density_fitting_uses_the_orbitals(references):
    atoms, _, _, _ = references[0]
    mf, plain = (mean_field(atoms, SETTINGS).density_fit() for _ in range(2))
    guess = HamiltonianGuess(NoisyModel(SETTINGS, 1e-5))
    plain.kernel()
    density = guess(mf)
    assert isinstance(density, lib.NPArrayWithTag)
    assert mf.kernel(dm0=density) == pytest.approx(plain.e_tot, abs=1e-8)
    assert guess.stats.fallbacks == 0
