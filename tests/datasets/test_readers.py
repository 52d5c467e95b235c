from __future__ import annotations

import gzip
import shutil

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import read, write
from ase.io.formats import string2index

from mlff_calc.datasets import LabelKeys, StructureDataset, Units, count_labels, read_structures
from mlff_calc.datasets.ase_files import read_frame
from mlff_calc.dynamics.structures import read_structure
from mlff_calc.errors import DatasetError

KCAL = 4184.0 / 96485.33212  # CODATA 2018; ASE's values of 2014 differ by 1e-8


def labelled(atoms: Atoms, seed: int, **results) -> Atoms:
    rng = np.random.default_rng(seed)
    labels = {"energy": -3.0 * seed - 1.0, "forces": rng.normal(size=(len(atoms), 3)), **results}
    atoms = atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, **{name: value for name, value in labels.items() if value is not None})
    return atoms


@pytest.fixture
def frames() -> list[Atoms]:
    return [labelled(molecule("CH3CH2OH"), seed) for seed in range(5)]


@pytest.mark.parametrize("name", ["a.extxyz", "a.xyz", "a.xyz.gz", "a.traj", "a.json"])
def test_any_file_of_ase(tmp_path, frames, name):
    write(tmp_path / name, frames)
    samples = read_structures(tmp_path / name)
    assert [sample.frame for sample in samples] == list(range(5))
    for sample, atoms in zip(samples, frames, strict=True):
        assert sample.energy == pytest.approx(atoms.get_potential_energy())
        np.testing.assert_allclose(sample.forces, atoms.get_forces(), atol=1e-7)
        assert sample.stress is None
        assert sample.atoms.calc is None
    assert count_labels(samples) == {"frames": 5, "energy": 5, "forces": 5, "stress": 0}
    assert [s.frame for s in read_structures(tmp_path / name, "1:4:2")] == [1, 3]
    assert [s.frame for s in read_structures(tmp_path / name, -1)] == [4]


def test_labels_are_found_wherever_ase_puts_them(tmp_path, frames):
    plain, named = [], []
    for atoms in frames:
        bare = atoms.copy()
        bare.calc = None
        bare.info["REF_energy"] = atoms.get_potential_energy() + 100.0
        bare.arrays["REF_forces"] = 2.0 * atoms.get_forces()
        bare.info["config_type"] = "rattled"
        named.append(bare)
        both = bare.copy()
        both.calc = atoms.calc
        plain.append(both)
    write(tmp_path / "both.extxyz", plain)
    write(tmp_path / "named.extxyz", named)
    keys = LabelKeys(energy="REF_energy", forces="REF_forces")
    assert count_labels(read_structures(tmp_path / "named.extxyz"))["energy"] == 0
    for file in ("both.extxyz", "named.extxyz"):
        sample = read_structures(tmp_path / file, keys=keys)[1]
        assert sample.energy == pytest.approx(96.0)
        np.testing.assert_allclose(sample.forces, 2.0 * frames[1].get_forces(), atol=1e-7)
        assert sample.config_type == "rattled"
    default = read_structures(tmp_path / "both.extxyz", keys=LabelKeys(energy="energy", forces="forces"))[1]
    assert default.energy == pytest.approx(-4.0)


def test_forces_are_those_of_the_file_not_the_constrained_ones(tmp_path, frames):
    frames[0].set_constraint(FixAtoms([0, 1]))
    write(tmp_path / "a.traj", frames[0])
    np.testing.assert_allclose(
        read_structures(tmp_path / "a.traj")[0].forces, frames[0].get_forces(apply_constraint=False)
    )


def test_stress_and_virial(tmp_path):
    voigt = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) * 1e-2
    full = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]]) * 1e-2
    atoms = labelled(bulk("Si", cubic=True), 0, stress=voigt)
    volume = atoms.get_volume()
    atoms.info["virial"] = -volume * full
    atoms.info["other_virial"] = volume * full
    atoms.info["voigt"] = voigt
    write(tmp_path / "a.extxyz", atoms)
    for keys in (
        LabelKeys(),
        LabelKeys(stress="stress"),
        LabelKeys(stress="voigt"),
        LabelKeys(virial="virial"),
        LabelKeys(virial="other_virial", virial_sign=-1),
    ):
        np.testing.assert_allclose(read_structures(tmp_path / "a.extxyz", keys=keys)[0].stress, full, atol=1e-8)
    with pytest.raises(DatasetError, match=r"both a stress .* and a virial"):
        LabelKeys(stress="stress", virial="virial")


