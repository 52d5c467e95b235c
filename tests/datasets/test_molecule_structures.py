"""Structures from SMILES: positions that are minima, distortions of the right size, labels, and what is left out."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import units

pytest.importorskip("rdkit")

from mlff_calc.datasets.energy_files import EnergyFile, read_failures
from mlff_calc.datasets.labelling import label_items
from mlff_calc.datasets.mmff import distorted, energy_and_gradient, hessian, minima
from mlff_calc.datasets.molecule_structures import USUAL, MoleculeStructures
from mlff_calc.datasets.molecules import MoleculeError, from_smiles
from mlff_calc.datasets.pairs import in_contact
from mlff_calc.datasets.smiles import NamedSmiles, bundled_smiles, canonical, read_smiles, with_fragments, with_pairs
from mlff_calc.datasets.strained_bonds import with_strained_bonds
from mlff_calc.errors import DatasetError, OptionError, SimulationError
from mlff_calc.graph.rmsd import rmsds

from ..children import Child

NAMES = ("CCO", "O=C=O", "C/C=C/F", "[O-][N+](=O)c1ccccc1", "CS(C)=O")


def listed(*texts: str) -> list[NamedSmiles]:
    return [NamedSmiles(text, f"row {k}") for k, text in enumerate(texts)]


def test_positions_are_minima_of_their_molecules(tmp_path: Path) -> None:
    kind, path = MoleculeStructures(), tmp_path / "out.extxyz"
    summary = label_items(listed(*NAMES), kind, path)
    assert (summary.labelled, summary.n_items, summary.failures) == (len(NAMES), len(NAMES), [])
    frames = ase.io.read(path, ":")
    for frame, text in zip(frames, NAMES, strict=True):
        molecule = from_smiles(text)
        assert frame.numbers.tolist() == molecule.numbers
        again = minima(molecule.mol, frame.positions[None])[0]
        assert rmsds(again, frame.positions[None])[0] < 1e-2
        assert canonical(str(frame.info["smiles"])) == canonical(text)
    assert frames[2].info["name"] == "row 2"
    made = "ETKDGv3 and MMFF94, seed 0, up to 1 conformers, at most 20 atoms of Br C Cl F H N O P S"
    assert frames[0].info["made"] == made


def test_text_comes_back_from_the_file_as_it_is(tmp_path: Path) -> None:
    """ASE reads F as False, numbers as arrays, and takes a backslash for an escape."""
    names = ["F", "123", "1 2 3", "1,2", 'a "b" \\', "x=y", "_JSON 1", "tab\tthere", "{a", "plain name"]
    smiles = ["CCC", "C/C=C\\C", "C/C=C\\F", "CC#N", "C#N", "O", "N", "S", "CF", "CO"]
    items = [NamedSmiles(text, name) for text, name in zip(smiles, names, strict=True)]
    kind, path = MoleculeStructures(), tmp_path / "out.extxyz"
    label_items(items, kind, path)
    found = [frame.info for frame in ase.io.read(path, ":")]
    assert [one["smiles"] for one in found] == [canonical(text) for text in smiles]
    assert [one["name"] for one in found] == names
    assert label_items(items, kind, path, resume=True).computed == 0


@pytest.mark.parametrize("change", [{"max_atoms": 8}, {"elements": ("H", "C", "O")}])
def test_a_whole_file_of_other_molecules_is_not_resumed(tmp_path: Path, change: dict) -> None:
    path = tmp_path / "out.extxyz"
    label_items(listed("CCO", "C"), MoleculeStructures(), path)
    with pytest.raises(DatasetError, match=r"is whole, and of another level: .*at most 20 atoms.*now .*at most"):
        label_items(listed("CCO", "C"), MoleculeStructures(**change), path, resume=True)
    same = MoleculeStructures(elements=tuple(reversed(USUAL)))
    assert label_items(listed("CCO", "C"), same, path, resume=True).computed == 0


def test_conformers_are_different_and_rise_in_energy() -> None:
    found = MoleculeStructures(conformers=8).compute(NamedSmiles("OCCO", ""))
    positions = found["positions"]
    assert len(positions) > 2
    assert found["conformer"].tolist() == list(range(len(positions)))
    for k, one in enumerate(positions[1:], 1):
        assert rmsds(one, positions[:k]).min() > 0.1


def test_distortions_have_the_energy_of_their_temperature() -> None:
    """A harmonic oscillator has kT/2 of potential energy on average, and soft modes, which are limited, have less."""
    molecule, kT = from_smiles("O"), units.kB * 300.0
    minimum = MoleculeStructures().compute(NamedSmiles("O", ""))["positions"][0]
    curvature = hessian(molecule.mol, minimum)
    values = np.linalg.eigvalsh(curvature)
    assert values[5] == pytest.approx(0.0, abs=0.05)
    assert values[6] > 1.0
    found = distorted(molecule.mol, minimum, 4000, 300.0, np.random.default_rng(0))
    steps = (found - minimum).reshape(len(found), -1)
    energies = 0.5 * np.einsum("ki,ij,kj->k", steps, curvature, steps)
    assert energies.mean() == pytest.approx(0.5 * kT * 3, rel=0.05)
    assert np.abs((found - minimum).mean(axis=1)).max() < 1e-8


def test_what_is_made_depends_on_seed_and_molecule_alone() -> None:
    one, other = MoleculeStructures(distortions=1), MoleculeStructures(distortions=1, seed=1)
    first = one.compute(NamedSmiles("OCC", "a"))["positions"]
    assert np.array_equal(first, one.compute(NamedSmiles("OCC", "b"))["positions"])
    assert not np.allclose(first, other.compute(NamedSmiles("OCC", "a"))["positions"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("C[NH3+]", r"charge: .*total charge is 1 e"),
        ("[CH3]", r"radical: .*unpaired electrons"),
        ("[2H]C", r"isotope: .*names the isotope 2H"),
        ("C[SiH3]", r"element: .*holds Si, and allowed are H C N"),
        ("CCCCCCCCCC", r"size: .*32 atoms, and at most 20"),
        ("CC.O", r"mixture: .*2 molecules"),
        ("C1CC", r"unreadable: "),
        ("", r"unreadable: "),
    ],
)
def test_what_is_no_usual_molecule_is_left_out(text: str, reason: str) -> None:
    with pytest.raises(MoleculeError, match=reason):
        MoleculeStructures().compute(NamedSmiles(text, ""))


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    (tmp_path / "list.smi").write_text("smiles name\n# comment\nCCO ethanol\nOCC again\nC[NH3+]\nC1CC ring\n")
    items = read_smiles(tmp_path / "list.smi")
    assert [(one.text, one.name, one.first) for one in items[:2]] == [("CCO", "ethanol", None), ("OCC", "again", 0)]
    path = tmp_path / "out.extxyz"
    summary = label_items(items, MoleculeStructures(), path)
    assert [number for number, _ in summary.failures] == [1, 2, 3]
    assert read_failures(path) == summary.failures
    assert "duplicate: 'OCC' (number 0 is the same molecule)" in dict(summary.failures)[1]
    with pytest.raises(SimulationError, match=r"none of 2 SMILES has a label; SMILES 0: charge"):
        label_items(items[2:], MoleculeStructures(), tmp_path / "none.extxyz")


def test_files_of_smiles(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("id,structure\n1,CCO\n2,\n")
    assert [one.text for one in read_smiles(tmp_path / "table.csv", "structure")] == ["CCO", ""]
    with pytest.raises(DatasetError, match=r"no column 'smiles'; it has id, structure. Name it in --column"):
        read_smiles(tmp_path / "table.csv")
    (tmp_path / "empty.smi").write_text("\n")
    with pytest.raises(DatasetError, match=r"empty.smi holds no SMILES"):
        read_smiles(tmp_path / "empty.smi")
    (tmp_path / "list.dat").write_text("C")
    with pytest.raises(OptionError, match=r"list.dat: SMILES are read from files that end in .smi, .txt, .csv, .tsv"):
        read_smiles(tmp_path / "list.dat")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"conformers": 0}, "conformers is 0; give 1 to"),
        ({"distortions": -1}, "distortions is -1; give 0 to"),
        ({"temperatures": (300.0, 0.0)}, "temperature of distortions is 0 K"),
        ({"temperatures": ()}, "no temperature of distortions; give one or several"),
        ({"strained_bonds": -1}, "strained_bonds is -1; give 0 to"),
        ({"relax": True}, "give --label gfn2, or leave out --relax"),
        ({"way": 2, "label": "gfn2"}, "2 structures of the way .*give --relax too"),
        ({"label": "dft"}, "no label 'dft'; give none or gfn2"),
        ({"seed": -1}, "the seed is -1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, expected: str) -> None:
    with pytest.raises(OptionError, match=expected):
        MoleculeStructures(**options)


def test_molecules_without_a_file_are_different_and_usual() -> None:
    found = bundled_smiles(40, USUAL, 20, seed=3)
    assert len({canonical(one.text) for one in found}) == 40
    assert [one.text for one in bundled_smiles(5, USUAL, 20, seed=3)] == [one.text for one in found[:5]]
    assert [one.text for one in bundled_smiles(5, USUAL, 20, seed=4)] != [one.text for one in found[:5]]
    only = bundled_smiles(25, ("H", "C", "O"), 9)
    assert any(one.name.startswith("grown") for one in only)
    for one in only:
        molecule = from_smiles(one.text)
        assert set(molecule.numbers) <= {1, 6, 8}
        assert len(molecule.numbers) <= 9
        assert molecule.charge == 0
    with pytest.raises(OptionError, match=r"only \d+ molecules of at most 5 atoms of C H can be drawn, and 50 are"):
        bundled_smiles(50, ("H", "C"), 5)


def test_labels_are_those_of_gfn2(tmp_path: Path) -> None:
    """Work with labels is done in a process of its own, which takes seconds to start."""
    tblite = pytest.importorskip("tblite.ase")
    kind, path = MoleculeStructures(distortions=1, label="gfn2"), tmp_path / "out.extxyz"
    label_items(listed("O", "C=O", "C[NH3+]"), kind, path)
    file = EnergyFile(path)
    assert file.level == "GFN2-xTB"
    assert [frame.source for frame in file.frames] == [0, 0, 1, 1]
    assert [number for number, _ in file.failures] == [2]
    for atoms in ase.io.read(path, ":"):
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = tblite.TBLite(method="GFN2-xTB", verbosity=0)
        assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
        assert np.allclose(forces, atoms.get_forces(), atol=1e-3)  # of positions that are rounded in the file


def test_frames_without_a_label_are_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A distortion at 9000 K is refused by this test's calculator, which is tblite otherwise."""
    pytest.importorskip("tblite.ase")
    import mlff_calc.datasets.gfn2 as module

    kind = MoleculeStructures(distortions=2, label="gfn2")
    made = module.xtb_calculator()
    wanted = made.calculate

    def calculate(atoms: object = None, *args: object, **kwargs: object) -> None:
        if made.count == 1:
            made.count += 1
            raise RuntimeError("not converged")
        made.count += 1
        wanted(atoms, *args, **kwargs)

    made.count, made.calculate = 0, calculate
    monkeypatch.setattr(module, "xtb_calculator", lambda *_: made)
    found = kind.compute(NamedSmiles("O", ""))
    assert found["distortion"].tolist() == [0, 2]
    assert bytes(found["problems"]).decode() == "label: 1 of 3 frames have none, such as frame 1 (not converged)"


