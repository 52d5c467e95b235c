"""Metadata are defined in one place, and the layout names every package."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def _pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_setup_cfg_holds_only_the_layout() -> None:
    parser = _setup()
    assert set(parser.sections()) == {"options", "options.package_data"}
    assert set(parser["options"]) == {"packages", "package_dir", "include_package_data", "zip_safe"}


def test_pyproject_holds_no_layout() -> None:
    assert "setuptools" not in _pyproject()["tool"]


def test_every_package_is_listed() -> None:
    listed = set(_setup()["options"]["packages"].split())
    present = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "mlff_calc").rglob("__init__.py")
    } | {"mlff_calc.shipped", "mlff_calc.lammps.inputs"}  # folders from other places in the repository
    assert listed == present


def test_no_python_file_is_outside_a_package() -> None:
    folders = {path.parent for path in (ROOT / "mlff_calc").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_dependencies_have_lower_bounds_and_no_pins() -> None:
    project = _pyproject()["project"]
    lines = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        lines += [line for line in extra if not line.startswith("mlff_calc[")]
    for line in lines:
        assert ">=" in line, line
        assert not re.search(r"==|<|~=", line.replace("!=", "")), line


def test_bad_lightning_releases_are_refused() -> None:
    lightning = [line for line in _pyproject()["project"]["dependencies"] if line.startswith("lightning")]
    assert len(lightning) == 1
    assert "!=2.6.2" in lightning[0]
    assert "!=2.6.3" in lightning[0]


def test_constraints_pin_every_dependency() -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line
    )
    assert pins["torch"] == "2.13.0"
    project = _pyproject()["project"]
    for line in project["dependencies"] + project["optional-dependencies"]["dev"]:
        name = re.split(r"[><=!\[]", line)[0].strip().lower().replace("_", "-")
        assert name == "mlff-calc" or name in pins, name


def test_pins_install_on_every_python_311() -> None:
    """A pin that needs a later patch release would make pip search endlessly on Debian's Python 3.11.2."""
    from importlib.metadata import distributions

    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name

    pins = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert len(pins) > 50
    needs = {
        found.metadata["Name"]: found.metadata["Requires-Python"] or ""
        for found in distributions()
        if canonicalize_name(found.metadata["Name"]) in pins
    }
    assert len(needs) > 50
    assert [name for name, need in needs.items() if not SpecifierSet(need).contains("3.11.0")] == []


def test_errors_are_errors_in_pytest() -> None:
    options = _pyproject()["tool"]["pytest"]["ini_options"]
    assert options["filterwarnings"][0] == "error"
    assert {line.split(":")[0] for line in options["markers"]} == {"slow", "gpu", "lammps", "electronic"}