def test_stress_as_vasp_prints_it(tmp_path):
    """1602.1766 kbar are 1 eV/Angstrom^3; VASP's order is xx yy zz xy yz zx, and its sign positive in compression."""
    atoms = labelled(bulk("Si", cubic=True), 0)
    atoms.info["in_kB"] = 1602.176634 * np.array([0.1, 0.2, 0.3, 0.06, 0.04, 0.05])
    write(tmp_path / "a.extxyz", atoms)
    expected = -np.array([[0.1, 0.06, 0.05], [0.06, 0.2, 0.04], [0.05, 0.04, 0.3]])
    for units in (None, Units("Hartree", "Bohr")):  # kbar for any units of other labels
        found = read_structures(tmp_path / "a.extxyz", keys=LabelKeys(vasp_stress="in_kB"), units=units)[0]
        np.testing.assert_allclose(found.stress, expected, rtol=1e-7)
    with pytest.raises(DatasetError, match=r"both a stress \('stress'\) and a vasp_stress \('in_kB'\)"):
        LabelKeys(stress="stress", vasp_stress="in_kB")
    with pytest.raises(DatasetError, match=r"no frame holds the vasp_stress label 'in_kb'.*did you mean 'in_kB'"):
        read_structures(tmp_path / "a.extxyz", keys=LabelKeys(vasp_stress="in_kb"))
    atoms.info["in_kB"] = np.eye(3)
    write(tmp_path / "b.extxyz", atoms)
    with pytest.raises(DatasetError, match=r"frame 0: label 'in_kB' has shape \[3, 3\]"):
        read_structures(tmp_path / "b.extxyz", keys=LabelKeys(vasp_stress="in_kB"))


