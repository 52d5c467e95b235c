"""Worker processes that read damaged inputs, and are replaced when they hang or die."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
LONGEST = 20.0
"""Largest number of seconds for one input."""


def make_samples(folder: Path) -> None:
    """Fill a folder with intact inputs, in a separate process."""
    done = subprocess.run(_command(folder, "--make"), capture_output=True, text=True, env=_environment(), check=False)
    if "made" not in done.stdout:
        raise RuntimeError(f"no samples were made: {done.stderr[-3000:]}")


def _command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, str(WORKER), str(folder), *more]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


class Reader:
    """One worker process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._start()

    def _start(self) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            _command(self.folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, bufsize=1,
            env=_environment(),
        )  # fmt: skip
        said = self._answer(300.0)
        if said != "ready\n":
            raise RuntimeError(f"the worker did not start: {self._last_words()}")

    def _answer(self, seconds: float) -> str | None:
        """Return the next line, or None if there is none in time."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                return None
        return self._process.stdout.readline()

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-3000:]

    def read(self, kind: str, number: int) -> dict[str, Any]:
        """Return the outcome of an input: `hang`, `crash`, or that reported by the worker."""
        self._process.stdin.write(json.dumps({"kind": kind, "number": number}) + "\n")
        line = self._answer(LONGEST + 10.0)  # the time limit here includes making the input
        if line:
            return json.loads(line)
        answer = {"kind": kind, "number": number, "end": "hang" if line is None else "crash"}
        answer["said"] = self._last_words()
        self.close()
        self._start()
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            stream.close()


def is_wrong(answer: dict[str, Any]) -> bool:
    """Whether the outcome is neither a correct result nor one error of this package."""
    return (
        answer["end"] not in ("read", "refused")
        or "executed" in answer
        or answer.get("seconds", 0.0) > LONGEST
        or answer.get("more", 0) > 4 << 30
        or len(answer.get("said", "")) > 3000
    )
