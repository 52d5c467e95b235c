"""The example inputs of the package, copied to a folder of the user."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlff_calc.cli.main import build_app
from mlff_calc.errors import OptionError
from mlff_calc.lammps import examples

SOURCES = Path(__file__).resolve().parents[2] / "md_runs" / "lammps"


def test_copies(tmp_path):
    done = CliRunner().invoke(build_app(), ["lammps", "inputs", "-o", str(tmp_path / "a b" / "c")])
    assert done.exit_code == 0, done.output
    names = {path.name for path in SOURCES.iterdir() if path.is_file()}
    assert {path.name for path in (tmp_path / "a b" / "c").iterdir()} == names
    assert {Path(line).name for line in done.stdout.splitlines()} == names
    for name in names:
        assert (tmp_path / "a b" / "c" / name).read_bytes() == (SOURCES / name).read_bytes()


def test_nothing_is_replaced(tmp_path):
    (tmp_path / "in.zbl_overlay").write_text("mine")
    with pytest.raises(OptionError, match=r"in\.zbl_overlay: there already"):
        examples.copy_inputs(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["in.zbl_overlay"]
    with pytest.raises(OptionError, match="cannot be written"):
        examples.copy_inputs(tmp_path / "in.zbl_overlay" / "below")
