"""Reuse of fixed points along trajectories: agreement with cold solves, exact restarts, copies, bands, jumps, errors."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.io.jsonio import decode, encode
from ase.md.verlet import VelocityVerlet

from mlff_calc.calculators import CommitteeCalculator, MLFFCalculator
from mlff_calc.calculators.reuse import Reuse
from mlff_calc.calculators.stepping import stepping_of
from mlff_calc.dynamics.velocities import set_maxwell_velocities
from mlff_calc.errors import ConvergenceError, OptionError
from mlff_calc.fixed_point.warm_start import WarmStart
from mlff_calc.potential import Potential, build_potential, load_potential

SMALL = {"cutoff": 4.0, "channels": 4, "l_max": 1, "heads": 2, "edge_channels": 8}
TIGHT = Reuse(n_forward=3, n_adjoint=3, tolerance=1e-7)


def make_potential(seed: int = 7, /, **options: object) -> Potential:
    backbone = {
        "name": "deq", "block": "equiformer", "prelude": 0,
        **SMALL, "feedback": 0.3, "tolerance": 1e-9, "max_evaluations": 200, **options,
    }  # fmt: skip
    return build_potential({"backbone": backbone, "elements": ["H", "C", "O"]}, seed=seed)


def calculator(
    potential: Potential | None = None, reuse: str | Reuse = "conservative", **options: bool
) -> MLFFCalculator:
    return MLFFCalculator(potential or make_potential(), precision="float64", device="cpu", reuse=reuse, **options)


def water(seed: int = 1) -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.03, seed=seed)
    return atoms


def start(calc: MLFFCalculator | CommitteeCalculator) -> tuple[Atoms, VelocityVerlet]:
    atoms = water()
    set_maxwell_velocities(atoms, 300.0, seed=2)
    atoms.calc = calc
    return atoms, VelocityVerlet(atoms, 0.5 * units.fs)


def run(reuse: str | Reuse, steps: int = 12) -> tuple[np.ndarray, np.ndarray, MLFFCalculator]:
    """Return final positions, forces of all steps, and the calculator."""
    calc = calculator(reuse=reuse)
    atoms, dynamics = start(calc)
    forces = [atoms.get_forces()]
    for _ in range(steps):
        dynamics.run(1)
        forces.append(atoms.get_forces())
    return atoms.positions.copy(), np.array(forces), calc


def test_a_trajectory_agrees_with_cold_solves_to_the_tolerance() -> None:
    cold, cold_forces, reference = run("none")
    scale = np.abs(cold_forces).max()
    assert scale > 1e-3
    for reuse, tolerance in (("conservative", 1e-8), (Reuse(), 2e-3), (TIGHT, 1e-7)):
        warm, forces, calc = run(reuse)
        assert calc.stats.residual <= tolerance
        np.testing.assert_allclose(forces, cold_forces, rtol=0.0, atol=10.0 * tolerance * scale)
        np.testing.assert_allclose(warm, cold, rtol=0.0, atol=tolerance)
        assert np.abs(forces[1:] - cold_forces[1:]).max() > 0.0  # the steps were not solved from scratch
        assert calc.stats.n_cold == 1
        share = 0.7 if reuse == Reuse() else 1.0  # float64 makes "conservative" solve to more digits
        assert calc.stats.n_forward < share * reference.stats.n_forward
        assert calc.stats.n_adjoint < share * reference.stats.n_adjoint


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_displacements_to_and_fro_are_solved_like_a_cold_start(precision: str) -> None:
    """Displacements are made as for phonons: one object is moved and restored, or each copy is an object."""
    potential = make_potential(tolerance=1e-5 if precision == "float32" else 1e-4)
    base, bound = water(), 1e-4 if precision == "float32" else 1e-7
    cold = MLFFCalculator(make_potential(), precision="float64", device="cpu", reuse="none")
    calc = MLFFCalculator(potential, precision=precision, device="cpu")
    assert calc._models[0].potential.backbone.tolerance == (1e-5 if precision == "float32" else 1e-8)
    moved = base.copy()
    for atom, axis, step in ((0, 0, 0.01), (0, 0, -0.01), (1, 2, 0.01), (1, 2, -0.01), (2, 1, 0.02), (0, 0, 0.01)):
        moved.positions[:] = base.positions
        moved.positions[atom, axis] += step
        right = cold.evaluate(moved.copy())["forces"]
        scale = np.abs(right).max()
        for asked in (moved, moved.copy()):
            np.testing.assert_allclose(calc.evaluate(asked)["forces"], right, rtol=0.0, atol=bound * scale)


def test_reset_forgets_fixed_points() -> None:
    calc, atoms = calculator(), water()
    first = calc.evaluate(atoms)["forces"]
    atoms.positions[0, 0] += 0.02
    calc.evaluate(atoms)
    atoms.positions[0, 0] -= 0.02
    assert calc.stats.n_cold == 1
    calc.reset()
    np.testing.assert_allclose(calc.evaluate(atoms)["forces"], first, rtol=0.0, atol=1e-14)  # sums have another order
    assert calc.stats.n_cold == 2


def test_float64_solves_to_its_own_tolerance_and_back() -> None:
    potential = make_potential(tolerance=1e-4, max_evaluations=50)
    double = potential.to_precision("float64")
    assert (double.backbone.tolerance, double.backbone.solver.max_evaluations) == (1e-8, 100)
    single = double.to_precision("float32")
    assert (single.backbone.tolerance, single.backbone.solver.max_evaluations) == (1e-4, 50)
    assert make_potential(tolerance=1e-10).to_precision("float64").backbone.tolerance == 1e-10


def test_none_depends_on_the_structure_alone() -> None:
    _, forces, calc = run("none", steps=4)
    assert calc.history_free
    assert calc.get_state() is None
    assert calc.stats.n_cold == calc.stats.n_calls == 5
    last = calc.atoms.copy()
    np.testing.assert_array_equal(calculator(reuse="none").evaluate(last)["forces"], forces[-1])


def test_a_restart_continues_bit_by_bit() -> None:
    calc = calculator()
    assert not calc.history_free
    atoms, dynamics = start(calc)
    dynamics.run(6)
    kept, state = atoms.copy(), decode(encode(calc.get_state()))
    resume = calculator()
    resume.set_state(state)
    again = kept.copy()
    again.calc = resume
    follow = VelocityVerlet(again, 0.5 * units.fs)
    for _ in range(5):
        dynamics.run(1)
        follow.run(1)
        np.testing.assert_array_equal(again.positions, atoms.positions)
        np.testing.assert_array_equal(again.get_forces(), atoms.get_forces())
    assert resume.stats.n_cold == 0
    fresh = kept.copy()
    fresh.calc = calculator()
    VelocityVerlet(fresh, 0.5 * units.fs).run(5)
    assert not np.array_equal(fresh.positions, atoms.positions)  # the state is needed for equal results


@pytest.mark.parametrize("how", [copy.deepcopy, lambda calc: pickle.loads(pickle.dumps(calc))], ids=["copy", "pickle"])
def test_copies_continue_from_their_own_memory(how: object) -> None:
    calc = calculator()
    atoms, dynamics = start(calc)
    dynamics.run(4)
    twin, kept = how(calc), atoms.copy()
    n_cold = twin.stats.n_cold
    atoms.positions += 0.002
    atoms.positions[0, 0] += 0.003
    kept.positions = atoms.positions.copy()
    for _ in range(2):
        expected = calc.evaluate(atoms)
        found = twin.evaluate(kept)
        np.testing.assert_array_equal(found["forces"], expected["forces"])
        atoms.positions[1] += 0.002
        kept.positions[1] += 0.002
    assert twin.stats.n_cold == n_cold == 1
    twin.evaluate(Atoms("H", positions=[[0, 0, 0]]))
    assert calc.stats.n_cold == 1


def test_images_of_a_band_have_separate_memories() -> None:
    """Images that share a calculator get the results of separate calculators, bit by bit."""
    shared = calculator()
    images = [water() for _ in range(3)]
    for number, image in enumerate(images):
        image.positions[1] += 0.1 * number
    twins, own = [image.copy() for image in images], [calculator() for _ in images]
    for step in range(5):
        for image, twin, calc in zip(images, twins, own, strict=True):
            np.testing.assert_array_equal(shared.evaluate(image)["forces"], calc.evaluate(twin)["forces"])
            for one in (image, twin):
                one.positions[2, 1] += 0.004 + 0.001 * step
    assert shared.stats.n_cold == 3
    assert shared.stats.n_calls == 15


def _reorder(atoms: Atoms) -> None:
    atoms.positions[:] = atoms.positions[[1, 0, 2]]
    atoms.numbers[:] = atoms.numbers[[1, 0, 2]]


def _substitute(atoms: Atoms) -> None:
    atoms.numbers[0] = 6


def _jump(atoms: Atoms) -> None:
    atoms.positions[2, 1] -= 0.6


def _delete(atoms: Atoms) -> None:
    del atoms[2]


@pytest.mark.parametrize("change", [_reorder, _substitute, _jump, _delete])
def test_a_jump_makes_a_cold_solve(change: object) -> None:
    """After a jump the result is that of a new calculator."""
    calc, atoms = calculator(), water()
    for _ in range(3):
        calc.evaluate(atoms)
        atoms.positions[1] += 0.003
    assert calc.stats.n_cold == 1
    change(atoms)
    found = calc.evaluate(atoms)
    assert calc.stats.n_cold == 2
    np.testing.assert_array_equal(found["forces"], calculator(reuse="none").evaluate(atoms)["forces"])
    atoms.positions[0] += 0.003
    calc.evaluate(atoms)
    assert calc.stats.n_cold == 2


def test_counts() -> None:
    calc, atoms = calculator(), water()
    calc.evaluate(atoms)
    stats = calc.stats
    assert (stats.n_calls, stats.n_cold, stats.n_repeats, stats.n_retries) == (1, 1, 0, 0)
    assert stats.n_forward == stats.cold_forward > 5
    assert stats.n_adjoint == stats.cold_adjoint > 5
    assert 0.0 < stats.residual < 1e-9
    calc.evaluate(atoms)  # returned from ASE's cache
    assert stats.n_calls == 1
    for _ in range(3):
        atoms.positions[1] += 0.002
        calc.evaluate(atoms)
    assert (stats.n_calls, stats.n_cold) == (4, 1)
    assert stats.n_forward == stats.cold_forward + 4 * (3 + stats.n_repeats)
    assert stats.n_adjoint == stats.cold_adjoint + 4 * (3 + stats.n_repeats)
    assert 0.0 < stats.residual <= 1e-3
    stats.reset()
    assert stats.n_forward == stats.n_cold == 0


def test_a_step_above_the_tolerance_is_made_again() -> None:
    """The step is repeated from its last state until its residual is below the tolerance."""
    calc, atoms = calculator(reuse=Reuse(predictor="previous", n_forward=2, n_adjoint=2, tolerance=1e-8)), water()
    calc.evaluate(atoms)
    atoms.positions[1] += 0.01
    found = calc.evaluate(atoms)
    assert calc.stats.n_repeats > 0
    assert calc.stats.n_cold == 1
    assert max(calc.stats.residual, calc.stats.adjoint_residual) <= 1e-8
    exact = calculator(reuse="none").evaluate(atoms)["forces"]
    np.testing.assert_allclose(found["forces"], exact, rtol=0.0, atol=1e-6 * np.abs(exact).max())


def test_changed_parameters_forget() -> None:
    calc, atoms = calculator(), water()
    calc.evaluate(atoms)
    calc.set(reuse="fast")
    atoms.positions[1] += 0.002
    calc.evaluate(atoms)
    assert calc.stats.n_cold == 2


@pytest.mark.parametrize("reuse", ["conservative", "fast", Reuse()], ids=["conservative", "fast", "own"])
def test_reuse_without_a_fixed_point_is_refused(reuse: str | Reuse) -> None:
    explicit = build_potential(
        {"backbone": {"name": "equiformer", **SMALL, "n_layers": 1}, "elements": ["H", "O"]}, seed=0
    )
    with pytest.raises(OptionError, match="needs a potential with a fixed point"):
        calculator(explicit, reuse=reuse)
    for harmless in ("auto", "none"):
        assert calculator(explicit, reuse=harmless).history_free


def test_options_are_refused() -> None:
    with pytest.raises(OptionError, match="unknown reuse 'conservativ'; choose one of auto, conservative, fast, shadow"):
        calculator(reuse="conservativ")
    calc = calculator()
    with pytest.raises(OptionError, match="unknown reuse 'often'"):
        calc.set(reuse="often")
    assert calc.parameters["reuse"] == "conservative"
    for options, message in (
        ({"predictor": "kubic"}, "unknown predictor 'kubic'"),
        ({"n_forward": 0}, "n_forward = 0 of reuse; it must be at least 1"),
        ({"n_adjoint": 0}, "n_adjoint = 0 of reuse"),
        ({"kept": -1}, "kept = -1 of reuse; it must be at least 0"),
        ({"tolerance": 0.0}, "tolerance = 0.0 of reuse; it must be positive"),
    ):
        with pytest.raises(OptionError, match=message):
            Reuse(**options)


@pytest.mark.parametrize("reuse", ["none", "conservative"])
def test_no_convergence_is_an_error_with_the_residuals(reuse: str) -> None:
    calc, atoms = calculator(make_potential(max_evaluations=2, tolerance=1e-12), reuse=reuse), water()
    with pytest.raises(ConvergenceError, match="not found to a relative residual of 1e-12") as caught:
        calc.evaluate(atoms)
    residuals = caught.value.residuals
    assert len(residuals) >= 2
    assert all(np.isfinite(residuals))
    assert min(residuals) > 1e-12
    assert "fixed point" in str(caught.value)
    assert calc.results == {}
    assert calc.stats.n_retries == 1
    with pytest.raises(ConvergenceError):  # the failed solve is not used as a start
        calc.evaluate(atoms)


def test_a_solve_that_fails_is_made_again_with_damping() -> None:
    """A solver with few evaluations fails; the damped solver may use four times as many."""
    calc, atoms = calculator(make_potential(max_evaluations=9), reuse="none"), water()
    found = calc.evaluate(atoms)
    assert calc.stats.n_retries == 1
    assert calc.stats.residual < 1e-9
    expected = calculator(reuse="none").evaluate(atoms)["forces"]
    np.testing.assert_allclose(found["forces"], expected, rtol=0.0, atol=1e-7 * np.abs(expected).max())
    assert type(calc._models[0].potential.backbone.solver).__name__ == "Anderson"
    assert calc._models[0].potential.backbone.solver.max_evaluations == 9  # the original solver is restored


def test_a_committee_has_a_memory_for_each_member() -> None:
    members = [make_potential(1), make_potential(2)]
    committee = CommitteeCalculator(members, precision="float64", device="cpu", reuse="conservative")
    alone, atoms = [calculator(member) for member in members], water()
    twins = [atoms.copy(), atoms.copy()]
    for _ in range(4):
        found = committee.evaluate(atoms)["forces"]
        parts = [calc.evaluate(twin)["forces"] for calc, twin in zip(alone, twins, strict=True)]
        np.testing.assert_allclose(found, np.mean(parts, axis=0), rtol=0.0, atol=1e-13)
        assert np.abs(parts[0] - parts[1]).max() > 1e-4
        for one in (atoms, *twins):
            one.positions[1] += 0.003
    assert committee.stats.n_cold == 2
    state = decode(encode(committee.get_state()))
    other = CommitteeCalculator(members, precision="float64", device="cpu", reuse="conservative")
    other.set_state(state)
    np.testing.assert_array_equal(other.evaluate(atoms.copy())["forces"], committee.evaluate(atoms)["forces"])
    assert other.stats.n_cold == 0


def test_direct_forces_start_from_earlier_steps_without_an_adjoint() -> None:
    config = make_potential().config
    direct = build_potential({**config, "heads": [*config["heads"], {"name": "direct_forces"}]}, seed=1)
    reused, cold, atoms = calculator(direct, reuse=Reuse(tolerance=1e-2)), calculator(direct, reuse="none"), water()
    assert cold.history_free
    assert not reused.history_free
    for step in range(8):
        found, exact = reused.evaluate(atoms)["forces"], cold.evaluate(atoms)["forces"]
        assert np.abs(found - exact).max() < 1e-3 * np.abs(exact).max()
        atoms.positions[1] += 0.003 * np.sin(0.3 * step + np.arange(3))
    assert reused.stats.n_cold == 1
    assert reused.stats.n_adjoint == 0
    assert 0 < reused.stats.n_forward - reused.stats.cold_forward < 0.7 * (cold.stats.n_forward - 12)


@pytest.mark.slow
def test_a_compiled_step_with_direct_forces() -> None:
    config = make_potential().config
    direct = build_potential({**config, "heads": [*config["heads"], {"name": "direct_forces"}]}, seed=1)
    eager, compiled = calculator(direct), calculator(direct, compile=True)
    one, other = water(), water()
    for _ in range(4):
        found, expected = compiled.evaluate(other)["forces"], eager.evaluate(one)["forces"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)
        for atoms in (one, other):
            atoms.positions[1] += 0.003
    assert compiled.stats.n_cold == 1


def test_no_global_state_and_no_gradients_left() -> None:
    calc, atoms = calculator(), water()
    with torch.no_grad():
        for _ in range(3):
            calc.evaluate(atoms)
            atoms.positions[1] += 0.003
    runs = calc._caches[0]._runs
    assert len(runs) == 1
    past = runs[0][1].past
    assert not any(tensor.requires_grad for tensor in (*past.solutions, *past.embeddings))


def test_a_restart_with_charges_makes_no_step_twice() -> None:
    calc, atoms = calculator(), water()
    atoms.set_initial_charges([0.1, -0.05, -0.05])
    with pytest.warns(UserWarning, match="charge"):
        calc.evaluate(atoms)
    resumed = calculator()
    resumed.set_state(decode(encode(calc.get_state())))
    again = atoms.copy()
    again.calc = resumed
    with pytest.warns(UserWarning, match="charge"):
        np.testing.assert_array_equal(again.get_forces(), calc.results["forces"])
    assert resumed.stats.n_calls == 0


def test_an_adjoint_that_is_not_finite_is_solved_again() -> None:
    calc, atoms = calculator(), water()
    calc.evaluate(atoms)
    ((_, memory),) = calc._caches[0]._runs
    memory.past.solutions[0][1].fill_(float("nan"))
    atoms.positions[1] += 0.002
    found = calc.evaluate(atoms)
    assert calc.stats.n_retries == 1
    expected = calculator(reuse="none").evaluate(atoms)["forces"]
    np.testing.assert_allclose(found["forces"], expected, rtol=0.0, atol=1e-7 * np.abs(expected).max())


def test_cold_steps_of_a_fixed_number() -> None:
    """If the fixed number is not enough, a cold solve to the tolerance is made."""
    calc, atoms = calculator(reuse=Reuse("none", 2, 2, kept=0, tolerance=1e-6)), water()
    for _ in range(2):
        calc.evaluate(atoms)
        atoms.positions[1] += 0.002
    assert (calc.stats.n_cold, calc.stats.n_retries) == (2, 1)
    with pytest.raises(OptionError, match="uses no earlier steps"):
        Reuse("none", window=4)


def test_exported_steps_refuse_predictors_they_do_not_have() -> None:
    potential = load_potential("ethanol_deq")
    for name in ("linear", "quadratic", "cubic", "aspc2", "aspc3", "reversible", "reversible5"):
        with pytest.raises(OptionError, match=f"predictor '{name}' of reuse is not part of exported steps"):
            stepping_of(Reuse(predictor=name), potential)
    with pytest.raises(OptionError, match=r"window = 8 of reuse: an exported step .* looks back 4 steps and no more"):
        stepping_of(Reuse(window=8), potential)
    for name, window in (("previous", 1), ("least_squares4", 4), ("least_squares6", 6)):
        found = stepping_of(Reuse(predictor=name), potential)
        assert found is not None
        assert found.sizes.window == window


def test_the_reach_of_warm_starts_is_an_option() -> None:
    """An atom that moves farther than the reach starts a cold solve, and exported files contain the same policy."""
    near = Reuse(warm=WarmStart(reach=0.01))
    for mode, n_cold in ((Reuse(), 1), (near, 2)):
        calc, atoms = calculator(reuse=mode), water()
        atoms.calc = calc
        atoms.get_forces()
        atoms.positions[1] += 0.02
        atoms.get_forces()
        assert calc.stats.n_cold == n_cold
    stepping = stepping_of(near, load_potential("ethanol_deq"))
    assert stepping is not None
    assert stepping.warm == near.warm
