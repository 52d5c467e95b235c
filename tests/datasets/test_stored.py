"""Frames in HDF5 and LMDB, written from any file and read one by one."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlff_calc.cli.console import run_cli
from mlff_calc.cli.main import build_app
from mlff_calc.datasets import LabelKeys, Sample, Units, read_structures
from mlff_calc.datasets.convert import write_frames
from mlff_calc.datasets.lazy import LazySamples, chosen, joined_samples, marks_of
from mlff_calc.datasets.readers import open_structures, stream_structures
from mlff_calc.errors import DatasetError

ENDINGS = [".h5", ".aselmdb"]


def write_input(path: Path) -> None:
    """Write frames of several sizes, some without labels, with a weight, a config type and another order of stress."""
    random = np.random.default_rng(0)
    with path.open("w") as stream:
        for number in range(9):
            atoms: Atoms = bulk("Cu", cubic=True) if number % 2 else molecule("CH3OH", vacuum=3.0)
            atoms.positions += 0.1 * random.normal(size=atoms.positions.shape)
            lattice = " ".join(map(repr, atoms.cell.array.ravel().tolist()))
            stress = " ".join(map(repr, random.normal(size=6).tolist()))
            words = [f'Lattice="{lattice}"', "Properties=species:S:1:pos:R:3:my_forces:R:3", f'my_stress="{stress}"']
            words += [f"my_energy={random.normal()!r}"] if number != 4 else []
            words += ["config_type=metal", "config_weight=0.5"] if number % 2 else []
            words += [f"charge={number - 4} level=pbe/{number // 3}"] if number % 2 else []
            words += ['pbc="T T T"' if number % 2 else 'pbc="F F F"']
            stream.write(f"{len(atoms)}\n{' '.join(words)}\n")
            for symbol, xyz in zip(atoms.symbols, atoms.positions, strict=True):
                stream.write(" ".join([symbol, *map(repr, [*xyz.tolist(), *random.normal(size=3).tolist()])]) + "\n")


KEYS = LabelKeys(energy="my_energy", forces="my_forces", stress="my_stress", stress_order="xx yy zz xy xz yz")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_input(tmp_path / "in.extxyz")
    return tmp_path / "in.extxyz"


def same(one: Sample, other: Sample) -> None:
    assert one.atoms.numbers.tolist() == other.atoms.numbers.tolist()
    assert one.atoms.info == other.atoms.info
    assert one.labels().keys() == other.labels().keys()
    for name in ("positions", "cell", "pbc"):
        assert np.array_equal(np.asarray(getattr(one.atoms, name)), np.asarray(getattr(other.atoms, name)))
    for name, label in one.labels().items():
        assert np.array_equal(label, other.labels()[name]), name
    assert one.config_type == other.config_type
    assert dict(one.stated_weights) == dict(other.stated_weights)


def need(ending: str) -> None:
    if ending == ".aselmdb":
        pytest.importorskip("ase_db_backends")


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_frame_is_restored_bit_by_bit(source: Path, ending: str) -> None:
    need(ending)
    target = source.with_name(f"out{ending}")
    words = ["data", "convert", str(source), str(target), "--quiet"]
    for kind, name in (*KEYS.named().items(), ("stress_order", KEYS.stress_order)):
        words += ["--key", f"{kind}={name}"]
    assert run_cli(build_app(), words) == 0
    before, after = read_structures(source, keys=KEYS), open_structures(target)
    assert isinstance(after, LazySamples)
    assert [sample.frame for sample in after] == list(range(9))
    for one, other in zip(before, after, strict=True):
        same(one, other)
    same(before[3], pickle.loads(pickle.dumps(after))[3])
    assert [sample.frame for sample in open_structures(target, "::4")] == [0, 4, 8]
    assert [sample.frame for sample in read_structures(target, -1)] == [8]
    assert sorted(entry.name for entry in source.parent.iterdir()) == ["in.extxyz", target.name]
    again = source.with_name(f"again{ending}")
    assert write_frames(again, stream_structures(target, "1:3")) == 2
    same(before[1], open_structures(again)[0])


def test_labels_have_unit_and_level(source: Path) -> None:
    target = source.with_name("out.h5")
    write_frames(target, stream_structures(source, keys=KEYS))
    with h5py.File(target) as file:
        assert {name: (held.attrs["level"], held.attrs["unit"]) for name, held in file["labels"].items()} == {
            "energy": ("system", "eV"), "forces": ("atom", "eV/Angstrom"), "stress": ("system", "eV/Angstrom^3"),
        }  # fmt: skip
        assert file["positions"].attrs["unit"] == "Angstrom"


def test_files_of_the_first_version_are_read(source: Path) -> None:
    """Their frames do not say charge and level."""
    target = source.with_name("out.h5")
    write_frames(target, stream_structures(source, keys=KEYS))
    with h5py.File(target, "r+") as file:
        file.attrs["version"] = 1
        del file["stated"], file["stated_texts"]
    before = read_structures(source, keys=KEYS)[3]
    before.atoms.info.clear()
    same(before, open_structures(target)[3])


def test_lazy_samples_join_and_divide(source: Path) -> None:
    target = source.with_name("out.h5")
    write_frames(target, stream_structures(source, keys=KEYS))
    stored, loaded = open_structures(target), read_structures(source, keys=KEYS)
    both = joined_samples([loaded, stored])
    assert isinstance(both, LazySamples)
    assert joined_samples([loaded, loaded]) == loaded + loaded
    assert len(both) == 18
    some = chosen(both, [17, 0, 9])
    assert list(marks_of(some)) == [(target, "", 8), (source, "", 0), (target, "", 0)]
    assert [sample.path for sample in some] == [target, source, target]
    assert [sample.frame for sample in both[7:11]] == [7, 8, 0, 1]


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_is_left_of_a_conversion_that_fails(source: Path, ending: str) -> None:
    need(ending)
    target = source.with_name(f"out{ending}")

    def broken() -> Iterator[Sample]:
        yield from read_structures(source, keys=KEYS)
        raise DatasetError("frame 9 is damaged")

    for samples, said in ((broken(), "frame 9 is damaged"), (iter(()), "there is no frame to write")):
        with pytest.raises(DatasetError, match=said):
            write_frames(target, samples)
        assert [entry.name for entry in source.parent.iterdir()] == ["in.extxyz"]
    target.write_bytes(b"mine")
    with pytest.raises(DatasetError):
        write_frames(target, broken())
    assert target.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["in.extxyz"], "name at least one file to read"),
        (["in.extxyz", "out.npz"], "give one that ends in .h5 or .aselmdb"),
        (["in.extxyz", "gone/out.h5"], "does not exist or cannot be written"),
        (["in.extxyz", "there.h5"], "exists already; give another name, or replace it with --overwrite"),
        (["there.h5", "there.h5", "--overwrite"], "is one of the input files"),
        (["in.extxyz", "out.h5", "--key", "energy=enrgy"], "no frame holds the energy label 'enrgy' that was requested"),
        (["in.extxyz", "out.h5", "--index", "20:"], "selects none of the 9 frames"),
    ],
)
def test_bad_conversions_are_one_message(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(source.parent)
    Path("there.h5").write_bytes(b"mine")
    assert run_cli(build_app(), ["data", "convert", *words]) != 0
    assert said in " ".join(capsys.readouterr().err.split())
    assert sorted(entry.name for entry in source.parent.iterdir()) == ["in.extxyz", "there.h5"]
    assert Path("there.h5").read_bytes() == b"mine"


def test_damaged_files_name_file_and_frame(source: Path) -> None:
    target = source.with_name("out.h5")
    write_frames(target, stream_structures(source, keys=KEYS))
    whole = target.read_bytes()
    with pytest.raises(DatasetError, match=r"out\.h5: the names and units of its labels are fixed"):
        open_structures(target, keys=KEYS)
    with pytest.raises(DatasetError, match="names and units of its labels are fixed"):
        open_structures(target, units=Units(energy="Hartree", forces="Hartree/Bohr"))
    open_structures(target, keys=LabelKeys(energy="energy", forces="forces"), units=Units())
    target.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"out\.h5 cannot be read as HDF5"):
        open_structures(target)
    with h5py.File(target, "w") as file:
        file["x"] = 1
    with pytest.raises(DatasetError, match="is not a file of frames; make it with `mlff data convert`"):
        open_structures(target)
    target.write_bytes(whole)
    with h5py.File(target, "r+") as file:
        file["labels/forces"][0] = np.inf
        file["stated_texts"][0] = "not JSON"
    with pytest.raises(DatasetError, match=r"out\.h5 cannot be read as HDF5"):
        open_structures(target)
    with h5py.File(target, "r+") as file:
        file["stated_texts"][0] = "{}"
    stored = open_structures(target)
    with pytest.raises(DatasetError, match=r"out\.h5, frame 0: label 'forces' holds 3 of 18 values that are not finite"):
        stored[0]
    assert stored[1].energy is not None


def test_streaming_gives_the_warnings_of_reading_a_whole_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the second frame has forces, and the third has different energies in its info and from its calculator."""
    frames = []
    for number in range(3):
        atoms = bulk("Cu", cubic=True)
        results = {"energy": -1.0, **({"forces": np.zeros((4, 3))} if number else {})}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    frames[2].info["energy"] = 5.0
    write(tmp_path / "in.traj", frames)
    units, said = Units(energy="Hartree", length="Angstrom"), []
    for read in (read_structures, stream_structures):
        caplog.clear()
        assert len(list(read(tmp_path / "in.traj", "0:3", units=units))) == 3
        said.append(sorted(record.getMessage() for record in caplog.records))
    assert said[0] == said[1]
    assert len(said[0]) == 2
