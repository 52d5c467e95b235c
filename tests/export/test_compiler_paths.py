"""Folders in which PyTorch's compiler cannot work are refused before it starts."""

from __future__ import annotations

import tempfile

import pytest

from mlff_calc.errors import OptionError
from mlff_calc.export import export_potential, require_compiler
from mlff_calc.potential import build_potential


@pytest.mark.parametrize("name", ["a b", "it's", 'a"b', "a\tb", "a\\b"])
@pytest.mark.parametrize("variable", ["TMPDIR", "TORCHINDUCTOR_CACHE_DIR"])
def test_refused(tmp_path, monkeypatch, variable, name):
    folder = tmp_path / name
    folder.mkdir()
    if variable == "TMPDIR":
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
    else:
        monkeypatch.setenv(variable, str(folder))
    with pytest.raises(OptionError, match=rf"{variable} is .*set {variable} to another folder"):
        require_compiler()
    backbone = {"name": "equiformer", "cutoff": 4.0, "l_max": 1, "channels": 8, "n_layers": 1}
    potential = build_potential({"backbone": backbone, "elements": ["H"]}, seed=3)
    with pytest.raises(OptionError, match="blanks"):
        export_potential(potential, tmp_path / "p.pt2", to="lammps")
    assert not (tmp_path / "p.pt2").exists()


def test_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "müller-1,x"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    require_compiler()
