"""Virtual environments of the peers, which are kept between runs.

PyTorch is installed first, in the version that runs here, and later installations repeat this pin. All programs then use the
same PyTorch, and pip never replaces it by a build with gigabytes of CUDA libraries.
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
    """Return the folder of the environments and of all files that peers write."""
    return Path.home() / ".cache" / "mlff_calc" / "peers"


def torch_pin() -> str:
    """Return the requirement for the version of PyTorch that runs here, without the label of its build."""
    return f"torch=={torch.__version__.split('+')[0]}"


def python_of(environment: Environment, workdir: Path) -> Path:
    """Return the path of the interpreter of an environment, which need not exist."""
    return workdir / environment.name / "bin" / "python"


def installed_versions(environment: Environment, workdir: Path) -> dict[str, str] | None:
    """Return the versions of PyTorch and the peer's packages; None if a package is missing or cannot be imported."""
    python = python_of(environment, workdir)
    if not python.is_file():
        return None
    names = ",".join((*(("torch",) if environment.torch else ()), *environment.packages))
    command = [str(python), "-W", "ignore", "-c", _PROBE, names, ",".join(environment.modules)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else None


def ensure_environment(environment: Environment, workdir: Path) -> dict[str, str]:
    """Create an environment unless it exists.

    Args:
        environment: Environment to create.
        workdir: Folder of the environments.

    Returns:
        Versions by package.

    Raises:
        BenchmarkError: An installation failed, or an installed package cannot be imported.
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