def test_units(tmp_path, frames):
    write(tmp_path / "a.extxyz", frames)
    sample = read_structures(tmp_path / "a.extxyz", units=Units("kcal/mol", "Bohr"))[2]
    assert sample.energy == pytest.approx(-7.0 * KCAL)
    np.testing.assert_allclose(sample.atoms.positions, frames[2].positions * 0.529177, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(sample.forces, frames[2].get_forces() * KCAL / 0.529177, rtol=1e-5, atol=1e-7)
    with pytest.raises(DatasetError, match="did you mean 'kcal/mol'"):
        Units("kcal/mo")


def test_a_named_label_that_is_nowhere(tmp_path, frames):
    for atoms in frames:
        atoms.info["REF_energy"] = 1.0
    write(tmp_path / "a.extxyz", frames)
    with pytest.raises(
        DatasetError, match=r"a\.extxyz: no frame holds the energy label 'REF_enrgy'.*mean 'REF_energy'"
    ):
        read_structures(tmp_path / "a.extxyz", keys=LabelKeys(energy="REF_enrgy"))


def test_labels_of_some_frames_only(tmp_path, frames):
    mixed = [*frames, labelled(Atoms("O"), 7, forces=None), labelled(Atoms("H"), 8, energy=None)]
    write(tmp_path / "a.traj", mixed)
    samples = read_structures(tmp_path / "a.traj", keys=LabelKeys(forces="forces"))
    assert count_labels(samples) == {"frames": 7, "energy": 6, "forces": 6, "stress": 0}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_labels_that_are_not_finite(tmp_path, frames, bad):
    frames[3].calc.results["forces"][4, 1] = bad
    write(tmp_path / "a.traj", frames)
    with pytest.raises(DatasetError, match=r"a\.traj, frame 3: label 'forces' holds 1 of 27 values"):
        read_structures(tmp_path / "a.traj")
    frames[3] = labelled(frames[3], 3, energy=bad)
    write(tmp_path / "b.traj", frames)
    with pytest.raises(DatasetError, match=r"b\.traj, frame 3: label 'energy'"):
        read_structures(tmp_path / "b.traj")


def test_labels_of_the_wrong_kind(tmp_path, frames):
    frames[0].info["REF"] = "low"
    write(tmp_path / "a.extxyz", frames)
    with pytest.raises(DatasetError, match="frame 0: label 'REF' is 'low', not real numbers"):
        read_structures(tmp_path / "a.extxyz", keys=LabelKeys(energy="REF"))
    with pytest.raises(DatasetError, match="frame 0: label 'forces' has shape"):
        read_structures(tmp_path / "a.extxyz", keys=LabelKeys(energy="forces"))


def test_missing_and_broken_files(tmp_path, frames):
    write(tmp_path / "train.extxyz", frames)
    with pytest.raises(DatasetError, match=r"no file .*trian\.extxyz; did you mean .*/train\.extxyz"):
        read_structures(tmp_path / "trian.extxyz")
    with pytest.raises(DatasetError, match="does not exist"):
        read_structures(tmp_path / "nowhere" / "train.extxyz")
    with pytest.raises(DatasetError, match="is a folder"):
        read_structures(tmp_path)
    text = (tmp_path / "train.extxyz").read_text()
    (tmp_path / "cut.extxyz").write_text(text[: len(text) // 2])
    with pytest.raises(DatasetError, match=r"cut\.extxyz cannot be read by ASE"):
        read_structures(tmp_path / "cut.extxyz")
    with gzip.open(tmp_path / "a.extxyz.gz", "wt") as file:
        file.write(text)
    (tmp_path / "cut.extxyz.gz").write_bytes((tmp_path / "a.extxyz.gz").read_bytes()[:200])
    with pytest.raises(DatasetError, match="cannot be read"):
        read_structures(tmp_path / "cut.extxyz.gz")
    (tmp_path / "empty.extxyz").touch()
    with pytest.raises(DatasetError, match=r"empty\.extxyz"):
        read_structures(tmp_path / "empty.extxyz")
    with pytest.raises(DatasetError, match="selects none"):
        read_structures(tmp_path / "train.extxyz", "7:")
    with pytest.raises(DatasetError, match="does not fit 5 frames"):
        read_structures(tmp_path / "train.extxyz", 9)
    with pytest.raises(DatasetError, match="only rMD17 archives have parts"):
        read_structures(tmp_path / "train.extxyz", part="train")


@pytest.mark.parametrize("name", ["~nobody_of_this_name/a.extxyz", "~nobody_of_this_name"])
def test_a_home_folder_of_an_unknown_user(name):
    with pytest.raises(DatasetError, match=rf"'{name}' names no home folder .*; write the path out"):
        read_structures(name)


@pytest.mark.parametrize("blank", ["\n", " \t\n\n", "\r\n"])
@pytest.mark.parametrize("suffix", ["xyz", "extxyz.gz"])
def test_blank_lines_between_frames_cost_none(tmp_path, frames, blank, suffix):
    write(tmp_path / "plain.extxyz", frames)
    lines = (tmp_path / "plain.extxyz").read_text().splitlines(keepends=True)
    size = len(frames[0]) + 2
    texts = ["".join(lines[start : start + size]) for start in range(0, len(lines), size)]
    assert len(texts) == len(frames)
    spaced = (blank + texts[0] + texts[1] + blank + blank.join(texts[2:]) + 3 * blank).encode()
    (tmp_path / f"a.{suffix}").write_bytes(gzip.compress(spaced) if suffix.endswith("gz") else spaced)
    expected = read(tmp_path / "plain.extxyz", ":")
    for index in (":", "1:4:2", "-2:", 3, -1):
        found = read_structures(tmp_path / f"a.{suffix}", index)
        chosen = expected[string2index(index)] if isinstance(index, str) else [expected[index]]
        assert len(found) == len(chosen)
        for sample, atoms in zip(found, chosen, strict=True):
            np.testing.assert_array_equal(sample.atoms.positions, atoms.positions)
            assert sample.energy == atoms.get_potential_energy()


@pytest.mark.parametrize("blank", ["", "\n", "\n  \n"])
def test_text_after_the_frames_is_refused_with_its_line(tmp_path, frames, blank):
    write(tmp_path / "a.extxyz", frames[:2])
    text = (tmp_path / "a.extxyz").read_text() + blank
    (tmp_path / "a.extxyz").write_text(text + "# end of file\n")
    line = text.count("\n") + 1
    with pytest.raises(DatasetError, match=rf"frame 2: its first line is '# end of file' \(line {line}\)"):
        read_structures(tmp_path / "a.extxyz")
    assert len(read_structures(tmp_path / "a.extxyz", ":2")) == 2


@pytest.mark.parametrize("name", ["a.xyz", "a.traj"])
def test_one_frame_is_the_one_that_ase_reads(tmp_path, frames, name):
    write(tmp_path / name, frames)
    for number in (-1, 0, 3, -4):
        found, expected = read_frame(tmp_path / name, number), read(tmp_path / name, number)
        assert found == expected
        assert found.info == expected.info
        np.testing.assert_array_equal(found.get_forces(), expected.get_forces())
    text = (tmp_path / name).read_bytes()
    if name == "a.xyz":
        (tmp_path / "b.xyz").write_bytes(text + b"\n" + text)
        assert read_frame(tmp_path / "b.xyz", 9) == frames[4]
        assert read_structure(tmp_path / "b.xyz") == frames[4]


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "R": rng.normal(size=(4, 3, 3)),
        "E": rng.normal(size=4),
        "F": rng.normal(size=(4, 3, 3)),
        "z": np.array([8, 1, 1]),
    }


def test_rmd17_layouts(tmp_path, arrays):
    whole = save(
        tmp_path / "w.npz", nuclear_charges=arrays["z"], coords=arrays["R"], energies=arrays["E"], forces=arrays["F"]
    )
    cut = save(
        tmp_path / "c.npz",
        z=arrays["z"],
        **{
            f"{name}_{part}": arrays[name][rows]
            for name in "REF"
            for part, rows in (("train", [0, 1]), ("test", [2, 3]))
        },
    )
    plain = save(tmp_path / "p.npz", **arrays)
    for samples in (
        read_structures(whole),
        read_structures(cut, part="train") + read_structures(cut, part="test"),
        read_structures(plain, format="rmd17"),
        read_structures(plain, units=Units("kcal/mol")),
    ):
        for sample, position, energy, force in zip(samples, arrays["R"], arrays["E"], arrays["F"], strict=True):
            assert sample.energy == pytest.approx(energy * KCAL, rel=1e-7)
            np.testing.assert_allclose(sample.forces, force * KCAL, rtol=1e-7)
            np.testing.assert_allclose(sample.atoms.positions, position)
            assert sample.atoms.get_chemical_formula() == "H2O"
    with pytest.raises(DatasetError, match="does not state its units"):
        read_structures(plain)
    with pytest.raises(DatasetError, match="say which one"):
        read_structures(cut)
    with pytest.raises(DatasetError, match="unknown part 'valid'"):
        read_structures(cut, part="valid")
    with pytest.raises(DatasetError, match="has no parts"):
        read_structures(whole, part="train")
    with pytest.raises(DatasetError, match="leave `keys` out"):
        read_structures(whole, keys=LabelKeys(energy="E"))


def test_padded_and_periodic_archives(tmp_path, arrays):
    arrays["z"] = np.array([[8, 1, 1], [8, 1, 0], [1, 0, 0], [8, 0, 1]])
    file = save(tmp_path / "a.npz", **arrays, cell=np.broadcast_to(9.0 * np.eye(3), (4, 3, 3)))
    samples = read_structures(file, units=Units())
    assert [len(sample.atoms) for sample in samples] == [3, 2, 1, 2]
    np.testing.assert_allclose(samples[3].forces, arrays["F"][3][[0, 2]])
    assert samples[0].atoms.pbc.all()
    assert samples[0].atoms.get_volume() == pytest.approx(729.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"E": np.array([0.0, np.nan, 0.0, 0.0])}, "frame 1: label 'E'"),
        ({"F": np.full((4, 3, 3), np.nan)}, "frame 0: label 'F' holds 9 of 9"),
        ({"E": np.zeros(3)}, "'E' has 3 frames, 'R' has 4"),
        ({"F": np.zeros((4, 2, 3))}, "'F' has shape"),
        ({"z": np.zeros(7)}, "'z' has shape"),
        ({"R": np.zeros((4, 9))}, "'R' has shape"),
        ({"R": None}, "holds the arrays"),
    ],
)
def test_archives_that_do_not_fit(tmp_path, arrays, change, message):
    arrays = {name: value for name, value in (arrays | change).items() if value is not None}
    with pytest.raises(DatasetError, match=message):
        read_structures(save(tmp_path / "a.npz", **arrays), units=Units())


