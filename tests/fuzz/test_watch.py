"""The fuzz test detects its targets: excessive memory, started programs, and wrong outcomes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROBE = """
import os, subprocess, sys
import worker
worker.forget_peak()
before = worker.peak()
held = bytearray(200 << 20)
held[:] = bytes(200 << 20)
assert worker.peak() - before > 190 << 20
worker.limit_memory()
try:
    bytearray(5 << 30)
except MemoryError:
    pass
else:
    sys.exit("not limited")
sys.addaudithook(worker.watch)
os.system("true")
subprocess.run(["true"], check=True)
assert len(worker.executed) == 2, worker.executed
"""


def test_memory_and_programs_are_noticed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_wrong_ends(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from pool import is_wrong

    right = {"kind": "x", "number": 1, "end": "refused", "said": "no", "seconds": 1.0, "more": 0}
    assert not is_wrong(right)
    for change in ({"end": "unforeseen"}, {"end": "hang"}, {"end": "crash"}, {"executed": ["x"]}, {"seconds": 21.0},
                   {"more": 5 << 30}, {"said": "x" * 5000}):  # fmt: skip
        assert is_wrong(right | change), change
