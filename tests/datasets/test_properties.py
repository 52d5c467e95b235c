"""Structures with one number: frames, tables with SMILES, and labels that are refused."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from mlff_calc.datasets.properties import read_properties
from mlff_calc.errors import DatasetError


def frames_file(folder: Path, labels: list[object], name: str = "gap") -> Path:
    frames = []
    for label in labels:
        atoms = molecule("H2O")
        if label is not None:
            atoms.info[name] = label
        atoms.info["charge"] = 1
        frames.append(atoms)
    ase.io.write(folder / "frames.extxyz", frames, format="extxyz")
    return folder / "frames.extxyz"


def test_frames_with_labels(tmp_path: Path) -> None:
    found = read_properties(frames_file(tmp_path, [1.0, 2, 3.5]), "gap", index="1:")
    assert [one.value for one in found.samples] == [2.0, 3.5]
    assert found.samples[0].atoms.info == {"charge": 1}
    assert found.samples[0].place.endswith("frames.extxyz, frame 1")
    assert found.notes == []


@pytest.mark.parametrize("hole", [None, float("nan"), float("inf")])
def test_labels_that_are_missing_or_not_finite(tmp_path: Path, hole: object) -> None:
    path = frames_file(tmp_path, [1.0, hole, 3.5])
    with pytest.raises(DatasetError, match=r"1 of 3 labels 'gap' .* that of .*, frame 1; .* data.missing: skip"):
        read_properties(path, "gap")
    found = read_properties(path, "gap", missing="skip")
    assert [one.frame for one in found.samples] == [0, 2]
    assert "1 of 3 frames" in found.notes[0]


def test_a_label_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no frame has a number under the label 'gop'; did you mean 'gap'"):
        read_properties(frames_file(tmp_path, [1.0]), "gop", missing="skip")


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (np.array([1.0, 2.0, 3.0]), r"shape \[3\], one entry for each of 3 atoms; a property is one number"),
        (np.array([1.0, 2.0]), r"label 'gap' has shape \[2\]; a property is one number"),
        ("high", "label 'gap' is 'high', not a number"),
        (True, r"label 'gap' has shape \[\]"),
    ],
)
def test_labels_of_another_size_than_the_structure(tmp_path: Path, label: object, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        read_properties(frames_file(tmp_path, [label]), "gap")


def table(folder: Path, text: str) -> Path:
    path = folder / "molecules.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_tables_with_smiles(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    path = table(tmp_path, "\ufeffname, smiles, gap\nwater,O,7.1\nammonium,[NH4+],9\nethanol, CCO, 6.5\n")
    found = read_properties(path, "gap").samples
    assert [one.atoms.get_chemical_formula() for one in found] == ["H2O", "H4N", "C2H6O"]
    assert [one.value for one in found] == [7.1, 9.0, 6.5]
    assert [one.atoms.info for one in found] == [{}, {"charge": 1}, {}]
    again = read_properties(path, "gap", index="-1").samples
    assert np.array_equal(again[0].atoms.positions, found[2].atoms.positions)
    assert again[0].place.endswith("molecules.csv, row 2 (CCO)")
    other = read_properties(path, "gap", index="-1", seed=1).samples[0]
    assert not np.allclose(other.atoms.positions, again[0].atoms.positions)


@pytest.mark.parametrize(
    ("smiles", "words"),
    [
        ("C(C", "row 1: 'C\\(C': RDKit reads no molecule"),
        ("", "row 1: the SMILES is empty"),
        ("[2H]O", "names the isotope 2H, which networks do not see"),
        ("[Na+].[Cl-]", "holds 2 molecules"),
        ("[CH3]", "unpaired electrons"),
    ],
)
def test_smiles_that_fail(tmp_path: Path, smiles: str, words: str) -> None:
    pytest.importorskip("rdkit")
    path = table(tmp_path, f"smiles,gap\nO,1\n{smiles},2\nN,3\n")
    with pytest.raises(DatasetError, match=f"1 of 3 SMILES of .* give no molecule; .*{words}.* data.failed: skip"):
        read_properties(path, "gap")
    found = read_properties(path, "gap", failed="skip")
    assert [one.value for one in found.samples] == [1.0, 3.0]
    assert "1 of 3 SMILES" in found.notes[0]


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    path = table(tmp_path, "SMILES,gap\nO,1\n")
    with pytest.raises(DatasetError, match=r"has no column 'smiles'.* Name it in data.smiles"):
        read_properties(path, "gap")
    with pytest.raises(DatasetError, match="has no column 'gop'; did you mean 'gap'"):
        read_properties(path, "gop", smiles="SMILES")
    with pytest.raises(DatasetError, match="rows '9' cannot be read"):
        read_properties(path, "gap", smiles="SMILES", index="9")