def test_minima_of_the_level_with_the_way_and_what_is_around_them() -> None:
    """The way falls in energy to the minimum, and one bond alone is strained."""
    pytest.importorskip("tblite.ase")
    kind = MoleculeStructures(
        distortions=5, temperatures=(100.0, 2000.0), strained_bonds=3, relax=True, way=3, label="gfn2"
    )
    words = "relaxed by GFN2-xTB with 3 structures of the way, 5 distortions of each at 100, 2000 K, 3 with a strained bond"
    assert words in str(kind)
    found = kind.compute(NamedSmiles("CC=O", ""))
    positions, energies = found["positions"], found["energy"]
    assert found["distortion"].tolist() == list(range(12))
    assert np.abs(found["forces"][0]).max() < 0.05
    assert np.abs(found["forces"][9]).max() > 0.5  # the way begins at the minimum of MMFF94
    assert energies[9] > energies[10] > energies[11] > energies[0]
    molecule = from_smiles("CC=O")
    bonds = np.array([(one.GetBeginAtomIdx(), one.GetEndAtomIdx()) for one in molecule.mol.GetBonds()])
    factors = lengths(positions[6:9], bonds) / lengths(positions[:1], bonds)
    assert [int((np.abs(one - 1.0) > 1e-9).sum()) for one in factors] == [1, 1, 1]
    assert factors.min() > 0.8
    assert factors.max() < 1.3


