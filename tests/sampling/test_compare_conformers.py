"""`mlff compare` of two SDF files: of one molecule, with all its stereoisomers, and not of two."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("rdkit")

from rdkit import Chem
from rdkit.Chem import AllChem


def sdf(path, *every):
    """Write a record for each SMILES."""
    with Chem.SDWriter(str(path)) as writer:
        for smiles in every:
            mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
            AllChem.EmbedMolecule(mol, randomSeed=1)
            writer.write(mol)


def test_stereoisomers_of_an_open_centre_all_count(tmp_path, mlff):
    sdf(tmp_path / "open.sdf", "C[C@H](O)F", "C[C@@H](O)F", "C[C@H](O)F")
    done = mlff("compare", "open.sdf", "open.sdf", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["reference"], found["other"]) == (3, 3)


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [("CCO", "CCN", "different atoms"), ("CCOC", "CCCO", "different atoms"), ("CCCO", "CC(C)O", "different bonds")],
)
def test_another_molecule_is_refused(tmp_path, mlff, first, second, text):
    sdf(tmp_path / "one.sdf", first)
    sdf(tmp_path / "two.sdf", second)
    refused = mlff("compare", "one.sdf", "two.sdf", cwd=tmp_path)
    assert refused.returncode == 1
    assert text in refused.stderr
