"""The first steps of an SCF from a predicted matrix: exact for a linear response, and fewer cycles for a shift of charge."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyscf")

from mlff_calc.electronic.scf.first_steps import FirstSteps, Response
from mlff_calc.electronic.scf.fock_builds import counted, prepare
from mlff_calc.electronic.scf.guard import kind_of
from mlff_calc.electronic.scf.guess import HamiltonianGuess
from mlff_calc.electronic.scf.mean_field import mean_field
from mlff_calc.electronic.scf.orders import to_ours
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.electronic.scf.starts import Starter

from .fakes import NoisyModel, frames

SETTINGS = SCFSettings("pbe", "sto-3g", grid_level=0, conv_tol=1e-10)


def test_a_linear_response_is_learned_in_one_structure_and_used_in_the_next():
    rng, n = np.random.default_rng(0), 6
    shift, true = rng.normal(size=(2, n, n))
    shift, true = shift + shift.T, true + true.T + np.diag(10.0 * np.arange(n))
    response, ratio = Response(), -1.7
    for structure, error in enumerate((1e-3, -3e-4)):
        steps = FirstSteps(true + error * shift, true + 0.3 * shift, np.eye(n), 4, response, "molecule")
        first = steps(0, true + ratio * error * shift)
        left = (first - true)[0, -1] / shift[0, -1]
        assert left == pytest.approx(0.0 if structure else ratio * error, abs=1e-9)
        np.testing.assert_allclose(steps(1, true + ratio * left * shift), true, atol=1e-9)
    assert response.damping("molecule") == pytest.approx(1.0 - 1.0 / (1.0 - ratio))
    assert response.damping("another") == 0.0


def test_responses_that_cannot_be_are_bounded():
    response = Response()
    response.learn("stable", 1.0, 0.5)
    response.learn("wild", 1.0, -1e6)
    response.learn("nothing", 0.0, 0.0)
    assert [response.damping(kind) for kind in ("stable", "wild", "nothing")] == [0.0, 0.8, 0.0]
    other = Response()
    other.load(response.state())
    assert other.damping("wild") == 0.8
    for wrong in ({"stable": [np.nan, 1.0]}, {"stable": [1.0]}):
        with pytest.raises(ValueError, match=r"finite|another number"):
            other.load(wrong)
    other.load({"molecule": [-1.7, 1.0]})  # of earlier versions
    assert other.damping("molecule") == pytest.approx(1.0 - 1.0 / 2.7)
    assert other.mixing("molecule") is None


def test_shifts_in_many_directions_are_damped_as_a_whole():
    rng, n = np.random.default_rng(1), 8
    directions = rng.normal(size=(4, n, n))
    own, *shifts = directions + directions.transpose(0, 2, 1)
    true, response, ratio = np.diag(10.0 * np.arange(n)), Response(), -1.2
    left = []
    for structure in range(3):
        charge = sum(1e-4 * rng.normal() * shift for shift in shifts)  # comes back; the rest of the error shrinks to nothing
        start = true + charge + 1e-3 * np.diag(np.arange(n))[::-1]
        steps = FirstSteps(start, start + own, np.eye(n), 4, response, "molecule")
        assert (response.mixing("molecule") is None) == (structure == 0)

        def built(fock, charge=charge):
            parts = np.linalg.lstsq(np.array([s.ravel() for s in shifts]).T, (fock - true).ravel(), rcond=None)[0]
            return true + ratio * sum(part * shift for part, shift in zip(parts, shifts, strict=True))

        first = built(start)
        second = built(steps(0, first))
        third = built(steps(1, second))
        assert steps(2, third) is None
        left.append(np.abs(second - true).max() / np.abs(first - true).max())
    assert left[0] > 1.0 > 0.15 > left[1] > 10 * left[2]
    assert response.mixing("molecule") == pytest.approx(1.0 - 1.0 / (1.0 - ratio), abs=0.01)


class Shifted(NoisyModel):
    """A model whose error is a hundredth of what minao's matrix lacks."""

    def _one(self, atoms):
        fock, mf = super()._one(atoms), mean_field(atoms, self.settings)
        return fock + 0.01 * (to_ours(mf.mol, mf.get_fock(dm=mf.get_init_guess(mf.mol, "minao"))) - fock)


def test_they_save_cycles_and_leave_the_mean_field_as_it_was():
    cycles = {}
    for needs_initial in (False, True):
        guess = HamiltonianGuess(Shifted(SETTINGS, 0.0, needs_initial))
        for atoms in frames(2):
            mf = mean_field(atoms, SETTINGS)
            kind, names = type(mf), set(vars(mf))
            with counted(mf) as watch:
                mf.kernel(dm0=guess(mf))
            assert watch.builds - mf.cycles == 3  # the first, the last, and minao's
            assert type(mf) is kind
            assert not {name for name in set(vars(mf)) - names if "mlff" in name}
            cycles[needs_initial, atoms.positions.tobytes()] = mf.cycles
            if not needs_initial:
                guess = HamiltonianGuess(Shifted(SETTINGS, 0.0, needs_initial))  # its guard forgets
    total = {needs: sum(n for (one, _), n in cycles.items() if one == needs) for needs in (False, True)}
    assert total[True] < total[False]