def test_distortions_are_as_warm_as_their_turn_says() -> None:
    pytest.importorskip("tblite.ase")
    kind = MoleculeStructures(distortions=11, temperatures=(10.0, 3000.0), label="gfn2")
    energies = kind.compute(NamedSmiles("O", ""))["energy"]
    assert energies[1:7].max() < energies[7:12].min()


def lengths(positions: np.ndarray, bonds: np.ndarray) -> np.ndarray:
    """Lengths [n_frames, n_bonds] of bonds."""
    return np.linalg.norm(positions[:, bonds[:, 0]] - positions[:, bonds[:, 1]], axis=-1)


def test_a_ring_has_no_bond_to_strain() -> None:
    """Bonds of hydrogen to the ring are strained, those in it are not; a ring without hydrogens has none."""
    molecule = from_smiles("c1ccccc1")
    minimum = MoleculeStructures().compute(NamedSmiles("c1ccccc1", ""))["positions"][0]
    found = with_strained_bonds(molecule.mol, minimum, 12, np.random.default_rng(0))
    assert np.array_equal(found[:, :6], np.repeat(minimum[None, :6], 12, axis=0))
    assert (np.abs(found[:, 6:] - minimum[6:]).max(axis=(1, 2)) > 0.0).all()
    alone = from_smiles("P1PP1").mol
    from rdkit import Chem

    bare = with_strained_bonds(Chem.RemoveHs(alone), np.eye(3), 5, np.random.default_rng(0))
    assert bare.shape == (0, 3, 3)


