"""Molecules and mean fields for PySCF: what is refused, and what does not converge."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

pytest.importorskip("pyscf")

from pyscf import dft, gto

from mlff_calc.electronic.scf.mean_field import cold_start, converged, forces_of, mean_field
from mlff_calc.electronic.scf.pyscf_door import build_mole, check_mole, check_structure, pyscf_module
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import ConvergenceError, OptionError, StructureError

pytestmark = pytest.mark.electronic
FAST = SCFSettings("pbe", "sto-3g", 0)


def water(**info: object) -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.03, seed=4)
    atoms.info |= info
    return atoms


def on_top() -> Atoms:
    return Atoms("H2", [[0, 0, 0], [0, 0, 0.1]])


def periodic() -> Atoms:
    atoms = molecule("H2O", vacuum=3.0)
    atoms.pbc = True
    return atoms


def magnetic() -> Atoms:
    atoms = water()
    atoms.set_initial_magnetic_moments([1, 0, 0])
    return atoms


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms(), "no atoms"),
        (periodic(), "periodic"),
        (Atoms("OXH", [[0, 0, 0], [0, 0, 1], [0, 1, 0]]), "atom 1 is a ghost"),
        (on_top(), "atoms 0 and 1 are 0.1 Angstrom apart"),
        (Atoms("H2", [[0, 0, 0], [0, 0, np.nan]]), "atom 1 is not finite"),
        (Atoms("OH", [[0, 0, 0], [0, 0, 1]]), "odd number of electrons, 9 with charge 0"),
        (water(charge=1), "odd number of electrons, 9 with charge 1"),
        (water(charge=0.5), "charge is a whole number"),
        (water(charge=2, total_charge=0), "keep one"),
        (water(multiplicity=3), "closed shells"),
        (water(spin=2), "closed shells"),
        (magnetic(), "magnetic moments"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 1]], info={"charge": 2}), "too few electrons"),
    ],
)
def test_structures_that_are_no_closed_shell_molecules_are_refused(atoms: Atoms, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        mean_field(atoms, FAST)


def test_ions_have_their_charge() -> None:
    hydroxide = Atoms("OH", [[0, 0, 0], [0, 0, 1]], info={"charge": -1})
    assert check_structure(hydroxide) == -1
    assert build_mole(hydroxide, "sto-3g").nelectron == 10


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"atom": "O 0 0 0; H 0 0 1; H 0 1 0", "cart": True, "basis": "def2-svp"}, OptionError, "Cartesian"),
        ({"atom": "O 0 0 0; ghost-H 0 0 1", "basis": "sto-3g"}, StructureError, "atom 1 .* ghost"),
        ({"atom": "I 0 0 0; H 0 0 1.6", "basis": "def2-svp", "ecp": "def2-svp"}, OptionError, "I has an effective core"),
        ({"atom": "O 0 0 0", "basis": "sto-3g", "spin": 2}, StructureError, "2 unpaired electrons"),
    ],
)
def test_molecules_of_others_are_checked(options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_mole(gto.M(verbose=0, **options))


def test_command_lines_are_not_read_by_pyscf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["mlff", "--max-memory", "1", "-o", "nowhere/out"])
    assert build_mole(water(), "sto-3g").output is None


def test_mean_fields_have_the_settings() -> None:
    mf = mean_field(water(), SCFSettings("b3lyp", "def2-svp", 1, 1e-7, density_fit=True, max_cycle=9))
    assert (mf.grids.level, mf.conv_tol, mf.max_cycle, mf.xc) == (1, 1e-7, 9, "b3lypg")
    assert mf.with_df is not None
    assert not isinstance(mean_field(water(), SCFSettings("hf", "sto-3g")), dft.rks.KohnShamDFT)


def test_a_second_attempt_shifts_levels_and_then_there_is_one_error() -> None:
    atoms = water()
    mf = mean_field(atoms, SCFSettings("pbe", "sto-3g", 0, max_cycle=5))
    shifts: list[float] = []
    mf.callback = lambda values: shifts.append(values["mf"].level_shift)
    assert converged(mf) == (len(shifts), True)
    assert set(shifts) == {0, 0.3}  # needs both: 7 cycles in one attempt
    assert len(shifts) > 5
    assert mf.level_shift == 0
    energy = mf.e_tot
    mf = mean_field(atoms, FAST)
    assert converged(mf) == (mf.cycles, False)
    assert energy == pytest.approx(mf.e_tot, abs=1e-8)
    with pytest.raises(ConvergenceError, match=r"H2O with charge 0 did not converge in two attempts of 2") as caught:
        converged(mean_field(atoms, SCFSettings("pbe", "sto-3g", 0, max_cycle=2)))
    assert "max_cycle" in str(caught.value)
    assert len(caught.value.residuals) == 4


def test_an_attempt_that_breaks_down_is_followed_by_one_other() -> None:
    mf, starts = mean_field(water(), FAST), []

    def again() -> np.ndarray:
        starts.append(mf.level_shift)
        return mf.get_init_guess()

    assert converged(mf, np.full((7, 7), np.nan), again) == (mf.cycles, True)
    assert starts == [0.3]
    broken = mean_field(water(), FAST)
    with pytest.raises(ConvergenceError, match=r"did not converge in two attempts of 50 cycles.*broke down"):
        converged(broken, np.full((7, 7), np.nan), lambda: np.full((7, 7), np.nan))
    assert broken.level_shift == 0


def test_a_functional_starts_from_atoms_in_basis_sets_of_pople() -> None:
    names = {"sto-3g": "minao", "def2-svp": "minao", "6-31G*": "atom", "6-311+G(3df,2p)": "atom", "3-21g": "atom"}
    assert {name: cold_start(name) for name in names} == names
    assert mean_field(water(), SCFSettings("pbe", "6-31g*", 0)).init_guess == "minao"  # whose cycles are compared


def test_forces_are_derivatives_of_the_energy() -> None:
    atoms, step = water(), 1e-3
    settings = SCFSettings("pbe", "sto-3g", 0, 1e-11)
    mf = mean_field(atoms, settings)
    converged(mf)
    forces, energies = forces_of(mf), []
    np.testing.assert_allclose(forces.sum(0), 0.0, atol=1e-10)  # fails without the motion of the grid
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[1, 2] += sign * step
        other = mean_field(moved, settings)
        converged(other)
        energies.append(other.e_tot)
    numeric = -(energies[0] - energies[1]) / (2 * step / 0.529177210903)
    assert forces[1, 2] == pytest.approx(numeric, abs=2e-6)


def test_without_pyscf_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "pyscf"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyscf", None)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r'pip install "mlff_calc\[electronic\]"'):
        pyscf_module("pyscf.gto")
    with pytest.raises(OptionError, match="pip install"):
        mean_field(water(), FAST)
