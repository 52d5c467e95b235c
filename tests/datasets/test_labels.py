"""Spellings, signs, storage and units of labels."""

from __future__ import annotations

import logging

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.datasets import LabelKeys, Units, count_labels, read_structures
from mlff_calc.datasets.absent import absent_labels
from mlff_calc.datasets.labels import extract_labels
from mlff_calc.datasets.spellings import kind_of_name
from mlff_calc.errors import DatasetError

HEAD = '1\nLattice="2 0 0 0 3 0 0 0 5" Properties=species:S:1:pos:R:3:{forces}:R:3 {info} pbc="{pbc}"\n'
HEAD += 'Si 0 0 1 0.5 0 -0.25\n'
HARTREE, BOHR, GPA = 27.211386, 0.52917721, 1.0 / 160.21766


def one(folder, info="energy=-3", forces="forces", pbc="T T T", keys=None, units=None, checked=None):
    path = folder / "one.extxyz"
    path.write_text(HEAD.format(info=info, forces=forces, pbc=pbc))
    extra = {} if checked is None else {"checked": checked}
    return read_structures(path, keys=keys, units=units, **extra)[0]


FULL = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])


@pytest.mark.parametrize("numbers", ["1 2 3 4 5 6", "1 6 5 6 2 4 5 4 3", "1,2,3,4,5,6"])
@pytest.mark.parametrize("quote", ['"{}"', "'{}'", "[{}]", "{{{}}}"])
def test_six_and_nine_numbers(tmp_path, numbers, quote):
    if "," in numbers and "[" not in quote and "{{" not in quote:
        numbers = numbers.replace(",", " ")
    written = quote.format(numbers)
    np.testing.assert_allclose(one(tmp_path, f"stress={written}").stress, FULL)
    np.testing.assert_allclose(one(tmp_path, f"my={written}", keys=LabelKeys(stress="my")).stress, FULL)
    for keys in (LabelKeys(virial="virial"), LabelKeys(stress="virial")):  # the volume is 30
        np.testing.assert_allclose(one(tmp_path, f"virial={written}", keys=keys).stress, -FULL / 30.0)
    other = LabelKeys(stress="dft_virials", virial_sign=-1)
    np.testing.assert_allclose(one(tmp_path, f"dft_virials={written}", keys=other).stress, FULL / 30.0)


def test_a_stress_is_no_virial(tmp_path):
    with pytest.raises(DatasetError, match=r"by its name is a stress .* write keys.stress: REF_stress"):
        LabelKeys(virial="REF_stress")
    with pytest.raises(DatasetError, match="ASE puts into its own order"):
        LabelKeys(vasp_stress="stress")
    with pytest.raises(DatasetError, match=r"label 'stress'|stress"):
        one(tmp_path, 'stress="1 2 3 4 5"')


@pytest.mark.parametrize("pbc", ["T T F", "F F F"])
def test_a_stress_without_a_volume_is_reported(tmp_path, pbc):
    sample = one(tmp_path, 'stress="1 2 3 4 5 6"', pbc=pbc)
    assert sample.stress is None
    assert "not periodic in all three directions" in sample.absent["stress"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("force", "forces"), ("REF_forces", "forces"), ("dft_forces", "forces"), ("forces_dft", "forces"),
        ("free_energy", "energy"), ("energies_dft", "energy"), ("REF_energy", "energy"), ("TotEnergy", "energy"),
        ("virials", "virial"), ("REF_virial", "virial"), ("dft_stress", "stress"), ("MP2-energy", "energy"),
        ("charges", None), ("workforce", None), ("config_type", None), ("step", None),
    ],
)  # fmt: skip
def test_spellings(name, kind):
    assert kind_of_name(name) == kind


def test_other_spellings_are_named_with_their_keys(tmp_path):
    sample = one(tmp_path, 'REF_energy=-1 virial="1 0 0 0 1 0 0 0 1"', forces="force")
    assert sample.labels() == {}
    assert absent_labels([sample]) == {
        "energy": ["1 of 1 frames hold 'REF_energy' (keys.energy: REF_energy or --key energy=REF_energy takes it)"],
        "forces": ["1 of 1 frames hold 'force' (keys.forces: force or --key forces=force takes it)"],
        "stress": ["1 of 1 frames hold 'virial' (keys.virial: virial or --key virial=virial takes it)"],
    }
    keys = LabelKeys(energy="REF_energy", forces="force", virial="virial")
    assert one(tmp_path, 'REF_energy=-1 virial="1 0 0 0 1 0 0 0 1"', forces="force", keys=keys).absent == {}