def test_pairs_are_in_contact_and_pulled_apart() -> None:
    kind = MoleculeStructures(conformers=3, strained_bonds=40, several=True)
    with pytest.raises(MoleculeError, match=r"mixture: .*2 molecules"):
        MoleculeStructures().compute(NamedSmiles("O.CO", ""))
    found = kind.compute(NamedSmiles("O.CO", ""))
    positions, minima_ = found["positions"], found["distortion"] == 0
    water, methanol = [0, 3, 4], [1, 2, 5, 6, 7, 8]  # hydrogens come last
    assert sorted(found["numbers"][water].tolist()) == [1, 1, 8]

    def inner(rows: list[int]) -> np.ndarray:
        places = positions[:, rows]
        return np.linalg.norm(places[:, :, None] - places[:, None], axis=-1)

    away = np.linalg.norm(positions[:, water][:, :, None] - positions[:, methanol][:, None], axis=-1).min(axis=(1, 2))
    assert 1.6 < away[minima_].min() < 2.2  # a hydrogen bond
    assert away[minima_].max() < 4.0
    mol = from_smiles("O.CO", several=True).mol
    from rdkit.Chem import rdForceFieldHelpers

    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
    energies, gradients = zip(*(energy_and_gradient(mol, properties, one) for one in positions[minima_]), strict=True)
    assert max(np.abs(one).max() for one in gradients) < 0.02  # eV/Angstrom, the force between the molecules included
    assert list(energies) == sorted(energies)
    apart = positions[0].copy()
    apart[methanol] += 30.0
    assert energy_and_gradient(mol, properties, apart)[0] - energies[0] > 0.15  # eV of the hydrogen bond
    first = slice(0, 41)
    for rows in (water, methanol):
        assert np.ptp(inner(rows)[first], axis=0).max() < 1e-9
    moved = away[1:41] - away[0]
    assert moved.min() > -0.41
    assert moved.max() < 3.01
    assert np.ptp(moved) > 2.0