def test_the_class_of_a_mean_field_comes_back_without_a_count_too():
    model = Shifted(SETTINGS, 0.0, needs_initial=True)
    for atoms in (frames(1)[0],) * 2:
        mf = mean_field(atoms, SETTINGS)
        kind = type(mf)
        mf.kernel(dm0=HamiltonianGuess(model)(mf))
        assert type(mf) is kind
        assert mf.converged


@pytest.mark.parametrize("ending", ["max_cycle=1", "max_cycle=2", "eig in cycle 0", "eig in cycle 1"])
def test_first_steps_do_not_outlive_their_kernel(ending):
    model = Shifted(SETTINGS, 0.0, needs_initial=True)
    mf, guess = mean_field(frames(1)[0], SETTINGS), HamiltonianGuess(model)
    kind, calls = type(mf), []
    density = guess(mf)
    if ending.startswith("max"):
        mf.max_cycle = int(ending[-1])
        mf.kernel(dm0=density)
    else:
        eig = mf.eig

        def broken(*matrices, **named):
            calls.append(1)
            if len(calls) == int(ending[-1]) + 1:
                raise np.linalg.LinAlgError
            return eig(*matrices, **named)

        mf.eig = broken
        with pytest.raises(np.linalg.LinAlgError):
            mf.kernel(dm0=density)
        mf.eig = eig
    assert type(mf) is kind
    assert not [name for name in vars(mf) if "mlff" in name]
    plain = mean_field(frames(1)[0], SETTINGS)
    mf.max_cycle = plain.max_cycle
    mf.kernel(dm0=plain.get_init_guess())
    plain.kernel()
    assert (mf.cycles, mf.e_tot) == (plain.cycles, pytest.approx(plain.e_tot, abs=1e-12))


def test_a_density_of_another_origin_is_not_damped():
    atoms, guess = frames(1)[0], HamiltonianGuess(Shifted(SETTINGS, 0.0, needs_initial=True))
    mf, plain = mean_field(atoms, SETTINGS), mean_field(atoms, SETTINGS)
    guess.response.learn("any", 1.0, -1.0)
    guess(mf)
    mf.kernel()  # from minao
    plain.kernel()
    assert (mf.cycles, mf.e_tot) == (plain.cycles, pytest.approx(plain.e_tot, abs=1e-12))


def test_steps_get_the_potential_of_a_solvent_too():
    mf, plain = (mean_field(frames(1)[0], SETTINGS).PCM() for _ in range(2))
    density, seen = mf.get_init_guess(), []
    prepare(mf, density, mf.get_veff(mf.mol, density), lambda cycle, fock: seen.append(fock) or fock)
    mf.max_cycle = 1
    mf.kernel(dm0=density)
    np.testing.assert_allclose(seen[0], plain.get_fock(dm=density), atol=1e-10)


def test_damping_of_the_user_is_left_alone():
    guess, mf = HamiltonianGuess(Shifted(SETTINGS, 0.0, needs_initial=True)), mean_field(frames(1)[0], SETTINGS)
    fock, initial = guess.fock(mf)
    assert guess.steps(mf, fock, initial) is not None
    mf.damp = 0.3
    assert guess.steps(mf, fock, initial) is None


def test_starters_keep_what_they_have_learned():
    model = Shifted(SETTINGS, 0.0, needs_initial=True)
    starter = Starter("model", model)
    assert starter.remembers
    for atoms in frames(2):
        mf = mean_field(atoms, SETTINGS)
        mf.kernel(dm0=starter.density(mf))
        starter.add(mf)
    other = Starter("model", model)
    other.load(starter.state())
    kind = next(iter(starter.state()["response"]))
    assert other.state()["response"] == starter.state()["response"]
    followed, moved, *_ = starter.state()["response"][kind]
    assert -1.5 < followed / moved < -0.4
    assert not Starter("model", NoisyModel(SETTINGS, 0.0)).remembers


def test_the_first_structure_on_a_much_coarser_grid_is_left_to_diis():
    atoms = frames(1)[0]
    for level, left in ((3, True), (2, False)):
        guess = HamiltonianGuess(Shifted(SCFSettings("pbe", "sto-3g", grid_level=level), 0.0, needs_initial=True))
        mf = mean_field(atoms, SETTINGS)
        fock, initial = guess.fock(mf)
        first, second = guess.steps(mf, fock, initial), initial.fock
        assert [first(cycle, built) is None for cycle, built in enumerate((second, fock))] == [left, left]
        assert guess.response.damping(kind_of(mf)) > 0.0
        assert guess.steps(mf, fock, initial)(0, second) is not None
