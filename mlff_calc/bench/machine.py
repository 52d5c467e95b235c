"""Description of the machine on which a figure was measured."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from mlff_calc.version import __version__


def processor_name() -> str:
    """Return the name of the processor, from /proc/cpuinfo where that exists."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe_machine(device: str = "cpu") -> dict[str, Any]:
    """Return processor, cores, current load, versions, and the GPU if one is used."""
    facts: dict[str, Any] = {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "mlff_calc": __version__,
    }
    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        facts["gpu"] = torch.cuda.get_device_name(torch.device(device if device != "auto" else "cuda"))
    return facts
