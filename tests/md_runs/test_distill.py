"""The script of distillation runs unchanged in its short form."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("rdkit")
pytest.importorskip("tblite")


@pytest.mark.slow
def test_distillation(script, tmp_path):
    shown = script("distill.py", "--output", tmp_path / "run")
    assert "round 1: " in shown
    assert re.search(r"40 steps at 300 K; no spread|the dynamics were stopped: .* threshold", shown)
    assert (tmp_path / "run" / "potential" / "card.md").is_file()
