"""Shipped networks and networks in a folder, of all kinds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from mlff_calc.cli.main import build_app, run_cli
from mlff_calc.errors import OptionError, PotentialFileError
from mlff_calc.networks import find_network, list_networks
from mlff_calc.networks.base import Network
from mlff_calc.networks.load import load_network
from mlff_calc.potential import list_potentials, load_potential


class Scale(Network):
    """A kind that is unknown to the package."""

    kind = "scale"
    units: ClassVar = {"y": "1"}
    use = "multiply by it"

    def __init__(self, config: dict[str, Any], seed: int = 0) -> None:
        super().__init__(config)
        self.factor = torch.nn.Parameter(torch.full((config["n"],), float(seed)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Scale({"n": 2}, 3).save(tmp_path / "several" / "b", card="# Three times\n")
    Scale({"n": 1}, 5).save(tmp_path / "several" / "a", card="\n# Five times\n\nno more\n")
    return tmp_path / "several"


def test_any_kind_is_saved_listed_and_loaded(folder: Path) -> None:
    assert [(e.name, e.kind, e.summary) for e in list_networks(folder)] == [
        ("a", "scale", "Five times"),
        ("b", "scale", "Three times"),
    ]
    loaded = load_network(folder / "b", "scale", Scale)
    assert loaded.factor.tolist() == [3.0, 3.0]
    assert not loaded.training
    assert loaded.to_precision("float64").factor.dtype == torch.float64
    with pytest.raises(OptionError, match="unknown precision 'mixed' of a scale; choose one of float32, float64"):
        loaded.to_precision("mixed")


def test_the_purpose_of_a_file_is_in_its_header(folder: Path) -> None:
    with pytest.raises(PotentialFileError, match=r"b holds a scale, not a potential; multiply by it"):
        load_potential(folder / "b")
    with pytest.raises(PotentialFileError, match=rf"is not a scale.*did you mean {folder / 'a'}\?"):
        find_network(folder, "scale")
    with pytest.raises(PotentialFileError, match=r"no potential 'silikon': .*did you mean 'silicon'"):
        find_network("silikon", "potential")
    with pytest.raises(PotentialFileError, match=r"no scale 'silikon': there is no such folder, and what ships is nothing"):
        find_network("silikon", "scale")  # names of another kind would not help


def test_the_command_lists_a_folder_and_shows_a_card(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(build_app(), ["potentials", str(folder)]) == 0
    assert capsys.readouterr().out == "a  scale  Five times\nb  scale  Three times\n"
    assert run_cli(build_app(), ["potentials", str(folder / "b")]) == 0
    assert capsys.readouterr().out == f"# Three times\n\nFolder: {folder / 'b'}\n"
    assert run_cli(build_app(), ["potentials", str(folder / "b"), "--json"]) == 0
    one = {"name": "b", "kind": "scale", "path": str(folder / "b"), "card": "# Three times"}
    assert json.loads(capsys.readouterr().out) == one
    assert run_cli(build_app(), ["potentials", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} == {entry.name for entry in list_networks()}
    assert {row["name"] for row in rows if row["kind"] == "potential"} == {entry.name for entry in list_potentials()}


def test_listing_does_not_wait_for_torch() -> None:
    code = "import sys; from mlff_calc import list_potentials; list_potentials(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_folder_with_the_name_of_a_shipped_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """The folder is used, with one warning; given as a path it is used without a warning."""
    Scale({"n": 1}).save(tmp_path / "silicon")
    monkeypatch.chdir(tmp_path)
    for name in ("./silicon", tmp_path / "silicon"):
        assert find_network(name) == Path(name)
    assert not caplog.records
    for _ in range(2):
        assert find_network("silicon") == Path("silicon")
    assert [record.getMessage() for record in caplog.records] == [
        f"silicon: the folder {tmp_path / 'silicon'} is taken, not what ships under this name; write ./silicon for silence"
    ]
