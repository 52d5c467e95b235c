"""The script of conformers runs unchanged in its short form."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("rdkit")

from rdkit import Chem


def test_conformers(script, tmp_path):
    shown = script("conformers.py", "--output", tmp_path / "found.sdf")
    shares = [float(share) for share in re.search(r"found ([\d.]+) %.* seed 1 ([\d.]+) %", shown).groups()]
    assert all(50.0 < share <= 100.1 for share in shares)
    assert "kcal/mol" in shown
    records = list(Chem.SDMolSupplier(str(tmp_path / "found.sdf"), removeHs=False))
    assert 2 <= len(records) == shown.count(" kcal/mol  ")
    assert float(records[0].GetProp("weight_298K_torsions")) > 0.1
    assert {path.suffix for path in tmp_path.iterdir()} == {".sdf", ".csv", ".html"}