def test_starts_of_pairs_are_apart_and_keep_their_stereo() -> None:
    molecule = from_smiles("C[C@H](F)Cl.C[C@H](F)Cl", several=True)
    places = in_contact(molecule, 6, seed=2)
    for positions in places:
        away = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
        carbon, fluorine, chlorine, methyl = 1, 2, 3, 0
        hands = []
        for shift in (0, 4):
            vectors = positions[[k + shift for k in (fluorine, chlorine, methyl)]] - positions[carbon + shift]
            hands.append(np.sign(np.linalg.det(vectors)))
        assert hands[0] == hands[1]
        assert away[:4, 4:8].min() > 2.0


def test_lists_grow_by_fragments_and_pairs() -> None:
    items = with_fragments(listed("CC(=O)Nc1ccccc1", "O.C", "not a smiles"))
    texts = [one.text for one in items]
    assert {"c1ccccc1", "CC=O"} <= set(texts[3:])
    assert len({canonical(text) for text in texts[3:]}) == len(texts) - 3
    assert items[3].name == "fragment of row 0"
    both = with_pairs(items, 20, ("H", "C", "O", "N"), seed=1)
    pairs = [one.text for one in both[len(items):]]
    assert len(set(pairs)) == 20
    assert all(set(from_smiles(text, several=True).numbers) <= {1, 6, 7, 8} for text in pairs)
    assert [one.text for one in with_pairs([], 5, ("H", "C", "O", "N"), seed=1)] == pairs[:5]
    with pytest.raises(OptionError, match=r"5000 pairs are asked for, and \d+ molecules have \d+; give fewer"):
        with_pairs([], 5000, ("H", "C"))


@pytest.mark.parametrize("label", ["none", pytest.param("gfn2", marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, label: str, child: Callable[..., Child]) -> None:
    if label == "gfn2":
        pytest.importorskip("tblite.ase")
    items = [NamedSmiles("C" * n, f"chain {n}") for n in range(2, 7)] + listed("CCO", "CO", "C=C", "CC=O", "CN", "CCN", "CS")
    kind = MoleculeStructures(conformers=2, distortions=1, label=label)
    whole = tmp_path / "whole.extxyz"
    label_items(items, kind, whole)
    path, journal = tmp_path / "killed.extxyz", tmp_path / ".killed.extxyz.journal"
    process = child(lambda: label_items(items, kind, path))
    while not journal.exists() or journal.stat().st_size < 3000:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not path.exists()
    summary = label_items(items, kind, path, resume=True)
    assert 0 < summary.computed < len(items)
    assert path.read_bytes() == whole.read_bytes()
    assert label_items(items, kind, path, resume=True).computed == 0
    with pytest.raises(DatasetError, match=r"is whole, and of another level: .*seed 0.*now .*seed 7"):
        label_items(items, MoleculeStructures(conformers=2, distortions=1, label=label, seed=7), path, resume=True)
    with pytest.raises(DatasetError, match=r"holds other SMILES;"):
        label_items([NamedSmiles("C", "x"), *items[1:]], kind, path, resume=True)


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    kind = MoleculeStructures(label="gfn2")
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    with pytest.raises(OptionError, match=r"pip install 'mlff_calc\[xtb\]'\. Or leave out the labels by --label none"):
        label_items(listed("C"), kind, tmp_path / "out.extxyz")
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(OptionError, match=r"pip install 'mlff_calc\[conformers\]'"):
        label_items(listed("C"), MoleculeStructures(), tmp_path / "out.extxyz")
