"""Files that run code: foreign, changed and malicious ones are refused before any of their code runs."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from typer.testing import CliRunner

from mlff_calc import CommitteeCalculator, MLFFCalculator
from mlff_calc.cli.main import build_app
from mlff_calc.errors import CacheError, OptionError, PotentialFileError
from mlff_calc.export import export_potential, load_exported, read_metadata
from mlff_calc.export.artifact import _add_record
from mlff_calc.potential import build_potential


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of another user: it is registered in another record than that of the tests."""
    folder = tmp_path_factory.mktemp("theirs")
    backbone = {"name": "hegnn", "cutoff": 4.0, "l_max": 1, "channels": 8, "n_layers": 1}
    config = {"backbone": backbone, "elements": ["H", "C", "O"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFF_CACHE", str(folder / "cache"))
        export_potential(build_potential(config, seed=3).to_precision("float64").eval(), folder / "p.pt")
    return folder / "p.pt"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def own(exported: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFF_CACHE", str(exported.parent / "cache"))
    return exported


def changed(exported: Path, path: Path, **fields: object) -> Path:
    """Return the file with a changed record."""
    with zipfile.ZipFile(exported) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename.endswith("extra/mlff.json"):
                content = json.dumps({**json.loads(content), **fields}).encode()
            new.writestr(info, content)
    return path


def test_a_foreign_file_asks_for_trust(exported: Path) -> None:
    for load in (load_exported, MLFFCalculator):
        with pytest.raises(PotentialFileError, match=r"runs? as yours.*trust=True"):
            load(exported)
    with pytest.raises(PotentialFileError, match="trust=True"):
        CommitteeCalculator([exported, exported])
    energy = MLFFCalculator(exported, trust=True, device="cpu").evaluate(molecule("H2O"))["energy"]
    members = CommitteeCalculator([exported, exported], trust=True, device="cpu").evaluate(molecule("H2O"))
    assert members["energy"] == energy
    assert members["energy_std"] == 0.0


def test_files_exported_by_the_user_are_loaded_from_anywhere(own: Path, tmp_path: Path) -> None:
    shutil.copy(own, tmp_path / "moved.pt")
    assert load_exported(tmp_path / "moved.pt").sha256 == load_exported(own).sha256


def test_a_record_that_others_may_write(exported: Path, cache: Path) -> None:
    (cache / "exports").mkdir(parents=True)
    (cache / "exports").chmod(0o777)
    with pytest.raises(CacheError, match=r"written by others.*trust=True.*--trust"):
        load_exported(exported)
    assert load_exported(exported, trust=True).elements == [1, 6, 8]


def open_to_others(record: Path) -> None:
    record.chmod(0o775)


def of_another_user(record: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(record, 12345, 12345)


@pytest.mark.parametrize("spoil", [open_to_others, of_another_user])
def test_an_export_is_written_where_the_record_cannot_be_kept(
    cache: Path, tmp_path: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    (cache / "exports").mkdir(parents=True)
    spoil(cache / "exports")
    config = {"backbone": {"name": "hegnn", "cutoff": 3.0, "l_max": 1, "channels": 4, "n_layers": 1}, "elements": ["H"]}
    export_potential(build_potential(config, seed=1).eval(), tmp_path / "p.pt")
    assert "loading p.pt requires trust" in caplog.text
    assert list((cache / "exports").iterdir()) == []
    with pytest.raises(CacheError, match="--trust"):
        load_exported(tmp_path / "p.pt")
    assert load_exported(tmp_path / "p.pt", trust=True).elements == [1]


class Writes(torch.nn.Module):
    """Pickled object that creates a file."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_file(self.name, shared=True, size=4) + x


def test_a_script_that_writes(exported: Path, tmp_path: Path) -> None:
    target, file = tmp_path / "written", tmp_path / "evil.pt"
    torch.jit.save(torch.jit.script(Writes(str(target))), str(file))
    torch.jit.load(str(file))(torch.zeros(4))
    assert target.is_file()  # so running the code would be noticed
    target.unlink()
    with pytest.raises(PotentialFileError, match="not written by"):
        MLFFCalculator(file, device="cpu")
    _add_record(file, read_metadata(exported))  # with correct checksums
    with pytest.raises(PotentialFileError, match="trust=True"):
        MLFFCalculator(file, device="cpu").evaluate(molecule("H2O"))
    assert not target.exists()


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_library_with_a_constructor(exported: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    source, library = tmp_path / "evil.cpp", tmp_path / "evil.so"
    source.write_text(
        f'#include <cstdio>\n__attribute__((constructor)) void go() {{ std::fclose(std::fopen("{marker}", "w")); }}\n'
    )
    subprocess.run(["g++", "-shared", "-fPIC", "-o", library, source], check=True)
    file = tmp_path / "evil.pt2"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("evil/archive_format", "pt2")
        archive.write(library, "evil/data/aotinductor/model/evil.wrapper.so")
    _add_record(file, replace(read_metadata(exported), backend="aoti", kind="aoti"))
    with pytest.raises(PotentialFileError, match="trust=True"):
        MLFFCalculator(file, device="cpu")
    assert not marker.exists()
    other = tmp_path / "other.pt2"
    changed(file, other, torch="1.0")
    with pytest.raises(PotentialFileError, match=r"PyTorch 1\.0"):
        load_exported(other, trust=True)
    assert not marker.exists()


@pytest.mark.parametrize("trust", [False, True])
def test_flipped_bits_are_refused_or_change_nothing(own: Path, tmp_path: Path, trust: bool) -> None:
    water = molecule("H2O")
    expected = MLFFCalculator(own, device="cpu").evaluate(water)
    whole, generator, refused = own.read_bytes(), random.Random(5), 0
    for _ in range(100):
        content, place = bytearray(whole), generator.randrange(len(whole))
        content[place] ^= 1 << generator.randrange(8)
        (tmp_path / "flipped.pt").write_bytes(bytes(content))
        try:
            found = MLFFCalculator(tmp_path / "flipped.pt", device="cpu", trust=trust).evaluate(water)
        except PotentialFileError:
            refused += 1
            continue
        assert trust, "a changed file is not one that the user exported"
        assert found["energy"] == expected["energy"]
        np.testing.assert_array_equal(found["forces"], expected["forces"])
    assert refused > 50


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cutoff", float("nan")), ("cutoff", float("inf")), ("cutoff", -1.0), ("cutoff", "4"), ("cutoff", 1e9),
        ("elements", [0]), ("elements", []), ("elements", [1, 1, 6]), ("elements", [1.5]), ("symbols", ["H"]),
        ("kind", "x"), ("backend", ["aoti"]), ("precision", 3), ("dtype", "float32"), ("device", "tpu"),
        ("exchange_width", 10**9), ("exchange_width", True), ("n_layers", -1), ("inputs", [1]), ("units", None),
        ("fixed_point", {}), ("fixed_point", {"slots": 10**12}), ("members", None), ("format_version", "2"),
    ],
)  # fmt: skip
def test_records_that_no_export_has(own: Path, tmp_path: Path, field: str, value: object) -> None:
    file = changed(own, tmp_path / "p.pt", **{field: value})
    with pytest.raises(PotentialFileError, match=rf"{field}|{'damaged'}"):
        load_exported(file, trust=True)


def test_old_and_mistaken_files(own: Path, tmp_path: Path) -> None:
    old = changed(own, tmp_path / "old.pt", format_version=1)
    with pytest.raises(PotentialFileError, match=r"version 1.*export it again"):
        load_exported(old)
    assert load_exported(old, trust=True).metadata.members is None
    with pytest.raises(PotentialFileError, match="claims to be aoti"):
        load_exported(changed(own, tmp_path / "other.pt", backend="aoti"), trust=True)
    torch.save({"state_dict": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(PotentialFileError, match="checkpoint is not a potential"):
        load_exported(tmp_path / "checkpoint.pt", trust=True)


@pytest.mark.parametrize("name", ["p/../../etc/x", "/etc/x", "q/x", "p/a\\b", "p/data.pkl", "p/new"])
def test_members_that_have_no_place(own: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(own, tmp_path / "p.pt")
    with zipfile.ZipFile(tmp_path / "p.pt", "a") as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr(name, b"x")
    with pytest.raises(PotentialFileError, match=r"name that no export|twice|not what was exported"):
        load_exported(tmp_path / "p.pt", trust=True)


def test_a_bomb(own: Path, tmp_path: Path) -> None:
    shutil.copy(own, tmp_path / "p.pt")
    with zipfile.ZipFile(tmp_path / "p.pt", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("p/data/999", bytes(10**7))
    with pytest.raises(PotentialFileError, match="compressed"):
        load_exported(tmp_path / "p.pt", trust=True)


def test_commands(exported: Path, tmp_path: Path) -> None:
    water = molecule("H2O")
    results = MLFFCalculator(exported, device="cpu", trust=True).evaluate(water)
    frames = []
    for shift in (0.0, 1.0, 2.0):
        frame = water.copy()
        frame.positions += shift
        frame.calc = SinglePointCalculator(frame, energy=results["energy"], forces=results["forces"])
        frames.append(frame)
    write(tmp_path / "water.extxyz", frames)
    words = {
        "md": ["md", str(exported), "-s", "H2O", "--steps", "2", "-o", str(tmp_path / "md"), "-q"],
        "eval": ["eval", str(exported), str(tmp_path / "water.extxyz"), "--json"],
        "relax": ["relax", str(exported), str(tmp_path / "water.extxyz"), "--fmax", "100", "-q"],
    }
    for name, command in words.items():
        refused = CliRunner().invoke(build_app(), command)
        assert isinstance(refused.exception, PotentialFileError), (name, refused.output)
        done = CliRunner().invoke(build_app(), [*command, "--trust"])
        assert done.exit_code == 0, (name, done.output, done.exception)
        if name == "eval":
            report = json.loads(done.stdout)
            assert report["frames"] == 3
            assert report["errors"]["forces"]["mae"] < 1e-4
    misfit = CliRunner().invoke(build_app(), [*words["eval"], "--trust", "--precision", "float32"])
    assert isinstance(misfit.exception, OptionError)
