"""A deep equilibrium in dynamics of LAMMPS: evaluations as in Python, on any number of ranks, and after restarts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.calculators.reuse import Reuse
from mlff_calc.calculators.stepping import stepping_of
from mlff_calc.export import export_potential
from mlff_calc.potential import build_potential, fixed_point_step, load_potential
from mlff_calc.potential.fixed_point import FixedPointPotential

from .conftest import HEAD, Engine, Result, setup, write_data

pytestmark = pytest.mark.lammps

EXTRA = "c_c[1] c_c[2] c_c[3] c_c[4] c_c[5]"
NVE = "neighbor {} bin\nneigh_modify every 1 delay 0\nfix 1 all nve\ntimestep 0.0005\nthermo {}\n"
DYNAMICS = "compute c all pair mlff\n" + NVE.format(0.1, 1)
N_STEPS = 20
TIGHT = 1e-9
"""Tolerance that needs more than one call in the first steps of a run, so that counts can differ."""


def small_deq(block: str = "equiformer", prelude: int = 0, scale: float = 0.3) -> FixedPointPotential:
    """Make a deep equilibrium with a contractive map and random weights."""
    backbone = {
        "name": "deq", "block": block, "prelude": prelude,
        "cutoff": 4.0, "l_max": 1, "channels": 8, "tolerance": 1e-4, "avg_num_neighbors": 16.0,
    }  # fmt: skip
    config = {"backbone": backbone, "elements": ["Si"], "repulsion": {"name": "zbl", "reach": 1.0}}
    potential = build_potential(config, seed=3).to_precision("float64").eval()
    with torch.no_grad():
        potential.backbone.map.scale(scale)
    return potential


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("deq") / "deq.pt"
    potential = small_deq()
    export_potential(potential, path, to="lammps", stepping=stepping_of("conservative", potential))
    return path


@pytest.fixture(scope="module")
def without_sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the same network with a copy in place of the sum over ranks."""
    path = tmp_path_factory.mktemp("broken") / "deq.pt"
    potential = small_deq()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixed_point_step, "all_sum", torch.clone)
        export_potential(potential, path, to="lammps", stepping=stepping_of("conservative", potential))
    return path


def crystal(repeat: tuple[int, int, int] = (2, 2, 2)) -> Atoms:
    atoms = bulk("Si", cubic=True) * repeat
    atoms.positions += np.random.default_rng(8).normal(scale=0.03, size=(len(atoms), 3))
    return atoms


def moving(engine: Engine, file: Path, options: str = "") -> str:
    """Return the first commands of a run at 300 K."""
    write_data(crystal(), engine.folder / "atoms.data", [14], temperature_K=300.0)
    return setup(f"pair_style mlff {options}", str(file), ["Si"]) + DYNAMICS


def evaluations(result: Result) -> np.ndarray:
    """Return the evaluations of f and of its adjoint by step."""
    return np.stack([result.thermo["c_c[1]"], result.thermo["c_c[2]"]], axis=1)


def residuals(result: Result) -> np.ndarray:
    return np.stack([result.thermo["c_c[3]"], result.thermo["c_c[4]"]], axis=1)


def frames(path: Path, n_atoms: int) -> list[np.ndarray]:
    """Return the rows of a sorted dump by frame."""
    blocks = path.read_text().split("ITEM: ATOMS")[1:]
    return [np.loadtxt(block.splitlines()[1 : 1 + n_atoms]) for block in blocks]


def counted(atoms: Atoms, positions: list[np.ndarray], reuse: str | Reuse) -> tuple[np.ndarray, np.ndarray]:
    """Return evaluations of f by step, and energies, of `MLFFCalculator` along a trajectory."""
    atoms.calc = MLFFCalculator(small_deq(), precision="float64", device="cpu", reuse=reuse)
    counts, energies = [], []
    for place in positions:
        atoms.calc.stats.reset()
        atoms.positions = place
        energies.append(atoms.get_potential_energy())
        counts.append((atoms.calc.stats.n_forward, atoms.calc.stats.n_adjoint))
    return np.array(counts), np.array(energies)


