"""`mlff eval` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.cli.console import run_cli
from mlff_calc.cli.main import build_app
from mlff_calc.potential import Potential, build_potential, evaluate_atoms, load_potential


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a potential, and data that differ by 0.1 eV, and by 0.02 eV/Angstrom on hydrogen only."""
    folder = tmp_path_factory.mktemp("eval")
    config = {"backbone": {"name": "equiformer", "cutoff": 4.0, "l_max": 1, "channels": 4, "n_layers": 1}}
    potential: Potential = build_potential(config | {"elements": [1, 8]}, seed=0).eval()
    potential.save(folder / "P")
    water = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    frames = []
    for index in range(4):
        atoms = water.copy()
        atoms.positions += np.random.default_rng(index).normal(scale=0.05, size=(3, 3))
        outputs = evaluate_atoms(potential, [atoms])
        off = np.array([[0.0], [0.02], [0.02]])
        labels = {"energy": float(outputs["energy"][0]) + 0.1, "forces": outputs["forces"] + off}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        atoms.info["config_type"] = "first" if index == 0 else "rest"
        frames.append(atoms)
    ase.io.write(folder / "data.extxyz", frames)
    bare = [Atoms(atoms.numbers, atoms.positions) for atoms in frames]
    ase.io.write(folder / "bare.extxyz", bare)
    frames[2].symbols[0] = "S"
    ase.io.write(folder / "sulphur.extxyz", frames)
    return folder


