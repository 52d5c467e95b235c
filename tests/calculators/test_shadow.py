"""Shadow dynamics: fields are solved where a run begins, follow the atoms afterwards, and survive a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.io import read
from ase.md.verlet import VelocityVerlet

from mlff_calc import CommitteeCalculator, MLFFCalculator, Shadow, relax, run_md
from mlff_calc.dynamics.velocities import set_maxwell_velocities
from mlff_calc.errors import ConvergenceError, OptionError
from mlff_calc.graph import graph_from_atoms
from mlff_calc.potential import Potential, build_potential, load_potential
from mlff_calc.potential.shadow import solve_fields

KNOWN = 6  # steps that the rule needs with the default friction


def make(**changes: object) -> Potential:
    backbone = {"name": "hegnn", "cutoff": 4.0, "l_max": 1, "channels": 8, "n_layers": 1}
    config = {"backbone": backbone, "elements": ["H", "C", "O"], "fields": {"products": 60}}
    return build_potential({**config, **changes}, seed=3)


def calculator(reuse: str | Shadow = "shadow", **changes: object) -> MLFFCalculator:
    return MLFFCalculator(make(**changes), precision="float64", domain="off", reuse=reuse)


def positions(k: float, size: float = 0.1) -> np.ndarray:
    """Positions of ethanol whose atoms move smoothly with k, as in a trajectory."""
    generator = np.random.default_rng(0)
    sizes, phases = generator.normal(scale=size, size=(9, 3)), generator.uniform(0, 6, size=(9, 3))
    return molecule("CH3CH2OH").positions + sizes * np.sin(0.1 * k + phases)


def test_fields_are_solved_and_then_followed() -> None:
    shadow, solved, residuals = calculator(), calculator("none"), []
    atoms, other = molecule("CH3CH2OH"), molecule("CH3CH2OH")
    atoms.calc, other.calc = shadow, solved
    for k in range(40):
        atoms.positions = other.positions = positions(k)
        error = np.abs(atoms.get_forces() - other.get_forces()).max()
        assert error < (1e-8 if k < KNOWN else 1e-2)
        residuals.append(shadow.stats.residual)
    assert shadow.stats.n_cold == KNOWN
    assert shadow.stats.n_forward - shadow.stats.cold_forward == 40 - KNOWN
    assert max(residuals[:KNOWN]) < 1e-10
    assert 1e-5 < np.mean(residuals[KNOWN:]) < 1e-2


def test_a_second_product_squares_the_error() -> None:
    found = []
    for products in (1, 2):
        shadow, solved, errors = calculator(Shadow(products=products)), calculator("none"), []
        atoms, other = molecule("CH3CH2OH"), molecule("CH3CH2OH")
        atoms.calc, other.calc = shadow, solved
        for k in range(30):
            atoms.positions = other.positions = positions(k)
            errors.append(np.abs(atoms.get_forces() - other.get_forces()).max())
        found.append(np.mean(errors[KNOWN:]))
    assert found[1] < 0.2 * found[0]


def test_jumps_turns_and_other_structures_begin_anew() -> None:
    shadow, atoms = calculator(), molecule("CH3CH2OH")
    atoms.calc = shadow
    for k in range(10):
        atoms.positions = positions(k)
        atoms.get_potential_energy()
    assert shadow.stats.n_cold == KNOWN
    atoms.positions = positions(9) + np.eye(9, 3)  # a jump of some atoms by 1 Angstrom
    atoms.get_potential_energy()
    assert shadow.stats.n_cold == KNOWN + 1
    for k in (11, 12, 11, 12, 11, 12, 11, 12):  # back and forth, as in a line search
        atoms.positions = positions(k)
        atoms.get_potential_energy()
    assert shadow.stats.n_cold == KNOWN + 9
    water = molecule("H2O")
    water.calc = shadow
    water.get_potential_energy()
    assert shadow.stats.n_cold == KNOWN + 10


def test_relaxations_have_exact_forces() -> None:
    from ase.optimize import BFGS

    runs = []
    for reuse in ("shadow", "none"):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.02, seed=1)
        atoms.calc = calculator(reuse, repulsion={"name": "zbl", "reach": 1.5})
        optimizer = BFGS(atoms, logfile=None, maxstep=0.02)
        optimizer.run(fmax=1e-9, steps=40)
        runs.append(atoms.positions)
    np.testing.assert_allclose(runs[0], runs[1], rtol=0, atol=1e-4)
    shadowed = atoms.copy()
    shadowed.calc = calculator()
    with pytest.raises(OptionError, match="reuse='shadow' in a relaxation"):
        relax(shadowed)


def test_one_large_step_is_solved_and_the_run_goes_on() -> None:
    atoms = molecule("CH3CH2OH")
    atoms.calc = calculator(Shadow(limit=3e-3))
    times = [*range(20), *range(21, 40)]  # one step of twice the length
    for k in times:
        atoms.positions = positions(k)
        atoms.get_potential_energy()
    stats = atoms.calc.stats
    assert stats.n_retries == 1
    assert stats.n_cold == 2 * KNOWN


def test_the_command_refuses_shadow_dynamics_in_relaxations(
    tmp_path: Path, mlff: Callable[..., CompletedProcess[str]]
) -> None:
    make().save(tmp_path / "potential")
    molecule("CH3CH2OH").write(tmp_path / "e.xyz")
    said = mlff("relax", "potential", "e.xyz", "--reuse", "shadow", cwd=tmp_path)
    assert said.returncode != 0
    assert "reuse='shadow' in a relaxation" in said.stderr
    assert "step" not in said.stderr.splitlines()[0].split("mlff:")[0]
    assert {path.name for path in tmp_path.iterdir()} == {"potential", "e.xyz"}


def test_too_large_steps_stop_with_the_cure() -> None:
    atoms, other = molecule("CH3CH2OH"), molecule("CH3CH2OH")
    atoms.calc = other.calc = calculator(Shadow(limit=1e-3))

    def run() -> None:
        for k in range(100):
            other.positions = positions(0.1 * k)  # a slow run of the same calculator, which is not to blame
            other.get_potential_energy()
            atoms.positions = positions(2 * k)
            atoms.get_potential_energy()

    with pytest.raises(ConvergenceError, match=r"shorten the time step, take Shadow\(products=2\)") as caught:
        run()
    assert atoms.calc.stats.n_retries == 3
    assert caught.value.residuals[0] > 1e-3


@pytest.mark.parametrize("bound", [4.0, 16.0])
def test_couplings_with_eigenvalues_below_minus_one(bound: float) -> None:
    """Fields that alternate between two values are found by half steps; far below -1 not even these converge."""
    potential = make(fields={"bound": bound})
    fields = potential.fields
    assert fields is not None
    fields.source.weight.data *= 0.01
    fields.couplings.coefficients.bias.data.fill_(-50.0)
    atoms = molecule("CH3CH2OH")
    atoms.calc = MLFFCalculator(potential, precision="float64", domain="off", reuse="shadow")
    if bound < 10.0:
        atoms.get_potential_energy()
        assert atoms.calc.stats.residual < 1e-10
        assert solve_fields(potential.to_precision("float64"), graph_from_atoms(atoms, 4.0), 1e-12, 20)[1] > 1e-2
    else:
        with pytest.raises(ConvergenceError, match="Couplings with bound 16 need not converge"):
            atoms.get_potential_energy()


def test_a_restart_continues_bit_for_bit() -> None:
    first, second = calculator(), calculator()
    atoms = molecule("CH3CH2OH")
    atoms.calc = first
    for k in range(12):
        atoms.positions = positions(k)
        atoms.get_potential_energy()
    state = first.get_state()
    other = atoms.copy()
    other.calc = second
    second.set_state(state)
    for k in range(12, 20):
        atoms.positions = other.positions = positions(k)
        assert np.array_equal(atoms.get_forces(), other.get_forces())
    assert second.stats.n_cold == 0
    assert not first.history_free


def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path) -> None:
    make(scale=0.02).save(tmp_path / "potential")
    finals = []
    for name, parts in (("whole", (20,)), ("parts", (12, 20))):
        for steps in parts:
            run_md(
                "CH3CH2OH", tmp_path / "potential", output=tmp_path / name, temperature=20, steps=steps, timestep=0.5,
                reuse="shadow", precision="float64", domain="off", traj_interval=4, seed=1, resume=steps != parts[0],
                ensemble="nve" if steps == parts[0] else None,
            )  # fmt: skip
        finals.append(read(tmp_path / name / "trajectory.traj").positions)
    assert np.array_equal(*finals)


@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_committees_and_single_precision(precision: str) -> None:
    members = [build_potential({**make().config}, seed=seed) for seed in (1, 2)]
    options = {"precision": precision, "domain": "off", "reuse": "shadow"}
    committee = CommitteeCalculator(members, **options)
    alone = [MLFFCalculator(member, **options) for member in members]
    atoms, twins = molecule("CH3CH2OH"), [molecule("CH3CH2OH") for _ in members]
    for k in range(12):
        for one in (atoms, *twins):
            one.positions = positions(k)
        parts = [calc.evaluate(twin)["forces"] for calc, twin in zip(alone, twins, strict=True)]
        np.testing.assert_allclose(committee.evaluate(atoms)["forces"], np.mean(parts, axis=0), rtol=0, atol=1e-6)
    assert committee.stats.n_cold == 2 * KNOWN
    assert committee.stats.residual < 1e-2


def test_a_cell_that_changes() -> None:
    """A crystal under slow strain is followed; its stress is that of solved fields to the error of the fields."""
    config = {"elements": ["H", "C", "O", "Si"]}
    shadow, solved = calculator(**config), calculator("none", **config)
    crystal = bulk("Si", cubic=True)
    crystal.rattle(0.1, seed=1)
    cell = crystal.cell.array.copy()
    for k in range(14):
        crystal.set_cell(cell * (1.0 + 0.002 * k), scale_atoms=True)
        found, exact = (calc.evaluate(crystal)["stress"] for calc in (shadow, solved))
    assert shadow.stats.n_cold == KNOWN
    assert np.abs(found - exact).max() < 1e-2 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"products": 0}, "products = 0 of Shadow; it must be a whole number from 1 to 100"),
        ({"products": 1.5}, "products = 1.5 of Shadow"),
        ({"limit": 0.0}, "limit = 0.0 of Shadow; it must be above 0 and at most 1"),
        ({"dissipation": 2}, "dissipation = 2 of a time-reversible predictor"),
    ],
)
def test_invalid_options(options: dict[str, float], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Shadow(**options)  # type: ignore[arg-type]


def test_the_error_of_the_shadow_energy_on_demand() -> None:
    shadow, atoms, plain = calculator(), molecule("CH3CH2OH"), calculator("none")
    atoms.calc = shadow
    with pytest.raises(OptionError, match=r"shadow_error\(\) needs reuse='shadow' and a structure.*no result"):
        shadow.shadow_error()
    for k in range(10):
        atoms.positions = positions(k)
        energy = atoms.get_potential_energy()
    counts = shadow.stats.as_dict()
    error = shadow.shadow_error()
    assert {name: value for name, value in shadow.stats.as_dict().items() if name != "neighbors_s"} == {
        name: value for name, value in counts.items() if name != "neighbors_s"
    }
    other = atoms.copy()
    other.calc = plain
    assert error == pytest.approx(energy - other.get_potential_energy(), abs=1e-9)
    assert 1e-10 < abs(error) < 1e-3
    with pytest.raises(OptionError, match=r"this calculator has reuse='none' and a result"):
        plain.shadow_error()


def test_other_potentials_and_other_modes_are_refused() -> None:
    with pytest.raises(OptionError, match="reuse='shadow' needs a potential with fields"):
        calculator(fields=None)
    with pytest.raises(OptionError, match=r"reuse='fast' needs a potential with a fixed point.*take 'shadow'"):
        calculator("fast")
    with pytest.raises(OptionError, match="choose one of auto, conservative, fast, shadow, none"):
        calculator("shadows")


@pytest.mark.parametrize("products", [1, 2])
def test_the_shadow_energy_is_conserved(products: int) -> None:
    """One product a step, 500 K: the drift is that of solved fields, and far below their error."""
    potential, runs = load_potential("ethanol_fields"), {}
    for reuse in ("none", Shadow(products=products)):
        atoms = molecule("CH3CH2OH")
        atoms.calc = MLFFCalculator(potential, precision="float64", domain="off", reuse=reuse)
        set_maxwell_velocities(atoms, 500.0, seed=0)
        energies: list[float] = []
        dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
        dynamics.attach(lambda atoms=atoms, energies=energies: energies.append(atoms.get_total_energy()))
        dynamics.run(400)
        per_atom = 1e3 * np.array(energies[10:]) / len(atoms)
        runs[str(reuse)] = abs(np.polyfit(0.5e-3 * np.arange(len(per_atom)), per_atom, 1)[0]), np.ptp(per_atom)
    (drift, spread), (shadow_drift, shadow_spread) = runs.values()
    assert shadow_drift < drift + 0.1
    assert shadow_spread < 1.2 * spread


def test_a_structure_without_neighbours() -> None:
    atom = Atoms("O")
    atom.calc = calculator()
    for k in range(3):
        atom.positions[0, 0] = 0.01 * k
        assert np.isfinite(atom.get_potential_energy())
