"""Description of the machine that a run used."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def machine() -> str:
    """Name processor, threads and GPU in words."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    text = f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)"
    return text + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "")
