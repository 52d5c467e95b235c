"""Check the package on a machine with a GPU and no network: contract tests and timings, one JSON of results.

The interpreter that runs this brings PyTorch; whatever else is missing comes from a folder of wheels, of which only
those are used that the interpreter lacks. Nothing is installed into the interpreter: a folder of its own is put on the
path instead. The check fails where no contract test ran.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = (
    "ase", "e3nn", "h5py", "hypothesis", "lightning", "matplotlib", "matscipy", "numpy", "pydantic", "pymatgen",
    "pytest", "rich", "safetensors", "scipy", "torch", "typer", "yaml",
)  # fmt: skip
NOT_FROM_WHEELS = ("torch", "triton", "nvidia-")  # the interpreter's own, which fit its driver
CONTRACT = "tests.contract."


def main() -> int:
    """Run the check.

    Returns:
        The exit status: 0 where all passed or there is no GPU, 1 otherwise.
    """
    options = _options()
    reason = _no_gpu()
    if reason:
        print(f"gpu-check skipped: {reason}")
        return 0
    with tempfile.TemporaryDirectory(prefix="mlff-gpu-") as folder:
        site = Path(folder) / "site"
        _install(site, options.wheels)
        environment = os.environ | {"PYTHONPATH": str(site), "MLFF_TEST_DEVICE": "cuda", "OMP_NUM_THREADS": "4"}
        missing = _missing(environment)
        if missing:
            print(
                f"gpu-check failed: this interpreter lacks {', '.join(missing)}, and {options.wheels} has no wheels of "
                "them. Put wheels there (pip download --only-binary=:all: -d wheels NAME) and run again."
            )
            return 1
        results = {
            "machine": _machine(),
            "tests": _tests(environment, Path(folder) / "junit.xml"),
            "bench": {name: _bench(environment, Path(folder), name) for name in _benches()},
        }
    options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results["tests"] | {"written to": str(options.output)}, indent=2))
    trouble = find_trouble(results)
    for line in trouble:
        print(f"gpu-check failed: {line}")
    return 1 if trouble else 0


def find_trouble(results: dict) -> list[str]:
    """What is wrong with the results, a sentence each; empty where all passed."""
    tests, trouble = results["tests"], []
    if tests["status"] != 0:
        trouble.append(f"pytest ended with status {tests['status']}; failed: {', '.join(tests['failed']) or 'none'}.")
    if not tests.get("contract", 0):
        trouble.append("no contract test ran on the GPU. Look at the skips: MLFF_TEST_DEVICE=cuda pytest -m gpu -rs.")
    for name, bench in results["bench"].items():
        if bench["status"] != 0:
            trouble.append(f"the {name} timings ended with status {bench['status']}: {bench['output'].strip()[-400:]}")
    return trouble


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, default=ROOT / "wheels", help="folder of wheels for what is missing")
    parser.add_argument("--output", type=Path, default=ROOT / "gpu-check.json", help="the JSON of results")
    return parser.parse_args()


def _no_gpu() -> str:
    """Why there is no GPU to check on; empty where there is one."""
    if find_spec("torch") is None:
        return f"{sys.executable} has no PyTorch; choose an interpreter that has it: make gpu-check PYTHON=..."
    import torch

    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} sees no CUDA device on this machine"
    return ""


def _install(site: Path, wheels: Path) -> None:
    """Lay the package out as its wheel does, and the wheels beside it; only those this interpreter lacks."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "mlff_calc", site / "mlff_calc", ignore=skip)
    shutil.copytree(ROOT / "potentials", site / "mlff_calc" / "shipped", ignore=skip)
    present = {distribution.metadata["Name"] for distribution in distributions()}
    files = choose_wheels(sorted(wheels.glob("*.whl")) if wheels.is_dir() else [], present)
    if files:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site)]
        subprocess.run([*command, *map(str, files)], check=True)


def choose_wheels(files: list[Path], present: set[str]) -> list[Path]:
    """Of wheel files those of distributions that are not present, PyTorch and what it brings never among them."""
    have = {_plain_name(name) for name in present if name}
    return [
        path
        for path in files
        if (name := _plain_name(path.name.split("-", 1)[0])) not in have and not name.startswith(NOT_FROM_WHEELS)
    ]


def _plain_name(name: str) -> str:
    """A distribution's name as indexes compare it: lower case, one hyphen for each run of separators."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _missing(environment: dict[str, str]) -> list[str]:
    code = f"import importlib.util as u; print(*[n for n in {NEEDED!r} if u.find_spec(n) is None])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def _machine() -> dict[str, str]:
    import torch

    return {
        "gpu": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "python": platform.python_version(),
        "commit": _commit(),
    }


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _tests(environment: dict[str, str], report: Path) -> dict:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", f"--junitxml={report}", str(ROOT / "tests")]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    suite = ElementTree.parse(report).getroot().find("testsuite") if report.is_file() else None
    counts = (
        {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")} if suite is not None else {}
    )
    failed = [] if suite is None else [
        f"{case.get('classname')}::{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]  # fmt: skip
    contract = [] if suite is None else [
        case
        for case in suite.iter("testcase")
        if case.get("classname", "").startswith(CONTRACT) and case.find("skipped") is None
    ]  # fmt: skip
    return {
        "command": " ".join(command),
        "status": done.returncode,
        **counts,
        "contract": len(contract),
        "failed": failed,
    }


def _benches() -> list[str]:
    """Eager timings, and compiled ones where there is a C++ compiler."""
    compilers = filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++"))
    return ["eager", "compiled"] if any(map(shutil.which, compilers)) else ["eager"]


def bench_command(name: str, report: Path, device: str = "cuda") -> list[str]:
    """The words after `mlff` that time a step, `name` being eager or compiled, with the JSON in `report`."""
    compiled = "--compile" if name == "compiled" else "--no-compile"
    return ["bench", "--device", device, compiled, "--json", str(report)]


def _bench(environment: dict[str, str], folder: Path, name: str) -> dict:
    report = folder / f"{name}.json"
    command = [sys.executable, "-m", "mlff_calc.cli.main", *bench_command(name, report)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    results = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else None
    return {
        "command": " ".join(command[1:]),
        "status": done.returncode,
        "results": results,
        "output": done.stdout[-4000:],
    }


if __name__ == "__main__":
    sys.exit(main())
