"""Fixed points in `pair_style mlff`: memories follow atoms through sorting, between ranks and into restart files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .conftest import HEAD, Engine, Result, noble, write_data
from .models import save_contraction

pytestmark = pytest.mark.lammps

EXTRA = "c_c[1] c_c[2] c_c[3] c_c[4] c_c[5]"
COMPUTE = "compute c all pair mlff\n"
DYNAMICS = f"{COMPUTE}neighbor 0.3 bin\nneigh_modify every 1 delay 0\nfix 1 all nve\ntimestep 0.002\nthermo 1\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contractions")
    save_contraction(folder / "float64.pt")
    save_contraction(folder / "float32.pt", dtype="float32")
    save_contraction(folder / "diverges.pt", strength=8.0)
    return folder


def style(file: Path, options: str = "") -> str:
    """Return commands of an attractive fixed point with Lennard-Jones, which keeps atoms apart."""
    return (
        f"pair_style hybrid/overlay mlff {options} lj/smooth/linear 8.0\n"
        f"pair_coeff * * mlff {file} Ar Ne\npair_coeff * * lj/smooth/linear 0.0104 3.4\n"
    )


def moving(engine: Engine, file: Path, options: str = "") -> str:
    write_data(noble(noise=0.05), engine.folder / "atoms.data", [18, 10], temperature_K=300.0)
    return f"{HEAD}read_data atoms.data\n{style(file, options)}{DYNAMICS}"


def evaluations(result: Result) -> np.ndarray:
    return result.thermo["c_c[1]"]


def test_the_solution_is_that_of_the_linear_system(engine: Engine, files: Path) -> None:
    """The energy equals E = a . (1 - W)^-1 b, solved by numpy with ASE's neighbour list."""
    from ase.neighborlist import neighbor_list

    from .models import Contraction

    atoms = noble((3, 3, 3))
    write_data(atoms, engine.folder / "atoms.data", [18, 10])
    module = Contraction(4.5)
    i, j, r = neighbor_list("ijd", atoms, 4.5)
    matrix = np.zeros((len(atoms), len(atoms)))
    np.add.at(matrix, (i, j), module.strength * (1 - (r / 4.5) ** 2) ** 3)
    z = np.linalg.solve(np.eye(len(atoms)) - matrix, module.sources[atoms.numbers].numpy())
    head = f"{HEAD}read_data atoms.data\npair_style mlff\npair_coeff * * {files / 'float64.pt'} Ar Ne\n{COMPUTE}"
    for n_ranks in (1, 4):
        found = engine.run(f"{head}#RUN\nrun 0\n", n_ranks, extra=EXTRA)
        assert found.energy == pytest.approx(float((z @ module.readout.numpy()).sum()), abs=1e-9)
        assert evaluations(found)[0] > 8  # the first step is cold
        assert found.thermo["c_c[5]"][0] == 1
        assert max(found.thermo["c_c[3]"][0], found.thermo["c_c[4]"][0]) <= 1e-13


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_memories_go_with_atoms(engine: Engine, files: Path, dtype: str) -> None:
    """Two ranks need the same evaluations with migrations and rebuilds, and fewer than cold starts."""
    text = moving(engine, files / f"{dtype}.pt") + "atom_modify sort 7 4.0\n#RUN\nrun 30\n"
    one, two = engine.run(text, 1, extra=EXTRA), engine.run(text, 2, extra=EXTRA)
    builds = [int(line.split("=")[1]) for line in two.text.splitlines() if line.startswith("Neighbor list builds")]
    assert builds[0] >= 3
    np.testing.assert_array_equal(evaluations(one), evaluations(two))
    np.testing.assert_allclose(two.thermo["TotEng"], one.thermo["TotEng"], atol=1e-8)
    assert (evaluations(one)[1:] < evaluations(one)[0]).all()
    assert one.thermo["c_c[5]"][-1] == 1  # only the first start is cold
    cold = engine.run(moving(engine, files / f"{dtype}.pt", "reset yes") + "#RUN\nrun 30\n", 2, extra=EXTRA)
    assert (evaluations(cold) == evaluations(one)[0]).all()
    assert cold.thermo["c_c[5]"][-1] == 31
    assert cold.energy == pytest.approx(one.energy, abs=1e-9 if dtype == "float64" else 1e-5)


