"""`make gpu-check`, as far as it can be tested without a GPU."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / ".ci" / "gpu_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["eager", "compiled"])
def test_the_command_line_of_the_timings_parses(check: ModuleType, name: str) -> None:
    from typer.main import get_command

    from mlff_calc.cli.main import build_app

    words = check.bench_command(name, Path("report.json"))
    command = get_command(build_app()).commands[words[0]]
    context = command.make_context("bench", words[1:])  # parses without running
    assert context.params["device"] == "cuda"
    assert context.params["compiled"] is (name == "compiled")
    assert context.params["json_file"] == Path("report.json")


def test_the_timings_write_their_json(check: ModuleType, mlff: Callable, tmp_path: Path) -> None:
    words = check.bench_command("eager", tmp_path / "report.json", device="cpu")
    assert mlff(*words, "--systems", "ethanol", "--steps", 1).returncode == 0
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["timings"][0]["total_ms"] > 0.0


def test_contract_and_calculator_tests_are_selected_on_a_gpu() -> None:
    """Tests are collected as on a machine with a GPU, which collecting does not need."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "tests/contract", "tests/calculators", "tests/graph"],
        cwd=ROOT,
        env={**os.environ, "MLFF_TEST_DEVICE": "cuda"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = [line.split("[")[0] for line in done.stdout.splitlines() if "::" in line]
    contract = {line.rsplit("::", 1)[1] for line in found if line.startswith("tests/contract/")}
    text = (ROOT / "tests" / "contract" / "test_contract.py").read_text(encoding="utf-8")
    assert contract >= {
        line.split("(")[0].removeprefix("def ") for line in text.splitlines() if line.startswith("def test_")
    }
    assert "test_nothing_waits_for_the_host" in contract
    assert any(line.startswith("tests/calculators/") for line in found)


def test_only_missing_wheels_are_used_and_never_torch(check: ModuleType) -> None:
    names = ("ase-3.26.0-py3-none-any.whl", "matscipy-1.2.0-cp311-cp311-linux_x86_64.whl", "PyYAML-6.0-cp311-cp311-any.whl",
             "torch-2.13.0-cp311-cp311-linux_x86_64.whl", "triton-3.7.0-cp311-cp311-linux_x86_64.whl",
             "nvidia_cublas_cu12-12.8-py3-none-any.whl", "torch_scatter-2.1-cp311-any.whl")  # fmt: skip
    chosen = check.choose_wheels([Path(name) for name in names], {"ASE", "pyyaml", "numpy"})
    assert [path.name.split("-")[0] for path in chosen] == ["matscipy"]


@pytest.mark.parametrize(
    ("tests", "bench", "says"),
    [
        ({"status": 0, "contract": 40, "failed": []}, 0, None),
        ({"status": 0, "contract": 0, "failed": []}, 0, "no contract test"),
        ({"status": 5, "failed": []}, 0, "status 5"),
        ({"status": 1, "contract": 40, "failed": ["a::b"]}, 0, "a::b"),
        ({"status": 0, "contract": 40, "failed": []}, 2, "no such option"),
    ],
)
def test_what_counts_as_a_failure(check: ModuleType, tests: dict, bench: int, says: str | None) -> None:
    trouble = check.find_trouble({"tests": tests, "bench": {"eager": {"status": bench, "output": "no such option"}}})
    assert bool(trouble) == (says is not None)
    assert says is None or says in " ".join(trouble)
