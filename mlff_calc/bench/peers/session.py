"""Worker processes, one per program, that take turns."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from mlff_calc.bench.processes import thread_environment
from mlff_calc.errors import BenchmarkError


class Session:
    """One worker process, which ends with the `with` block.

    Args:
        python: Interpreter of the environment.
        threads: Number of threads.
        log: File for all output of the program.
    """

    def __init__(self, python: Path, *, threads: int, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log.open("a", encoding="utf-8")
        self.log = log
        self._process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name("worker.py")), "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=thread_environment(threads),
        )

    def ask(self, command: str, **fields: Any) -> dict[str, Any]:
        """Send a command, and wait for the answer.

        Raises:
            BenchmarkError: The command failed in the worker, or the worker has died.
        """
        to_worker, from_worker = self._process.stdin, self._process.stdout
        line = ""
        if to_worker is not None and from_worker is not None:
            try:
                to_worker.write(json.dumps({"command": command, **fields}) + "\n")
                to_worker.flush()
                line = from_worker.readline()
            except BrokenPipeError:
                line = ""
        if not line:
            msg = (
                f"the worker died during {command!r} (status {self._process.poll()}); its last words are in {self.log}"
            )
            raise BenchmarkError(msg)
        reply = json.loads(line)
        if not reply["ok"]:
            msg = f"{command!r} failed in the worker: {reply['error']} (more in {self.log})"
            raise BenchmarkError(msg)
        return reply

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker, and kill it if it has not ended after ten seconds."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()
