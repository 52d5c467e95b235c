"""One virtual environment per peer, kept between runs.

PyTorch is installed first and in our own version, and every later install repeats that pin: the same PyTorch runs under
all programs, and pip never replaces it by a build with gigabytes of CUDA.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import torch

from mlff_calc.bench.peers.catalogue import Environment
from mlff_calc.bench.processes import run_logged
from mlff_calc.errors import BenchmarkError

logger = logging.getLogger(__name__)

_PROBE = """
import importlib, importlib.metadata, json, sys
for module in sys.argv[2].split(","):
    importlib.import_module(module)
print("\\n" + json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1].split(",")}))
"""


def default_workdir() -> Path:
    """Folder of the environments and of everything the peers write."""
    return Path.home() / ".cache" / "mlff_calc" / "peers"


def torch_pin() -> str:
    """Requirement of PyTorch in the version that runs here, without its build's name."""
    return f"torch=={torch.__version__.split('+')[0]}"


def python_of(environment: Environment, workdir: Path) -> Path:
    """Interpreter of an environment, whether or not it exists."""
    return workdir / environment.name / "bin" / "python"


def installed_versions(environment: Environment, workdir: Path) -> dict[str, str] | None:
    """Versions of PyTorch and the peer's packages, or None where something is missing or does not import."""
    python = python_of(environment, workdir)
    if not python.is_file():
        return None
    names = ",".join((*(("torch",) if environment.torch else ()), *environment.packages))
    command = [str(python), "-W", "ignore", "-c", _PROBE, names, ",".join(environment.modules)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else None


def ensure_environment(environment: Environment, workdir: Path) -> dict[str, str]:
    """Make an environment, or take the one that is there.

    Args:
        environment: which one.
        workdir: folder of the environments.

    Returns:
        Versions by package.

    Raises:
        BenchmarkError: an install failed, or what was installed does not import; gives the end of its output.
    """
    versions = installed_versions(environment, workdir)
    if versions is not None:
        return versions
    workdir.mkdir(parents=True, exist_ok=True)
    log = workdir / f"install-{environment.name}.log"
    logger.info("installing %s into %s (log: %s)", ", ".join(environment.packages), workdir / environment.name, log)
    python = python_of(environment, workdir)
    if not python.is_file():
        run_logged([sys.executable, "-m", "venv", str(workdir / environment.name)], log)
    pin = [torch_pin()] if environment.torch else []
    if pin:
        run_logged([str(python), "-m", "pip", "install", *pin], log)
    run_logged([str(python), "-m", "pip", "install", *pin, *environment.packages], log)
    versions = installed_versions(environment, workdir)
    if versions is None:
        msg = f"{environment.name} was installed into {workdir / environment.name} but does not import; see {log}"
        raise BenchmarkError(msg)
    return versions
