"""The repository for its readers: documented commands exist, and texts are about the software only."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = {".py", ".md", ".toml", ".cfg", ".txt", ".yaml", ".yml", ".css", ".html", ".in", ""}


def _tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).is_file()]


def test_documented_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)(?=`|$|\s*#)", page.read_text(encoding="utf-8"), flags=re.MULTILINE))
        assert named <= targets, f"{page.name}: {sorted(named - targets)}"
    assert {"demo", "test", "lint", "types", "docs", "gpu-check"} <= targets


def test_documented_commands_exist() -> None:
    from mlff_calc.cli.main import COMMANDS

    known = {command.name for command in COMMANDS}
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        named = set(re.findall(r"(?:^|`|\$ )mlff ([a-z]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE))
        assert named <= known, f"{page.name}: {sorted(named - known)}"


def test_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text
    assert "make test" in text


def test_no_paths_of_one_machine() -> None:
    machine_paths = re.compile("/" + "work/|/" + "root/|/" + "home/[a-z]")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in _tracked()
        if path.suffix in TEXT
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if machine_paths.search(line)
    ]
    assert found == []


def test_no_file_is_large() -> None:
    large = [str(path.relative_to(ROOT)) for path in _tracked() if path.stat().st_size > 4_000_000]
    assert large == []
