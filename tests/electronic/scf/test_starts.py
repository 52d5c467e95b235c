"""All starts on the same structures: equal energies, and what they cost."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule

pytest.importorskip("pyscf")

from mlff_calc.electronic.scf.compare import compare_starts
from mlff_calc.electronic.scf.mean_field import mean_field
from mlff_calc.electronic.scf.run import SCFStats, solve
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.electronic.scf.starts import STARTS, Starter
from mlff_calc.errors import ConvergenceError, OptionError, StructureError, UnknownElementError

from .fakes import NoisyModel, frames, vibration

SETTINGS = SCFSettings("pbe", "sto-3g", grid_level=0, conv_tol=1e-10)


def test_all_starts_reach_the_energy_of_minao():
    model = NoisyModel(SETTINGS, 1e-5)
    rows = compare_starts(frames(2), SETTINGS, STARTS, model)
    assert len(model.seen) == 1 + 2 * 2  # once so that nothing is loaded in its time, and by two starts of two frames
    found = {row.start: row for row in rows}
    assert list(found) == list(STARTS)
    assert max(row.energy_difference for row in rows) < 1e-8
    guarded = [row for row in rows if row.start in ("previous", "aspc", "model", "model+aspc")]
    assert max(row.most_cycles_above for row in guarded) <= 1
    assert found["model"].cycles < found["minao"].cycles - 1
    assert found["model"].fallbacks == found["model"].retries == 0


def test_extrapolation_saves_cycles_along_a_motion_and_removes_the_error_of_a_model():
    """A model with a constant error of 5e-3 Ha is no better than minao by itself, and is with its error extrapolated."""
    steps, model = vibration(6), NoisyModel(SETTINGS, 0.0, drift=5e-3)
    names = ("minao", "previous", "aspc", "model", "model+aspc")
    cycles = {row.start: row.cycles for row in compare_starts(steps, SETTINGS, names, model)}
    assert cycles["aspc"] < cycles["previous"] - 1
    assert cycles["previous"] <= cycles["minao"]
    assert cycles["model+aspc"] < cycles["aspc"] - 1
    assert cycles["model"] > cycles["minao"] - 1


def test_bad_models_do_not_spoil_trajectories():
    model = NoisyModel(SETTINGS, None)
    rows = {row.start: row for row in compare_starts(vibration(4), SETTINGS, ("model", "model+aspc"), model)}
    for name in ("model", "model+aspc"):
        assert rows[name].energy_difference < 1e-8
        assert rows[name].most_cycles_above <= 1
        assert rows[name].fock_builds <= rows["minao"].fock_builds + 1
    assert rows["model"].fallbacks == 4


def test_jumps_and_other_molecules_end_the_memory():
    starter, stats = Starter("aspc"), SCFStats()

    def remembered(atoms) -> int:
        mf = mean_field(atoms, SETTINGS)
        solve(mf, starter, stats)
        return len(starter.state()["memory"]["values"])

    first, second = vibration(2)
    assert [remembered(first), remembered(second)] == [1, 2]
    moved = second.copy()
    moved.positions[1] += [0.0, 0.6, 0.0]
    assert remembered(moved) == 1
    assert remembered(moved) == 2
    assert remembered(moved[[1, 0, 2]]) == 1  # another order of atoms
    assert remembered(moved[[1]] + moved[[2]]) == 1


def test_memory_comes_back_to_the_last_bit():
    steps = vibration(5)
    for name in ("previous", "aspc", "model+aspc"):
        model = NoisyModel(SETTINGS, 0.0, drift=1e-3) if name == "model+aspc" else None
        whole, other = Starter(name, model), Starter(name, model)
        for atoms in steps[:4]:
            solve(mean_field(atoms, SETTINGS), whole, SCFStats())
        other.load(whole.state())
        starts = [one.density(mean_field(steps[4], SETTINGS)) for one in (whole, other)]
        np.testing.assert_array_equal(starts[0], starts[1])
        with pytest.raises(ValueError, match="of the start"):
            Starter("minao").load(whole.state())


def test_an_scf_that_does_not_converge_is_repeated_and_then_refused():
    atoms = frames(1)[0]
    short = SCFSettings("pbe", "sto-3g", grid_level=0, conv_tol=1e-10, max_cycle=2)
    starter, stats = Starter("previous"), SCFStats()
    for number in range(2):
        with pytest.raises(ConvergenceError, match=f"structure {number}: .*did not converge in two attempts of 2 cycles"):
            solve(mean_field(atoms, short), starter, stats)
    assert (stats.retries, stats.failures, stats.cycles, stats.calls) == (2, 2, 8, 0)
    assert "memory" not in starter.state()


def test_unknown_starts_and_missing_models_are_refused():
    with pytest.raises(OptionError, match="did you mean 'minao'"):
        Starter("minoa")
    with pytest.raises(OptionError, match="does need a model"):
        Starter("model")
    with pytest.raises(OptionError, match="does not need a model"):
        Starter("aspc", NoisyModel(SETTINGS, 0.0))
    with pytest.raises(OptionError, match="no structures"):
        compare_starts([], SETTINGS)


def test_a_starter_and_its_guess_share_one_guard():
    starter, mf = Starter("model", NoisyModel(SETTINGS, 1e-4)), mean_field(frames(1)[0], SETTINGS)
    starter._guess(mf)
    assert starter.stats.calls == 1
    assert len(starter.state()["guard"]) == 1


def test_structures_that_are_none_for_the_model_are_refused_before_the_first_is_solved():
    model, ammonia = NoisyModel(SETTINGS, 1e-4), molecule("NH3")
    with pytest.raises(UnknownElementError, match=r"structure 1: H3N has N"):
        compare_starts([*frames(1), ammonia], SETTINGS, ("minao", "model"), model)
    assert model.seen == []
    with pytest.raises(StructureError, match="structure 0"):
        compare_starts([molecule("OH")], SETTINGS, ("minao",))
