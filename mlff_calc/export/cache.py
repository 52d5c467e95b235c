"""The cache of compiled potentials, and the key that decides whether an entry can be used."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from mlff_calc.caches import cache_dir
from mlff_calc.potential import Potential


def compiled_cache_dir() -> Path:
    """Return the folder of compiled potentials: `$MLFF_CACHE`, or `mlff_calc` below `$XDG_CACHE_HOME` or `~/.cache`."""
    return cache_dir("compiled")


def _processor() -> str:
    """Identify the processor, since compiled code uses its vector instructions."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                return hashlib.sha256(line.encode()).hexdigest()
    except OSError:
        pass
    return platform.processor()


_ROOMS = ("graph", "nn", "fixed_point", "backbones", "heads", "potential", "export")
"""Rooms whose code ends up in a compiled potential."""


@cache
def _code() -> str:
    """Digest of the sources of a compiled potential, so that a corrected line does not leave old results in the cache."""
    digest = hashlib.sha256()
    package = Path(__file__).resolve().parents[1]
    for room in _ROOMS:
        for file in sorted((package / room).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def cache_key(potential: Potential, device: torch.device, n_threads: int, step: Sequence[int] | None = None) -> str:
    """Hex digest of weights, configuration, code, precision, device, threads, sizes of a step, torch and machine."""
    digest = hashlib.sha256()
    facts = {
        "code": _code(),
        "config": potential.config,
        "precision": potential.precision,
        "device": str(torch.cuda.get_device_name(device)) if device.type == "cuda" else "cpu",
        "threads": n_threads,
        "step": None if step is None else list(step),
        "torch": torch.__version__,
        "machine": [platform.system(), platform.machine(), _processor()],
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for name, value in sorted(potential.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
