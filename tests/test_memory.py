"""Memory that is freed stays with the process and is reused."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, torch
from mlff_calc.memory import keep_freed_memory
told = keep_freed_memory()
def work():
    for _ in range(20):
        torch.ones(10_000_000).add_(1.0)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is told")
def test_steps_touch_no_fresh_pages() -> None:
    faults = {}
    for switch in ("0", "1"):
        environment = {**os.environ, "MLFF_KEEP_MEMORY": switch, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", "-c", COUNT_FAULTS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        told, faults[switch] = done.stdout.split()
        assert told == str(switch == "1")
    assert int(faults["1"]) < 100  # 20 arrays of 40 MB are 195,000 pages of 4 kB
    assert int(faults["0"]) > 10 * max(int(faults["1"]), 1)
