"""`mlff predict`: Fock matrices and potentials, in batches; bad input; runs that are killed."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.io import read, write

pytest.importorskip("pyscf")

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.datasets.matrix_files import MatrixFile
from mlff_calc.electronic import predict_properties
from mlff_calc.electronic.hamiltonian import build_hamiltonian, load_hamiltonian
from mlff_calc.electronic.scf.labels import basis_of
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.training.predict import FramePrediction, Predictor, predict_file

from ..children import Child

Mlff = Callable[..., subprocess.CompletedProcess[str]]
NETWORK = {
    "l_max": 2, "channels": 4, "hidden": 6, "products": 2, "layers": 1, "scalars": 6, "n_basis": 6, "cutoff": 3.0,
    "pair_cutoff": 4.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a network near the Fock matrix of minao, and three waters."""
    folder = tmp_path_factory.mktemp("predict")
    level = {"basis": basis_of("sto-3g", [1, 8]), "settings": SCFSettings("pbe", "sto-3g", 0).to_dict()}
    network = build_hamiltonian(NETWORK | level, seed=0)
    network.scales.atom_scales *= 1e-3
    network.scales.pair_scales *= 1e-3
    network.save(folder / "fock")
    frames = []
    for k in range(3):
        frames.append(molecule("H2O"))
        frames[-1].rattle(0.02, seed=k)
        frames[-1].info["name"] = f"water {k}"
    write(folder / "water.extxyz", frames)
    return folder


def test_properties_of_all_frames_are_written(mlff: Mlff, work: Path) -> None:
    words = ("water.extxyz", "-o", "out.extxyz", "--batch-size", "2", "--energy", "--matrices", "out.h5")
    done = mlff("predict", "fock", *words, cwd=work)
    assert done.returncode == 0, done.stderr
    frames = read(work / "out.extxyz", ":")
    expected = predict_properties(load_hamiltonian(work / "fock"), frames, energy=True)
    matrices = MatrixFile(work / "out.h5")
    assert len(frames) == len(matrices) == 3
    for k, (atoms, one) in enumerate(zip(frames, expected, strict=True)):
        assert atoms.info["name"] == f"water {k}"
        assert atoms.get_potential_energy() == pytest.approx(one.energy * units.Hartree, abs=1e-4)
        assert atoms.info["gap"] == pytest.approx(atoms.info["lumo"] - atoms.info["homo"], abs=1e-10)
        assert atoms.info["orbital_energies"][4] == pytest.approx(atoms.info["homo"], abs=1e-10)
        assert atoms.info["homo"] == pytest.approx(one.properties.homo * units.Hartree, abs=1e-4)
        np.testing.assert_allclose(atoms.get_dipole_moment(), one.properties.dipole, atol=1e-5)
        np.testing.assert_allclose(atoms.arrays["loewdin_charges"], one.properties.loewdin_charges, atol=1e-5)
        np.testing.assert_allclose(atoms.arrays["mulliken_charges"], one.properties.mulliken_charges, atol=1e-5)
        np.testing.assert_allclose(matrices[k].fock, one.fock, atol=1e-5)
        np.testing.assert_allclose(matrices[k].initial, one.initial, atol=1e-5)
        np.testing.assert_allclose(matrices[k].overlap, one.overlap, atol=1e-6)


def test_cube_files_are_written_for_a_single_frame(mlff: Mlff, work: Path) -> None:
    done = mlff("predict", "fock", "water.extxyz", "-o", "one.extxyz", "--index", "1", "--cube", "homo,3", cwd=work)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (work / "one_cubes").iterdir()) == ["homo.cube", "orbital_3.cube"]
    words = ("--index", "2", "--cube", "lumo", "--overwrite")
    assert mlff("predict", "fock", "water.extxyz", "-o", "one.extxyz", *words, cwd=work).returncode == 0
    assert [file.name for file in (work / "one_cubes").iterdir()] == ["lumo.cube"]  # none of another frame
    done = mlff("predict", "fock", "water.extxyz", "-o", "two.extxyz", "--cube", "homo", cwd=work)
    assert done.returncode == 1
    assert "--cube is for a single frame, and there are 3" in done.stderr
    assert not (work / "two.extxyz").exists()


