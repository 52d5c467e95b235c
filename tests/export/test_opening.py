"""The precision of a calculation: the given one, that of exported files, or the default."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlff_calc.dynamics.md import Source
from mlff_calc.errors import OptionError
from mlff_calc.export import export_potential, load_exported, read_metadata
from mlff_calc.export.opening import precision_of
from mlff_calc.potential import build_potential


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with one potential exported in two precisions."""
    made = tmp_path_factory.mktemp("exported")
    backbone = {"name": "hegnn", "cutoff": 3.0, "l_max": 1, "channels": 4, "n_layers": 1}
    potential = build_potential({"backbone": backbone, "elements": ["H"]}, seed=2).eval()
    for precision in ("float32", "float64"):
        export_potential(potential, made / f"{precision}.pt", precision=precision)
    return made


@pytest.mark.parametrize("look", [read_metadata, lambda file: load_exported(file, trust=True)])
def test_of_files_loaded_or_not(folder: Path, look) -> None:
    single, double = (look(folder / f"{name}.pt") for name in ("float32", "float64"))
    assert precision_of([double, double], None) == "float64"
    assert precision_of([single, double], "mixed") == "mixed"
    assert precision_of([], None) == "float32"
    assert precision_of([object()], None, default="float64") == "float64"
    with pytest.raises(OptionError, match=r"several precisions \(float32, float64\)"):
        precision_of([single, double], None)


def test_of_a_run(folder: Path) -> None:
    def precision(*names: str, asked: str | None = None) -> str:
        return Source(names, device="cpu", trust=False, spell=str).precision(asked)

    single, double = str(folder / "float32.pt"), str(folder / "float64.pt")
    assert precision(double, "ethanol") == "float64"
    assert precision("ethanol") == "float32"
    assert precision(double, asked="float32") == "float32"
    with pytest.raises(OptionError, match="several precisions"):
        precision(double, single)