def test_labels_without_weight_may_be_faulty(tmp_path):
    for info in ('energy=-3 stress="inf 0 0 0 0 0"', "energy=-3 stress=[1,2,nan,4,5,6]"):
        with pytest.raises(DatasetError, match="not finite"):
            one(tmp_path, info)
        sample = one(tmp_path, info, checked=("energy", "forces"))
        assert set(sample.labels()) == {"energy", "forces"}
        assert "are faulty and left out" in sample.absent["stress"]
    with pytest.raises(DatasetError, match="energy"):
        one(tmp_path, "energy=nan", checked=("energy",))
    assert one(tmp_path, "energy=nan", checked=("forces",)).energy is None


def trajectory(folder, info, arrays, **results):
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.1]], info=info)
    for name, value in arrays.items():
        atoms.arrays[name] = value
    atoms.calc = SinglePointCalculator(atoms, **results)
    ase.io.write(folder / "a.traj", atoms)
    return folder / "a.traj"


def test_labels_of_a_frame_come_from_one_place(tmp_path, caplog):
    other, own = np.full((2, 3), 2.0), np.ones((2, 3))
    path = trajectory(tmp_path, {"energy": -7.0}, {"forces": other}, energy=-1.5, forces=own)
    with caplog.at_level(logging.WARNING):
        sample = read_structures(path)[0]
    assert (sample.energy, sample.forces[0, 0]) == (-1.5, 1.0)
    assert "energy of the structures" in caplog.text
    with pytest.raises(DatasetError, match=r"frame 0: 'energy' is both in atoms.info and in the calculator's results"):
        read_structures(path, keys=LabelKeys(energy="energy"))
    caplog.clear()
    path = trajectory(tmp_path, {"energy": -1.5}, {"forces": own}, energy=-1.5, forces=own)
    assert read_structures(path, keys=LabelKeys(energy="energy"))[0].energy == -1.5
    read_structures(path)
    assert caplog.text == ""
    path = trajectory(tmp_path, {"energy": -1.5}, {}, forces=own)
    with pytest.raises(DatasetError, match=r"'energy' is in the structure .* but 'forces' in the calculator's results"):
        read_structures(path)
    sample = read_structures(path, keys=LabelKeys(energy="energy", forces="forces"))[0]
    assert (sample.energy, sample.forces[0, 0]) == (-1.5, 1.0)
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.1]])  # trajectories do not keep such arrays, but other formats do
    atoms.arrays["forces"] = other
    atoms.calc = SinglePointCalculator(atoms, energy=-1.5)
    with pytest.raises(DatasetError, match="'forces' is in the structure"):
        extract_labels(atoms, LabelKeys(), Units(), "here")
    atoms.calc = SinglePointCalculator(atoms, energy=-1.5, forces=own)
    assert extract_labels(atoms, LabelKeys(), Units(), "here")[0]["forces"][0, 0] == 1.0
    with pytest.raises(DatasetError, match=r"here: 'forces' is both in atoms.arrays"):
        extract_labels(atoms, LabelKeys(forces="forces"), Units(), "here")


def test_units_of_each_label(tmp_path, caplog):
    info = 'energy=-1 stress="2 2 2 0 0 0"'
    for units, force, stress in (
        (Units("Hartree", "Angstrom", "Hartree/Bohr", "GPa"), HARTREE / BOHR, 2 * GPA),
        (Units("hartree", "Angstrom", "Ha/ang", "kbar"), HARTREE, 0.2 * GPA),
        (Units("eV", "Angstrom", "kcal/mol/Angstrom", "Ha/Bohr^3"), 0.0433641, 2 * HARTREE / BOHR**3),
        (Units("kJ/mol", "nm"), 0.01036427 / 10, 2 * 0.01036427 / 1000),
        (Units("Rydberg", "Bohr"), HARTREE / 2 / BOHR, HARTREE / BOHR**3),
    ):
        sample = one(tmp_path, info, units=units)
        np.testing.assert_allclose(sample.forces, [[0.5 * force, 0.0, -0.25 * force]], rtol=1e-6)
        np.testing.assert_allclose(sample.stress, np.eye(3) * stress, rtol=1e-6)
        assert caplog.text == ""
    gradient = one(tmp_path, keys=LabelKeys(forces_sign=-1))
    np.testing.assert_allclose(gradient.forces, [[-0.5, 0.0, 0.25]])
    supposed = one(tmp_path, units=Units("Hartree"))
    np.testing.assert_allclose(supposed.forces, [[0.5 * HARTREE / BOHR, 0.0, -0.25 * HARTREE / BOHR]], rtol=1e-6)
    assert "give units.forces" in caplog.text
    with pytest.raises(DatasetError, match=r"give units\.stress"):
        one(tmp_path, info, units=Units("Hartree"))