def test_restart_files_hold_the_memories(engine: Engine, files: Path) -> None:
    """Files written by two ranks are read by one and four. No step is cold, and the run continues unchanged."""
    file = files / "float32.pt"
    whole = engine.run(moving(engine, file) + "#RUN\nrun 12\nwrite_restart half.restart\nrun 5\n", 2, extra=EXTRA)
    text = f"{HEAD}read_restart half.restart\n{style(file)}{DYNAMICS}#RUN\nrun 5\n"
    for n_ranks in (1, 4):
        found = engine.run(text, n_ranks, extra=EXTRA)
        assert found.thermo["c_c[5]"][-1] == 0
        np.testing.assert_array_equal(evaluations(found)[1:], evaluations(whole)[-5:])
        assert found.energy == pytest.approx(whole.energy, abs=1e-9)
        assert np.abs(found.forces - whole.forces).max() < 1e-9


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_replicate_begins_cold(engine: Engine, files: Path, n_ranks: int) -> None:
    """After `replicate`, solves are cold and give twice the energy of one box, also with memories from a restart file."""
    write_data(noble((3, 3, 3)), engine.folder / "atoms.data", [18, 10])
    coefficients = f"pair_style mlff\npair_coeff * * {files / 'float64.pt'} Ar Ne\n{COMPUTE}"
    head = f"{HEAD}read_data atoms.data\n{coefficients}"
    one = engine.run(f"{head}#RUN\nrun 0\nwrite_restart one.restart\n", n_ranks, extra=EXTRA)
    restarted = f"{HEAD}read_restart one.restart\nreplicate 2 1 1\n{coefficients}"
    again = f"{head}run 0\npair_coeff * * {files / 'float64.pt'} Ar Ne\nreplicate 2 1 1\n"
    for text in (f"{head}replicate 2 1 1\n", restarted, again):
        found = engine.run(f"{text}#RUN\nrun 0\n", n_ranks, extra=EXTRA)
        assert found.energy == pytest.approx(2 * one.energy, abs=1e-9)
        np.testing.assert_allclose(found.forces[: len(one.forces)], one.forces, rtol=0, atol=1e-9)
        assert found.thermo["c_c[5]"][-1] == 1
        assert evaluations(found)[-1] > 8


def test_a_restart_file_of_another_potential_is_cold(engine: Engine, files: Path) -> None:
    engine.run(moving(engine, files / "float32.pt") + "#RUN\nrun 2\nwrite_restart half.restart\n", extra=EXTRA)
    other = f"{HEAD}read_restart half.restart\n{style(files / 'float64.pt')}{DYNAMICS}#RUN\nrun 2\n"
    found = engine.run(other, 2, extra=EXTRA)
    assert found.thermo["c_c[5]"][-1] == 1
    assert max(found.thermo["c_c[3]"]) <= 1e-13


def test_a_jump_and_a_new_atom_begin_cold(engine: Engine, files: Path) -> None:
    text = moving(engine, files / "float64.pt") + (
        "#RUN\nrun 2\nset atom 7 x 5.0 y 5.0 z 2.9\ndisplace_atoms all random 0.01 0.01 0.01 5\nrun 1\n"
        "create_atoms 2 single 2.6 2.6 2.6\nrun 1\ndelete_atoms overlap 1.0 all all\nrun 1\n"
    )
    write_data(noble(noise=0.0), engine.folder / "atoms.data", [18, 10], temperature_K=10.0)
    found = engine.run(text, 2, extra=EXTRA)
    cold = found.thermo["c_c[5]"]
    assert cold[2] == 1
    assert cold[3] == 2  # after the jump
    assert cold[5] == 3  # after the new atom
    assert cold[-1] == 3  # a removed atom is no reason for a cold start
    assert max(found.thermo["c_c[3]"]) <= 1e-13


def test_the_file_determines_when_a_start_is_warm(engine: Engine, files: Path, tmp_path: Path) -> None:
    """The reach in the file decides which steps start cold, and its patience when a solve without progress ends."""
    near = save_contraction(tmp_path / "near.pt", warm={"reach": 1e-6})
    found = engine.run(moving(engine, near) + "#RUN\nrun 5\n", extra=EXTRA)
    assert found.thermo["c_c[5]"][-1] == 6
    text = f"{HEAD}read_data atoms.data\npair_style mlff\npair_coeff * * {{}} Ar Ne\nrun 0\n"
    hasty = save_contraction(tmp_path / "hasty.pt", strength=8.0, warm={"cold_patience": 1})
    write_data(noble(), engine.folder / "atoms.data", [18, 10])
    assert "after 6 calls" in engine.refusal(text.format(files / "diverges.pt"), 1)
    assert "after 3 calls" in engine.refusal(text.format(hasty), 1)


def test_the_same_frame_again_needs_one_call(engine: Engine, files: Path) -> None:
    found = engine.run(moving(engine, files / "float64.pt") + "#RUN\nrun 3\nrun 0\n", extra=EXTRA)
    assert evaluations(found)[-1] == 4


def test_tolerance_of_the_input(engine: Engine, files: Path) -> None:
    loose = engine.run(moving(engine, files / "float64.pt", "tolerance 1e-4") + "#RUN\nrun 5\n", extra=EXTRA)
    tight = engine.run(moving(engine, files / "float64.pt") + "#RUN\nrun 5\n", extra=EXTRA)
    assert evaluations(loose).sum() < evaluations(tight).sum()
    assert 1e-13 < loose.thermo["c_c[3]"].max() <= 1e-4


def test_lammps_stops_without_a_fixed_point(engine: Engine, files: Path) -> None:
    write_data(noble(), engine.folder / "atoms.data", [18, 10])
    head = f"{HEAD}read_data atoms.data\npair_style mlff\npair_coeff * * {files / 'diverges.pt'} Ar Ne\nrun 0\n"
    for n_ranks in (1, 2):
        said = engine.refusal(head, n_ranks)
        assert "no fixed point in step 0" in said
        assert "tolerance 1e-13" in said