def test_potentials_give_energies_forces_and_stress(mlff: Mlff, tmp_path: Path) -> None:
    frames = [molecule("CH3CH2OH"), molecule("CH3CH2OH")]
    frames[0].rattle(0.02, seed=1)
    frames[0].set_cell([20.0, 20.0, 20.0])  # without periodicity, it is no volume
    frames[1].set_cell([7.0, 7.0, 7.0])
    frames[1].pbc = True
    frames[0].info["energy"] = -1.0
    write(tmp_path / "in.extxyz", frames)
    done = mlff("predict", "ethanol", "in.extxyz", "-o", "out.extxyz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for atoms, found in zip(frames, read(tmp_path / "out.extxyz", ":"), strict=True):
        atoms.calc = MLFFCalculator("ethanol")
        assert found.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-3)
        np.testing.assert_allclose(found.get_forces(), atoms.get_forces(), atol=1e-4)
        assert ("stress" in found.calc.results) == atoms.pbc.all()
    np.testing.assert_allclose(found.get_stress(), atoms.get_stress(), atol=1e-6)


def test_kinds_without_predictions_for_frames_are_refused_by_name(mlff: Mlff, work: Path) -> None:
    done = mlff("predict", "ethanol_rollout", "water.extxyz", "-o", "no.extxyz", cwd=work)
    assert done.returncode == 1
    assert "holds a rollout" in done.stderr
    assert "mlff rollout" in done.stderr
    done = mlff("predict", "ethanol", "water.extxyz", "-o", "no.extxyz", "--cube", "homo", cwd=work)
    assert done.returncode == 2
    assert "--cube does not apply to a potential" in done.stderr


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("absent.extxyz", "-o", "no.extxyz"), "there is no file absent.extxyz"),
        (("water.extxyz", "-o", "no.csv"), "give a name that ends in .extxyz or .xyz"),
        (("water.extxyz", "-o", "water.extxyz", "--overwrite"), "is the file of the structures"),
        (("water.extxyz", "-o", "there.extxyz"), "exists already"),
        (("water.extxyz", "-o", "no.extxyz", "--matrices", "there.h5"), "there.h5: exists already"),
        (("water.extxyz", "-o", "no.extxyz", "--matrices", "no.npz"), "give a name that ends in .h5 or .hdf5"),
        (("water.extxyz", "-o", "no.extxyz", "--cube", "hmoo"), "there is no 'hmoo'"),
        (("water.extxyz", "-o", "no.extxyz", "--index", "x"), "index 'x' is not valid"),
        (("bad.extxyz", "-o", "no.extxyz"), "bad.extxyz, frame 1: H3N has N; the model knows H, O"),
        (("ion.extxyz", "-o", "no.extxyz"), "ion.extxyz, frame 0: the molecule has a charge of 2 e"),
        (("cell.extxyz", "-o", "no.extxyz"), "cell.extxyz, frame 0: the structure is periodic"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    mlff: Mlff, work: Path, words: tuple[str, ...], match: str
) -> None:
    for name in ("there.extxyz", "there.h5"):
        (work / name).touch()
    write(work / "bad.extxyz", [molecule("H2O"), molecule("NH3")])
    write(work / "ion.extxyz", Atoms("OH2", molecule("H2O").positions, info={"charge": 2}))
    write(work / "cell.extxyz", Atoms("OH2", molecule("H2O").positions, cell=[9, 9, 9], pbc=True))
    done = mlff("predict", "fock", *words, cwd=work)
    assert done.returncode == 1
    assert match in done.stderr.replace("\n", " "), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not [file for file in work.iterdir() if file.name.startswith((".", "no."))]


class Slow(Predictor):
    """Says when the second batch begins, and never ends it."""

    batch_size = 1

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, 0

    def check(self, atoms: Atoms) -> None:
        pass

    def predict(self, samples: Any) -> list[FramePrediction]:
        self.calls += 1
        if self.calls == 2:
            (self.folder / "begun").touch()
            time.sleep(60.0)
        return [FramePrediction(info={"number": self.calls}) for _ in samples]


def test_a_killed_run_leaves_the_old_file(work: Path, tmp_path: Path, child: Callable[..., Child]) -> None:
    output = tmp_path / "out.extxyz"
    output.write_text("old")
    running = child(lambda: predict_file(Slow(tmp_path), work / "water.extxyz", output, overwrite=True))
    until = time.monotonic() + 30.0
    while not (tmp_path / "begun").exists() and time.monotonic() < until:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert output.read_text() == "old"
    assert predict_file(Slow(tmp_path), work / "water.extxyz", output, index="0", overwrite=True) == 1
    assert read(output).info["number"] == 1


def test_one_predictor_serves_several_files(work: Path) -> None:
    from mlff_calc.training.hamiltonian.predictor import HamiltonianPredictor

    predictor = HamiltonianPredictor(str(work / "fock"), device="cpu", matrices=work / "several.h5")
    for index, n in ((":", 3), ("1:", 2)):
        predict_file(predictor, work / "water.extxyz", work / "several.extxyz", index=index, overwrite=True)
        assert len(MatrixFile(work / "several.h5")) == n
    assert np.array_equal(MatrixFile(work / "several.h5")[0].positions, read(work / "water.extxyz", "1").positions)