def test_truncated_and_pickled_archives(tmp_path, arrays):
    file = save(tmp_path / "a.npz", **arrays)
    (tmp_path / "cut.npz").write_bytes(file.read_bytes()[:300])
    with pytest.raises(DatasetError, match="cannot be read as an npz"):
        read_structures(tmp_path / "cut.npz", units=Units())
    np.savez(tmp_path / "object.npz", **(arrays | {"z": np.array([{}, {}, {}], dtype=object)}))
    with pytest.raises(DatasetError, match="holds Python objects, which are not read"):
        read_structures(tmp_path / "object.npz", units=Units())


def test_real_ethanol(data_dir):
    train = StructureDataset.from_file(data_dir / "rmd17" / "ethanol.npz", part="train")
    test = StructureDataset.from_file(data_dir / "rmd17" / "ethanol.npz", "::10", part="test")
    assert count_labels(train.samples) == {"frames": 1000, "energy": 1000, "forces": 1000, "stress": 0}
    assert train.elements() == [1, 6, 8]
    assert len(test) == 50
    assert train.samples[0].energy == pytest.approx(-97079.92222179 * KCAL, rel=1e-7)


def test_real_files_of_ase(data_dir, tmp_path):
    carbon = data_dir / "condensed" / "carbon_gap17_100.extxyz.gz"
    samples = read_structures(carbon, keys=LabelKeys(forces="force", virial="virial"))
    assert count_labels(samples) == {"frames": 100, "energy": 100, "forces": 100, "stress": 100}
    assert samples[0].stress[2, 2] < 0 or samples[0].stress[0, 0] < 0  # compressed graphite: virial > 0, stress < 0
    assert samples[0].config_type == "bulk_cryst"
    assert count_labels(read_structures(carbon))["forces"] == 0
    shutil.copy(data_dir / "condensed" / "mlearn_Si_test.extxyz.gz", tmp_path / "si.xyz.gz")
    assert count_labels(read_structures(tmp_path / "si.xyz.gz")) == {
        "frames": 25,
        "energy": 25,
        "forces": 25,
        "stress": 0,
    }