def test_json_has_the_known_errors(project: Path, mlff: Callable) -> None:
    done = mlff("eval", str(project / "P"), str(project / "data.extxyz"), "--json", "--batch-size", "3",
                "--plot", str(project / "parity.png"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["frames"] == 4
    assert report["errors"]["energy"]["mae"] == pytest.approx(100.0, abs=0.01)
    assert report["errors"]["energy_per_atom"]["rmse"] == pytest.approx(100.0 / 3, abs=0.01)
    assert report["errors"]["forces"]["mae"] == pytest.approx(20.0 * 2 / 3, abs=0.01)
    assert report["errors"]["forces"]["count"] == 36
    assert report["forces_by_element"]["H"]["mae"] == pytest.approx(20.0, abs=0.01)
    assert report["forces_by_element"]["O"]["mae"] == pytest.approx(0.0, abs=0.01)
    assert report["by_config_type"]["first"]["forces"]["count"] == 9
    assert report["by_config_type"]["rest"]["energy"]["count"] == 3
    assert "stress" not in report["errors"]
    assert (project / "parity.png").read_bytes()[:4] == b"\x89PNG"


def report_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert run_cli(build_app(), ["eval", *arguments, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_names_units_and_index_of_a_file(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kcal = 23.060548  # kcal/mol in one eV
    frames = ase.io.read(project / "data.extxyz", ":")
    for number, atoms in enumerate(frames):
        atoms.info = {"REF": atoms.get_potential_energy() * kcal, "kind": f"k{number // 2}"}
        atoms.arrays["REF_forces"] = atoms.get_forces() * kcal
        atoms.calc = None
    ase.io.write(tmp_path / "named.dat", frames, format="extxyz")
    words = [str(project / "P"), str(tmp_path / "named.dat"), "--format", "extxyz"]
    for pair in ("energy=REF", "forces=REF_forces", "config_type=kind"):
        words += ["--key", pair]
    report = report_of(capsys, *words, "--unit", "energy=kcal/mol", "--index", "1:")
    assert report["frames"] == 3
    assert report["errors"]["energy"]["mae"] == pytest.approx(100.0, abs=0.01)
    assert report["errors"]["forces"]["mae"] == pytest.approx(20.0 * 2 / 3, abs=0.01)
    assert {kind: found["energy"]["count"] for kind, found in report["by_config_type"].items()} == {"k0": 1, "k1": 2}


def test_stresses_under_each_of_their_names(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [ase.io.read(project / "data.extxyz", index) for index in range(2)]
    for atoms in frames:
        atoms.calc = None
        atoms.set_cell(np.diag([3.0, 3.2, 3.4]))
        atoms.pbc = True
        stress = evaluate_atoms(load_potential(project / "P"), [atoms])["stress"].reshape(3, 3)
        shifted = stress + 0.01 * np.eye(3)
        xx, yy, zz, yz, zx, xy = (shifted[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (2, 0), (0, 1)))
        atoms.info = {"S": shifted, "W": shifted * atoms.get_volume()}
        atoms.info["in_kB"] = -1602.176634 * np.array([xx, yy, zz, xy, yz, zx])
    ase.io.write(tmp_path / "stress.extxyz", frames)
    for keys in (["stress=S"], ["virial=W", "virial_sign=-1"], ["vasp_stress=in_kB"]):
        words = [word for key in keys for word in ("--key", key)]
        found = report_of(capsys, str(project / "P"), str(tmp_path / "stress.extxyz"), *words)["errors"]["stress"]
        assert found["mae"] == pytest.approx(10.0 / 3, abs=1e-3)
        assert found["count"] == 18
    found = report_of(capsys, str(project / "P"), str(tmp_path / "stress.extxyz"), "--key", "virial=W")
    assert found["errors"]["stress"]["mae"] > 4.0  # the virial has the opposite sign


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["bare.extxyz"], 1, "no energies, forces or stresses were found; name them with --key"),
        (["gone.extxyz"], 1, "there is no file"),
        (["data.extxyz", "--key", "energy=enrgy"], 1, "did you mean 'energy'"),
        (["data.extxyz", "--key", "enrgy=energy"], 1, "keys.enrgy: unknown key 'enrgy'; did you mean 'energy'?"),
        (["data.extxyz", "--key", "virial_sign=2"], 1, "keys.virial_sign: '2' is not a choice; give 1 or -1"),
        (["data.extxyz", "--key", "energy"], 2, "--key 'energy': write it as KIND=VALUE"),
        (["data.extxyz", "--key", "energy=a", "--key", "energy=b"], 2, "energy is given twice"),
        (["data.extxyz", "--unit", "energy=kcal"], 1, "did you mean 'kcal/mol'"),
        (["data.extxyz", "--index", "9:"], 1, "selects none of the 4 frames"),
        (["sulphur.extxyz"], 1, "unknown element S (atom 0 of "),
        (["data.extxyz", "--device", "cuda:99"], 1, "cuda:99"),
        (["data.extxyz", "--device", "tpu"], 1, "unknown device 'tpu'"),
        (["data.extxyz", "--device", "meta"], 1, "device 'meta' is not supported"),
    ],
)
def test_bad_input_is_one_message(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, expected: str
) -> None:
    assert run_cli(build_app(), ["eval", str(project / "P"), str(project / arguments[0]), *arguments[1:]]) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("mlff: error:")
    assert expected in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("plot", "expected"),
    [
        (".", "--plot .: is a folder; name a file in it, such as parity.png"),
        ("folder.png", "--plot folder.png: is a folder; name a file in it"),
        ("p.xyzz", "--plot p.xyzz: the picture is a PNG file; give a name that ends in .png"),
        ("p.pdf", "give a name that ends in .png"),
        ("parity", "give a name that ends in .png"),
        ("gone/p.png", "there is no folder"),
        ("/proc/p.png", "--plot /proc/p.png: /proc cannot be written ("),
    ],
)
def test_a_plot_that_cannot_be_written_is_refused_before_the_work(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    plot: str,
    expected: str,
) -> None:
    def load(name: str, **_: object) -> Potential:
        pytest.fail(f"{name} was loaded")

    monkeypatch.setattr(import_module("mlff_calc.training.potential.evaluate"), "load_any", load)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    arguments = ["eval", str(project / "P"), str(project / "data.extxyz"), "--plot", plot]
    assert run_cli(build_app(), arguments) == 1
    assert expected in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_other_spellings_of_labels_are_named(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (project / "data.extxyz").read_text()
    (tmp_path / "named.extxyz").write_text(text.replace(":forces:", ":dft_forces:"))
    assert run_cli(build_app(), ["eval", str(project / "P"), str(tmp_path / "named.extxyz")]) == 0
    out = capsys.readouterr().out
    assert "4 frames (energy in 4, forces in none, stress in none)" in out
    assert "forces not taken: 4 of 4 frames hold 'dft_forces' (keys.forces: dft_forces or --key forces=dft_forces" in out
    report = report_of(capsys, str(project / "P"), str(tmp_path / "named.extxyz"), "--key", "forces=dft_forces")
    assert report["labels"] == {"energy": 4, "forces": 4, "stress": 0}
    assert report["labels_not_taken"] == {}
    assert report["errors"]["forces"]["mae"] == pytest.approx(20.0 * 2 / 3, abs=0.01)


def test_several_files_are_judged_together(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = ase.io.read(project / "data.extxyz", ":")
    for folder, chosen in (("one", frames[:1]), ("two", frames[1:])):
        (tmp_path / folder).mkdir()
        ase.io.write(tmp_path / folder / "part.extxyz", chosen)
    one, two = (str(tmp_path / folder / "part.extxyz") for folder in ("one", "two"))
    whole = report_of(capsys, str(project / "P"), str(project / "data.extxyz"))
    for words in ((one, two), (str(tmp_path / "*" / "part.extxyz"),)):
        report = report_of(capsys, str(project / "P"), *words)
        assert report["files"] == {"one/part.extxyz": 1, "two/part.extxyz": 3}
        for name, errors in whole["errors"].items():
            assert report["errors"][name]["rmse"] == pytest.approx(errors["rmse"], rel=1e-6)
    assert whole["files"] == {"data.extxyz": 4}
    assert report_of(capsys, str(project / "P"), one, two, "--index", "0")["frames"] == 2
    assert run_cli(build_app(), ["eval", str(project / "P"), one, two]) == 0
    assert "stress in none)\n  1 of one/part.extxyz\n  3 of two/part.extxyz\n" in capsys.readouterr().out
    for words, expected in (
        ((one, two, one), "part.extxyz are named twice, 1 in all"),
        ((one, str(tmp_path / "t*" / "gone.*")), "no file matches 't*/gone.*' in the folder"),
    ):
        assert run_cli(build_app(), ["eval", str(project / "P"), *words]) == 1
        assert expected in " ".join(capsys.readouterr().err.split())


def sheared(project: Path, path: Path, order: str) -> None:
    """Write twelve strained crystals with the stresses of the potential as six numbers in the given order."""
    potential = load_potential(project / "P")
    random, frames = np.random.default_rng(0), []
    for _ in range(12):
        atoms = ase.io.read(project / "data.extxyz", 0)
        atoms.calc = None
        atoms.set_cell(np.diag([3.0, 3.2, 3.4]) + random.normal(scale=0.15, size=(3, 3)))
        atoms.pbc = True
        stress = evaluate_atoms(potential, [atoms])["stress"].reshape(3, 3)
        atoms.info = {"S": np.array([stress["xyz".index(a), "xyz".index(b)] for a, b in order.split()])}
        frames.append(atoms)
    ase.io.write(path, frames)


def test_components_in_another_order_are_noticed(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = "xx yy zz xy xz yz"
    sheared(project, tmp_path / "s.extxyz", order)
    words = [str(project / "P"), str(tmp_path / "s.extxyz"), "--key", "stress=S"]
    right = report_of(capsys, *words, "--key", f"stress_order={order}")
    assert right["errors"]["stress"]["mae"] == pytest.approx(0.0, abs=1e-3)
    assert right["hints"] == []
    wrong = report_of(capsys, *words)
    by_component = {name: errors["mae"] for name, errors in wrong["stress_by_component"].items()}
    assert list(by_component) == ["xx", "yy", "zz", "yz", "xz", "xy"]
    assert max(by_component[name] for name in ("xx", "yy", "zz", "xz")) < 1e-3 < min(by_component["yz"], by_component["xy"])
    assert run_cli(build_app(), ["eval", *words]) == 0
    said = capsys.readouterr().out
    assert "yz fits the predicted xy (RMSE 0.000 in place of" in said
    assert "xy fits the predicted yz (RMSE 0.000 in place of" in said
    assert "Set the key stress_order to the order" in said


def test_the_offset_of_another_level_of_theory(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels differ by energies per element. A mean offset explains a part of this, and offsets of elements all of it."""
    potential = load_potential(project / "P")
    frames = []
    for number in range(6):
        atoms = Atoms("H" * (number + 1) + "O" * 2, np.random.default_rng(number).uniform(0, 4, (number + 3, 3)))
        energy = float(evaluate_atoms(potential, [atoms])["energy"][0]) - 13.0 * (number + 1) - 400.0 * 2
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
        frames.append(atoms)
    ase.io.write(tmp_path / "other.extxyz", frames)
    offset = report_of(capsys, str(project / "P"), str(tmp_path / "other.extxyz"))["energy_offset"]
    per_atom = [1000.0 * (13.0 * (n + 1) + 800.0) / (n + 3) for n in range(6)]
    assert offset["per_atom"] == pytest.approx(np.mean(per_atom), rel=1e-6)
    assert offset["rmse"] == pytest.approx(np.std(per_atom), rel=1e-6)
    assert offset["by_element"] == pytest.approx({"H": 13000.0, "O": 400000.0}, abs=0.1)
    assert offset["by_element_rmse"] == pytest.approx(0.0, abs=0.1)
    assert run_cli(build_app(), ["eval", str(project / "P"), str(tmp_path / "other.extxyz")]) == 0
    assert f"(offset {offset['per_atom']:.3f} meV/atom)" in capsys.readouterr().out
    same = report_of(capsys, str(project / "P"), str(project / "data.extxyz"))["energy_offset"]
    assert same["per_atom"] == pytest.approx(-100.0 / 3, abs=0.01)
    assert same["mae"] == pytest.approx(0.0, abs=0.01)
    assert same["by_element"] == {}  # offsets of elements cannot be determined from one composition


def test_predictions_frame_by_frame(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, written, plain = project / "data.extxyz", tmp_path / "predicted.extxyz", tmp_path / "predicted.json"
    for file in (written, plain):
        report_of(capsys, str(project / "P"), str(data), "--output", str(file), "--batch-size", "3")
    frames, records = ase.io.read(written, ":"), json.loads(plain.read_text())
    assert [atoms.info["frame"] for atoms in frames] == [record["frame"] for record in records] == [0, 1, 2, 3]
    for atoms, record, read in zip(frames, records, ase.io.read(data, ":"), strict=True):
        assert atoms.info["config_type"] == record["config_type"] == read.info["config_type"]
        assert atoms.info["REF_energy"] == pytest.approx(read.get_potential_energy())
        assert record["REF_energy"] - record["mlff_energy"] == pytest.approx(0.1, abs=1e-5)
        np.testing.assert_allclose(atoms.arrays["mlff_forces"], record["mlff_forces"], atol=1e-7)
        np.testing.assert_allclose(atoms.arrays["REF_forces"], read.get_forces(), atol=1e-7)
    keys = ["--key", "energy=mlff_energy", "--key", "forces=mlff_forces"]
    again = report_of(capsys, str(project / "P"), str(written), *keys)["errors"]
    assert max(again[name]["rmse"] for name in ("energy", "forces")) < 0.01


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("there.extxyz", "exists already; give another name, or --overwrite"),
        ("out.csv", "the name decides the format; give a name that ends in .extxyz or .xyz or .json"),
        ("gone/out.extxyz", "there is no folder"),
        (".", "is a folder; name a file in it, such as predictions.extxyz"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: str,
    expected: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("there.extxyz").write_text("mine")
    arguments = ["eval", str(project / "P"), str(project / "data.extxyz"), "--output", output]
    assert run_cli(build_app(), arguments) == 1
    assert expected in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("there.extxyz", "mine")]
    if output == "there.extxyz":
        assert run_cli(build_app(), [*arguments, "--overwrite"]) == 0
        assert "mlff_energy" in Path(output).read_text()
        own = ["eval", str(project / "P"), output, "--key", "energy=REF_energy", "--output", output, "--overwrite"]
        before = Path(output).read_text()
        assert run_cli(build_app(), own) == 1
        assert "is one of the files that are evaluated" in capsys.readouterr().err
        assert Path(output).read_text() == before


def test_an_unknown_name_is_told_with_networks_of_every_kind(tmp_path: Path, mlff: Callable[..., Any]) -> None:
    done = mlff("eval", "ethanol_rollouts", "nowhere.npz", cwd=tmp_path)
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "no network 'ethanol_rollouts'" in said
    assert "did you mean 'ethanol_rollout'?" in said
