"""Child processes of benchmarks, with a log and a limit on threads."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mlff_calc.errors import BenchmarkError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def thread_environment(threads: int) -> dict[str, str]:
    """Return the environment of this process with all thread pools limited to `threads`."""
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}


def run_logged(
    command: Sequence[str], log: Path, *, env: dict[str, str] | None = None, timeout: float | None = None
) -> None:
    """Run a command, and append its output to `log`.

    Args:
        command: Program and arguments.
        log: Text file for the output.
        env: Environment variables; None inherits those of this process.
        timeout: Time limit in seconds; None for no limit.

    Raises:
        BenchmarkError: The command failed, or took longer than `timeout`. The text quotes its last lines of output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        try:
            done = subprocess.run(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=env,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            msg = f"{Path(command[0]).name} took longer than {timeout:.0f} s and was ended; see {log}"
            raise BenchmarkError(msg) from late
    if done.returncode != 0:
        words = " ".join(last_words(log, 3))
        msg = f"{' '.join(command[:4])} failed with status {done.returncode}: {words} (more in {log})"
        raise BenchmarkError(msg)


def last_words(log: Path, lines: int) -> list[str]:
    """Return the last non-empty lines of a log."""
    text = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return text[-lines:]
