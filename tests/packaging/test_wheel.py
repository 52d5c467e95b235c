"""The content of the built wheel, and its use without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from mlff_calc.networks import kind_of

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("mlff_calc", "potentials", "tests", "docs", "md_runs", "pyproject.toml", "setup.cfg", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that no build folder appears in the checkout."""
    if find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed, and the build must not reach for the network")
    source = tmp_path_factory.mktemp("source")
    for name in COPIED:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__", "_build", "*.egg-info"))
        elif path.is_file():
            shutil.copy(path, source / name)
    (source / "potentials" / "example").mkdir()
    for name in ("weights.safetensors", "recipe.yaml", "card.md", "notes.txt"):
        (source / "potentials" / "example" / name).write_text("example\n", encoding="utf-8")
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_only_the_library_is_installed(names: set[str]) -> None:
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"mlff_calc"}


def test_every_module_is_in_the_wheel(names: set[str]) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "mlff_calc").rglob("*.py")}
    assert modules - names == set()
    assert "mlff_calc/py.typed" in names


def test_data_files_are_in_the_wheel(names: set[str]) -> None:
    data = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "mlff_calc").rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc", ".so"} and "__pycache__" not in path.parts
    }
    assert data - names == set()


def test_potentials_are_package_data(names: set[str]) -> None:
    assert "mlff_calc/shipped/water_egxc/train.extxyz" in names
    for file in ("weights.safetensors", "recipe.yaml", "card.md"):
        assert f"mlff_calc/shipped/example/{file}" in names
    assert "mlff_calc/shipped/example/notes.txt" not in names
    shipped = {path.parent.name for path in (ROOT / "potentials").glob("*/card.md")}
    assert {f"mlff_calc/shipped/{name}/weights.safetensors" for name in shipped} <= names


def test_lammps_inputs_are_package_data(names: set[str]) -> None:
    files = {path.name for path in (ROOT / "md_runs" / "lammps").iterdir() if path.is_file()}
    assert {"in.nve_ethanol", "ethanol.data"} <= files
    assert {name.rpartition("/")[2] for name in names if name.startswith("mlff_calc/lammps/inputs/")} == files


def test_entry_point(wheel: Path, names: set[str]) -> None:
    (path,) = [name for name in names if name.endswith("entry_points.txt")]
    assert "mlff = mlff_calc.cli.main:main" in zipfile.ZipFile(wheel).read(path).decode()


@pytest.mark.slow
def test_wheel_works_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    """The command and the shipped potentials work from the wheel alone, in another folder."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    # Dependencies come from the environment of the tests, but the package itself must not.
    here = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    outer = Path(find_spec("numpy").origin).parents[1]
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for entry in outer.iterdir():
        if "mlff_calc" not in entry.name and entry.suffix != ".pth":
            (shelf / entry.name).symlink_to(entry)
    Path(here, "shelf.pth").write_text(f"{shelf}\n", encoding="utf-8")

    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    code = "import mlff_calc, importlib.resources as r; print(mlff_calc.__file__); print(r.files('mlff_calc.shipped'))"
    done = subprocess.run(
        [str(python), "-c", code], cwd=tmp_path, env=clean, capture_output=True, text=True, check=True
    )
    assert all(line.startswith(here) for line in done.stdout.splitlines()), done.stdout
    done = subprocess.run(
        [str(environment / "bin" / "mlff"), "--version"], cwd=tmp_path, env=clean, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.startswith("mlff_calc ")
    command = [str(environment / "bin" / "mlff"), "lammps", "inputs", "-o", "copies"]
    subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, check=True)
    for path in (ROOT / "md_runs" / "lammps").iterdir():
        assert (tmp_path / "copies" / path.name).read_bytes() == path.read_bytes()
    folders = [path.parent for path in (ROOT / "potentials").glob("*/card.md")]
    shipped = sorted(folder.name for folder in folders if kind_of(folder) == "potential")
    code = f"from mlff_calc import load_potential; [load_potential(name) for name in {shipped!r}]"
    subprocess.run([str(python), "-c", code], cwd=tmp_path, env=clean, check=True)
