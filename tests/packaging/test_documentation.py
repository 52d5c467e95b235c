"""Tutorials consist of blocks that can be run. Running all of them is slow, so the build of the site does it as well."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = {path.parent.name for path in (ROOT / "potentials").glob("*/weights.safetensors")}


def _runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_tutorials", ROOT / "docs" / "run_tutorials.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RUNNER = _runner()


@pytest.mark.parametrize("name", RUNNER.TUTORIALS)
def test_tutorials_have_blocks_that_compile(name: str) -> None:
    found = list(RUNNER.blocks(ROOT / "docs" / f"{name}.md"))
    assert len(found) >= 4
    for block in found:
        if block.language == "python":
            compile(block.text, f"{name}.md:{block.line}", "exec")


def test_every_fenced_block_is_run_or_gives_the_reason_why_not() -> None:
    for name in RUNNER.TUTORIALS:
        text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
        fences = [line for line in text.splitlines() if line.startswith(("```python", "```bash", "```yaml"))]
        skipped = text.count("<!-- not run: ")
        assert len(list(RUNNER.blocks(ROOT / "docs" / f"{name}.md"))) + skipped == len(fences), name


def test_a_failing_block_fails_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("one\n\n```python\nx = 1\n```\n\n```python\nraise ValueError(x)\n```\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"page\.md, line 8: ValueError: 1"):
        RUNNER.run_page(page, tmp_path)
    page.write_text("```bash\nfalse\n```\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="CalledProcessError"):
        RUNNER.run_page(page, tmp_path)


def test_readme_example_runs(tmp_path: Path) -> None:
    if "ethanol" not in SHIPPED:
        pytest.skip("no potential named ethanol ships in this checkout")
    (code,) = [block.text for block in RUNNER.blocks(ROOT / "README.md") if block.language == "python"]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].endswith("eV")


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNNER.TUTORIALS)
def test_tutorials_run(name: str) -> None:
    command = [sys.executable, str(ROOT / "docs" / "run_tutorials.py"), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