def test_a_virial_in_other_units(tmp_path):
    units = Units("Hartree", "Bohr")
    sample = one(tmp_path, 'virial="1 0 0 0 1 0 0 0 1"', keys=LabelKeys(virial="virial"), units=units)
    np.testing.assert_allclose(sample.stress, -np.eye(3) * HARTREE / (30 * BOHR**3), rtol=1e-6)


@pytest.mark.parametrize("unit", ["Hartree", "Hartree/Borh", "eV/Angstrom^3", "/Bohr", "furlong/Bohr"])
def test_unknown_units_of_forces(unit):
    with pytest.raises(DatasetError, match="unknown unit of forces"):
        Units(forces=unit)


@pytest.mark.parametrize("unit", ["eV/Angstrom", "eV/Angstrom^2", "psi", "eV"])
def test_unknown_units_of_stress(unit):
    with pytest.raises(DatasetError, match="unknown unit of stress"):
        Units(stress=unit)


def test_stress_of_ase_stays_right(tmp_path):
    atoms = bulk("Si", cubic=True)
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, stress=np.arange(1.0, 7.0))
    ase.io.write(tmp_path / "a.traj", atoms)
    ase.io.write(tmp_path / "a.extxyz", atoms)
    for name in ("a.traj", "a.extxyz"):
        samples = read_structures(tmp_path / name)
        np.testing.assert_allclose(samples[0].stress, FULL)
        assert count_labels(samples)["stress"] == 1


def test_archives_with_atomic_units(tmp_path, caplog):
    arrays = {"z": np.array([8, 1]), "R": np.array([[[0, 0, 0], [0, 0, 1.0]]]), "E": np.zeros(1), "F": np.ones((1, 2, 3))}
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez(tmp_path / "b.npz", **arrays, e_unit="Hartree", r_unit="Ang")  # written by sGDML, also for forces
    stated = read_structures(tmp_path / "b.npz")[0]
    np.testing.assert_allclose(stated.forces, HARTREE, rtol=1e-6)
    given = read_structures(tmp_path / "a.npz", units=Units("Hartree", forces="Hartree/Angstrom"))[0]
    np.testing.assert_allclose(given.forces, HARTREE, rtol=1e-6)
    assert caplog.text == ""
    supposed = read_structures(tmp_path / "a.npz", units=Units("Hartree"))[0]
    np.testing.assert_allclose(supposed.forces, HARTREE / BOHR, rtol=1e-6)
    assert "give units.forces" in caplog.text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("corrected_total_energy", "energy"), ("Energy_eV", "energy"), ("ccsd(t)_energy", "energy"),
        ("forces_ev_per_ang", "forces"), ("wb97m.forces", "forces"), ("virial_tensor", "virial"), ("stress_GPa", "stress"),
        ("kinetic_energy", None), ("config_energy_weight", None), ("energy_per_atom", None), ("virial_stress", None),
        ("force_constants", None), ("max_force", None), ("energetics", None), ("fermi-energy", None),
    ],
)  # fmt: skip
def test_words_around_a_name(name, kind):
    assert kind_of_name(name) == kind


@pytest.mark.parametrize(
    ("forces", "info", "kind", "expected"),
    [
        ("gradient", "energy=-3", "forces", "keys.forces: gradient, keys.forces_sign: -1 or --key forces=gradient --key"),
        ("dft_grad", "energy=-3", "forces", "keys.forces: dft_grad, keys.forces_sign: -1 or"),
        ("raw_force", "energy=-3", "forces", "keys.forces: raw_force or --key forces=raw_force takes it"),
        ("forces", 'energy=-3 vasp_stress="1 2 3 4 5 6"', "stress", "keys.vasp_stress: vasp_stress or"),
    ],
)
def test_advice_can_be_used_literally(tmp_path, forces, info, kind, expected):
    assert expected in one(tmp_path, info, forces).absent[kind]


def test_a_gradient_is_not_taken_for_forces(tmp_path):
    with pytest.raises(DatasetError, match=r"keys\.forces is 'QM_gradient', .* add forces_sign: -1"):
        LabelKeys(forces="QM_gradient")
    found = one(tmp_path, forces="QM_gradient", keys=LabelKeys(forces="QM_gradient", forces_sign=-1))
    np.testing.assert_allclose(found.forces, [[-0.5, 0.0, 0.25]])


