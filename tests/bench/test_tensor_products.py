"""The rival by tensor products is equivariant and has all parts, and the study keeps what it has made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation

from mlff_calc.bench import child
from mlff_calc.bench.studies import pair_frames
from mlff_calc.bench.studies.pair_frames import FramesStudy, summary
from mlff_calc.bench.studies.tensor_network import TensorNetwork, build_tensor_network
from mlff_calc.bench.studies.tensor_products import HarmonicProduct, Harmonics
from mlff_calc.datasets.matrix_files import write_matrices
from mlff_calc.datasets.matrix_frames import MatrixFrame
from mlff_calc.electronic.hamiltonian import load_hamiltonian
from mlff_calc.electronic.hamiltonian.predict import predict_fock
from mlff_calc.electronic.orbitals import orbital_rotation, rotate
from mlff_calc.errors import BenchmarkError, PotentialFileError
from mlff_calc.training.folder import RunFolder

SMALL: dict[str, Any] = {
    "basis": {"name": "tiny", "shells": {1: [0, 1], 8: [0, 1, 2]}}, "target": "means", "inputs": ["overlap"], "l_max": 2,
    "channels": 2, "hidden": 3, "products": 2, "layers": 1, "scalars": 4, "n_basis": 4, "cutoff": 3.0, "pair_cutoff": 4.0,
}  # fmt: skip
WATER = Atoms("OH2", [[0.0, 0.1, 0.06], [0.76, 0.0, -0.5], [-0.86, 0.03, -0.45]])
TINY = {"channels": 2, "hidden": 3, "products": 2, "layers": 1}


@pytest.fixture(scope="module")
def rival() -> TensorNetwork:
    return build_tensor_network(SMALL, seed=1)


@pytest.mark.parametrize("mirrored", [False, True])
def test_matrices_of_the_rival_turn_with_the_molecule(rival: TensorNetwork, mirrored: bool) -> None:
    turn = Rotation.random(random_state=np.random.default_rng(4)).as_matrix() * (-1.0 if mirrored else 1.0)
    turned = WATER.copy()
    turned.positions = WATER.positions @ turn.T
    size = rival.basis.n_orbitals(WATER.numbers)
    given = np.random.default_rng(0).normal(size=(size, size))
    given = given + given.T
    orbital = orbital_rotation(turn, rival.basis, WATER.numbers).numpy()
    before, after = predict_fock(rival, [WATER, turned], overlaps=[given, orbital @ given @ orbital.T])
    again = rotate(torch.from_numpy(before), turn, rival.basis, WATER.numbers).numpy()
    assert np.abs(after - again).max() < 2e-5 * np.abs(before).max()
    assert np.abs(after - before).max() > 0.1 * np.abs(before).max()
    assert np.array_equal(before, before.T)
    other = predict_fock(rival, [WATER], overlaps=[0.5 * given])[0]
    assert np.abs(other - before).max() > 1e-3


def test_every_parameter_of_the_rival_matters(rival: TensorNetwork) -> None:
    step = pair_frames.TimedStep("tensor products", "H2O", 2, 1, TINY)
    out = step.network(step.batch.graph)
    sum(one.square().sum() for one in out.values()).backward()
    idle = [name for name, one in step.network.named_parameters() if one.grad is None or not one.grad.any()]
    assert not idle


def test_weights_of_harmonic_products_are_those_of_scalars() -> None:
    torch.manual_seed(0)
    product = HarmonicProduct(1, 2, 3, 4)
    harmonics = Harmonics(1)(torch.nn.functional.normalize(torch.randn(5, 3), dim=1))
    features, scalars = torch.randn(5, 2, 4, 2), torch.randn(5, 4)
    found = product(features, harmonics, scalars)
    assert found.shape == (5, 2, 4, 3)
    with torch.no_grad():
        product.weights.bias.zero_()
    once, twice = (product(features, harmonics, k * scalars) for k in (1.0, 2.0))
    assert torch.allclose(twice, 2.0 * once, atol=1e-5)


def test_the_rival_is_not_taken_for_a_network_to_use(rival: TensorNetwork, tmp_path: Path) -> None:
    rival.save(tmp_path / "rival")
    with pytest.raises(PotentialFileError, match="rival of a study"):
        load_hamiltonian(tmp_path / "rival")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is measured in this process, which spares the start of another one."""

    def in_child(**fields: Any) -> dict[str, Any]:  # noqa: ANN401
        return child.TASKS[fields.pop("task")](**fields)

    monkeypatch.setattr(pair_frames, "in_child", in_child)