def compare_with_one_rank(engine: Engine, file: Path, n_ranks: int) -> tuple[Result, Result]:
    text = moving(engine, file, f"tolerance {TIGHT}") + f"#RUN\nrun {N_STEPS}\n"
    one, more = engine.run(text, 1, extra=EXTRA), engine.run(text, n_ranks, extra=EXTRA)
    np.testing.assert_array_equal(evaluations(more), evaluations(one))
    assert len(set(evaluations(one)[1:, 0])) > 1
    np.testing.assert_allclose(more.thermo["PotEng"], one.thermo["PotEng"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(more.thermo["TotEng"], one.thermo["TotEng"], rtol=0, atol=1e-8)
    assert (more.thermo["c_c[5]"] == 1).all()
    return one, more


@pytest.mark.parametrize(
    ("options", "reuse"),
    [("", "conservative"), (f"tolerance {TIGHT}", Reuse(tolerance=TIGHT))],
    ids=["conservative", "tight"],
)
def test_evaluations_are_those_of_the_calculator(
    engine: Engine, exported: Path, options: str, reuse: str | Reuse
) -> None:
    """Counts agree along the positions of LAMMPS, except in the first step, which Python solves by another solver."""
    dump = "dump d all custom 1 all.dump id xu yu zu\ndump_modify d sort id format float %.16g\n"
    text = moving(engine, exported, options) + dump + f"#RUN\nrun {N_STEPS}\nundump d\n"
    found = engine.run(text, 2, extra=EXTRA)
    positions = [rows[:, 1:4] for rows in frames(engine.folder / "all.dump", 64)]
    assert len(positions) == N_STEPS + 1
    counts, energies = counted(crystal(), positions, reuse)
    np.testing.assert_allclose(evaluations(found)[1:].mean(axis=0), counts[1:].mean(axis=0), rtol=0.1)
    assert (evaluations(found)[1:] < evaluations(found)[0]).all()
    np.testing.assert_allclose(found.thermo["PotEng"], energies, rtol=0, atol=1e-6)


def test_two_ranks_are_as_one(engine: Engine, exported: Path) -> None:
    compare_with_one_rank(engine, exported, 2)


def test_a_prelude_on_two_ranks(engine: Engine, tmp_path: Path) -> None:
    """Layers before the fixed point exchange features of ghosts, and their gradients, once in a step."""
    potential = small_deq("hegnn", prelude=1, scale=1.5)
    export_potential(potential, tmp_path / "deq.pt", to="lammps", stepping=stepping_of("conservative", potential))
    compare_with_one_rank(engine, tmp_path / "deq.pt", 2)


@pytest.mark.slow
def test_four_ranks_are_as_one(engine: Engine, exported: Path) -> None:
    compare_with_one_rank(engine, exported, 4)


@pytest.mark.slow
def test_without_sums_the_counts_of_ranks_differ(engine: Engine, exported: Path, without_sums: Path) -> None:
    """The comparison above detects a network that sums only over the atoms of a rank."""
    right = engine.run(moving(engine, exported) + "#RUN\nrun 10\n", extra=EXTRA)
    text = moving(engine, without_sums) + "#RUN\nrun 10\n"
    one, two = engine.run(text, extra=EXTRA), engine.run(text, 2, extra=EXTRA)
    np.testing.assert_array_equal(evaluations(one), evaluations(right))
    np.testing.assert_allclose(residuals(one), residuals(right), rtol=1e-6)
    assert (np.abs(residuals(two) / residuals(right) - 1.0) > 1e-3).all()


def test_a_restart_continues_exactly(engine: Engine, exported: Path) -> None:
    """The restart file is written while the number of evaluations is still decreasing."""
    whole = moving(engine, exported, f"tolerance {TIGHT}") + "#RUN\nrun 4\nwrite_restart half.restart\nrun 15\n"
    unbroken = engine.run(whole, 2, extra=EXTRA)
    style = f"pair_style mlff tolerance {TIGHT}\npair_coeff * * {exported} Si\n"
    text = f"{HEAD}read_restart half.restart\n{style}{DYNAMICS}#RUN\nrun 15\n"
    for n_ranks in (1, 2):
        found = engine.run(text, n_ranks, extra=EXTRA)
        assert (found.thermo["c_c[5]"] == 0).all()
        np.testing.assert_array_equal(evaluations(found)[2:], evaluations(unbroken)[-14:])
        np.testing.assert_allclose(found.thermo["TotEng"][1:], unbroken.thermo["TotEng"][-15:], rtol=0, atol=1e-8)


def test_ranks_without_atoms(engine: Engine, exported: Path) -> None:
    """A slab lies at the bottom of a tall box; the upper ranks have no atoms, but take part in every sum."""
    atoms = crystal()
    atoms.cell[2, 2] = 60.0
    atoms.positions[:, 2] += 3.0
    write_data(atoms, engine.folder / "atoms.data", [14], temperature_K=300.0)
    head = setup("pair_style mlff", str(exported), ["Si"], boundary="p p f").replace(
        "read_data", "processors 1 1 *\nread_data"
    )
    text = head + DYNAMICS + "#RUN\nrun 5\n"
    one, two = engine.run(text, extra=EXTRA), engine.run(text, 2, extra=EXTRA)
    assert "0 min" in " ".join(line for line in two.text.splitlines() if line.startswith("Nlocal"))
    np.testing.assert_array_equal(evaluations(two), evaluations(one))
    np.testing.assert_allclose(two.thermo["PotEng"], one.thermo["PotEng"], rtol=0, atol=1e-8)
    assert np.abs(two.forces - one.forces).max() < 1e-8


@pytest.fixture(scope="module")
def explicit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a network with two layers of message passing and random weights."""
    path = tmp_path_factory.mktemp("explicit") / "explicit.pt"
    backbone = {"name": "equiformer", "cutoff": 4.0, "l_max": 1, "channels": 8, "n_layers": 2}
    config = {"backbone": backbone, "elements": ["Si"], "repulsion": {"name": "zbl", "reach": 1.0}}
    export_potential(build_potential(config, seed=3).to_precision("float64").eval(), path, to="lammps")
    return path


def builds(result: Result) -> int:
    """Return the number of neighbour lists built in the last run."""
    return [int(line.split("=")[1]) for line in result.text.splitlines() if line.startswith("Neighbor list builds")][-1]


@pytest.mark.slow
def test_a_thousand_steps_with_migrations(engine: Engine, explicit: Path) -> None:
    """Potential and total energies of all logged steps agree with those of one rank to 1e-8 eV."""
    write_data(crystal((3, 3, 3)), engine.folder / "atoms.data", [14], temperature_K=900.0)
    dump = "dump p all custom 1000 proc.dump id proc\ndump_modify p sort id\n"
    text = setup("pair_style mlff", str(explicit), ["Si"]) + NVE.format(0.3, 50) + dump
    one = engine.run(text + "#RUN\nrun 1000\n")
    assert np.ptp(one.thermo["PotEng"]) > 1.0  # the forces matter
    for n_ranks in (2, 4):
        found = engine.run(text + "#RUN\nrun 1000\n", n_ranks)
        first, last = (rows[:, 1] for rows in frames(engine.folder / "proc.dump", 216))
        assert builds(found) >= 10
        assert (first != last).sum() >= 5
        np.testing.assert_allclose(found.thermo["PotEng"], one.thermo["PotEng"], rtol=0, atol=1e-8)
        np.testing.assert_allclose(found.thermo["TotEng"], one.thermo["TotEng"], rtol=0, atol=1e-8)


@pytest.mark.slow
def test_resident_memory_stays(engine: Engine) -> None:
    """The memory of LAMMPS changes by less than 2 % between steps 2000 and 10,000 of a molecule."""
    export_potential(load_potential("ethanol"), engine.folder / "ethanol.pt", to="lammps")
    atoms = molecule("CH3CH2OH", cell=[20.0] * 3, pbc=True)
    atoms.center()
    write_data(atoms, engine.folder / "atoms.data", [8, 6, 1], temperature_K=300.0)
    note = "shell 'grep VmRSS /proc/$PPID/status >> resident.txt'\n"
    head = setup("pair_style mlff", "ethanol.pt", ["O", "C", "H"]) + NVE.format(2.0, 1000)
    engine.run(f"{head}#RUN\nrun 2000\n{note}run 8000\n{note}")
    early, late = (int(line.split()[1]) for line in (engine.folder / "resident.txt").read_text().splitlines())
    assert abs(late - early) < 0.02 * early