@pytest.mark.parametrize(
    "written",
    ["[[1,6,5],[6,2,4],[5,4,3]]", '"[[1, 6, 5], [6, 2, 4], [5, 4, 3]]"', '"_JSON [[1,6,5],[6,2,4],[5,4,3]]"',
     '"_JSON [1,2,3,4,5,6]"'],
)  # fmt: skip
@pytest.mark.parametrize("key", ["stress", '"stress"', "stress "])
def test_brackets_and_quotes_of_a_stress(tmp_path, key, written):
    np.testing.assert_allclose(one(tmp_path, f"energy=-3 {key}={written}").stress, FULL)
    virial = one(tmp_path, f"energy=-3 {key.replace('stress', 'virial')}={written}", keys=LabelKeys(virial="virial"))
    np.testing.assert_allclose(virial.stress, -FULL / 30.0)


@pytest.mark.parametrize("written", ['"1 2 3"', "none", '"1 2 3 4 5 x"', "1", '"1 2 3 4 5 6 7 8"', "T"])
def test_an_invalid_stress_matters_only_with_a_weight(tmp_path, written):
    with pytest.raises(DatasetError, match=r"one\.extxyz, frame 0: label 'stress' "):
        one(tmp_path, f"energy=-3 stress={written}")
    sample = one(tmp_path, f"energy=-3 stress={written}", checked=("energy", "forces"))
    assert (sample.energy, sample.stress) == (-3.0, None)
    assert "are faulty and left out, since they have no weight (label 'stress'" in sample.absent["stress"]
    assert one(tmp_path, f'energy=-3 virial={written} dipole=unknown').energy == -3.0


def test_words_inside_other_values_stay_as_they_are(tmp_path):
    sample = one(tmp_path, 'energy=-3 config_type="low stress = 1" comment="virial=no"')
    assert sample.config_type == "low stress = 1"


def test_a_stress_of_another_place_is_refused_unless_it_is_named(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.info["stress"] = np.arange(6.0)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((4, 3)))
    ase.io.write(tmp_path / "a.traj", atoms)
    with pytest.raises(DatasetError, match=r"frame 0: 'stress' is in the structure .*'energy' and 'forces' in the calc"):
        read_structures(tmp_path / "a.traj")
    assert read_structures(tmp_path / "a.traj", checked=("energy", "forces"))[0].energy == -1.0
    named = read_structures(tmp_path / "a.traj", keys=LabelKeys(stress="stress"))[0]
    assert named.stress[1, 2] == 3.0
    atoms.pbc = [True, True, False]
    ase.io.write(tmp_path / "b.traj", atoms)
    assert read_structures(tmp_path / "b.traj")[0].stress is None


ORDER = "xx yy zz xy xz yz"  # order in mlearn's molybdenum; its silicon has VASP's order
SIX = '"1 2 3 6 5 4"'


def test_six_numbers_in_any_order(tmp_path):
    for spelled in (ORDER, "xx, yy, zz, yx, zx, zy", "XX YY ZZ XY XZ YZ"):
        keys = LabelKeys(stress="my", stress_order=spelled)
        np.testing.assert_allclose(one(tmp_path, f"my={SIX}", keys=keys).stress, FULL)
    np.testing.assert_allclose(one(tmp_path, f"stress={SIX}", keys=LabelKeys(stress_order=ORDER)).stress, FULL)
    virial = one(tmp_path, f"virial={SIX}", keys=LabelKeys(virial="virial", stress_order=ORDER))
    np.testing.assert_allclose(virial.stress, -FULL / 30.0)
    kbar = one(tmp_path, f"in_kB={SIX}", keys=LabelKeys(vasp_stress="in_kB", stress_order=ORDER))
    np.testing.assert_allclose(kbar.stress, -FULL / 1602.1766, rtol=1e-6)
    default = one(tmp_path, 'in_kB="1 2 3 6 4 5"', keys=LabelKeys(vasp_stress="in_kB"))
    np.testing.assert_allclose(default.stress, -FULL / 1602.1766, rtol=1e-6)


@pytest.mark.parametrize(
    ("order", "fault"),
    [
        ("xx yy zz xy yz", "lacks xz"),
        ("xx yy zz xy yz yz", "lacks xz"),
        ("xx yy zz xy yz zx xx", "has 7 components"),
        ("xx yy zz xy yz xw", "'xw' is not a component"),
        ("", "lacks xx yy zz yz xz xy"),
    ],
)
def test_an_order_names_each_component_once(order, fault):
    with pytest.raises(DatasetError, match=fault):
        LabelKeys(stress="my", stress_order=order)


def test_an_order_is_of_six_numbers(tmp_path):
    with pytest.raises(DatasetError, match=r"one\.extxyz, frame 0: label 'my' has shape \[9\].*leave stress_order out"):
        one(tmp_path, 'my="1 6 5 6 2 4 5 4 3"', keys=LabelKeys(stress="my", stress_order=ORDER))