def _matrices(path: Path) -> Path:
    rng = np.random.default_rng(0)
    frames = []
    for k in range(12):
        positions = WATER.positions + 0.05 * rng.normal(size=(3, 3))
        noise = rng.normal(size=(4, 7, 7))
        fock, initial = (np.diag([-20.0, -1, -0.5, -0.5, -0.4, -0.2, 0.1]) + 0.01 * (one + one.T) for one in noise[:2])
        frames.append(MatrixFrame(WATER.numbers, positions, fock, np.eye(7), initial, source=k))
    shells = {"1": [0], "8": [0, 0, 1]}
    write_matrices(path, frames, {"xc": "pbe", "basis": "tiny", "grid_level": 1}, {"name": "tiny", "shells": shells})
    return path


def test_the_study_keeps_its_results(tmp_path: Path, mlff: Callable[..., Any], here: None) -> None:
    """This takes seconds: e3nn writes code for each tensor product of five networks, and trainings load Lightning."""
    del here
    data = _matrices(tmp_path / "water.h5")
    words = ["bench", "tensor-products", data, "--degrees", "2", "--train-degrees", "2", "--molecules", "H2O",
             "--rounds", "1", "--batch", "2", "--seeds", "1", "--minutes", "0.001", "--sizes", "2,3,2,1", "--valid", "4",
             "--test", "4", "--json", "found.json"]  # fmt: skip
    done = mlff(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first = json.loads((tmp_path / "found.json").read_text())
    assert [row["network"] for row in first["costs"]] == ["frames of pairs", "tensor products"]
    assert first["costs"][1]["ratio"] > 1.0
    assert all(row["error"] > 0.0 and row["epochs"] >= 1 for row in first["errors"])
    assert [row["seeds"] for row in first["summary"]] == [1, 1]
    run = RunFolder(tmp_path / "tensor-products" / "trainings" / "tensor-2-0.003-0")
    (run.path / "result.json").unlink()
    run.write_record(run.read_record() | {"finished": False})  # as after a kill at its end
    assert mlff(*words, cwd=tmp_path).returncode == 0
    again = json.loads((tmp_path / "found.json").read_text())
    assert again["costs"] == first["costs"]
    assert [row["error"] for row in again["errors"]] == [row["error"] for row in first["errors"]]
    assert run.read_record()["finished"]
    refused = mlff(*words, "--minutes", "0.002", cwd=tmp_path)
    assert refused.returncode == 1
    assert "another --output" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"molecules": ["H2OO"]}, "no molecule 'H2OO'"),
        ({"molecules": ["SiH4"]}, "holds Si"),
        ({"degrees": [1]}, "at least 2"),
        ({"data": Path("nowhere.h5")}, "no file nowhere.h5"),
    ],
)
def test_what_cannot_be_compared_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=words):
        FramesStudy(tmp_path / "study", **changes).check()
    assert not (tmp_path / "study").exists()


def test_sizes_are_four_numbers(tmp_path: Path, mlff: Callable[..., Any]) -> None:
    refused = mlff("bench", "tensor-products", "--sizes", "8,8", cwd=tmp_path)
    assert refused.returncode == 1
    assert "channels, hidden, products, layers" in " ".join(refused.stderr.split())


def test_of_each_network_the_best_rate_counts() -> None:
    figures = dict.fromkeys(("occupied", "gap", "initial", "epochs"), 1.0)
    made = [(0.01, 5.0), (0.01, 3.0), (0.001, 4.5), (0.001, 4.1)]
    rows = [{"l_max": 4, "network": "a", "rate": rate, "error": error, **figures} for rate, error in made]
    (found,) = summary(rows)
    assert (found["rate"], found["error"], found["worst"], found["seeds"]) == (0.01, 4.0, 5.0, 2)
