"""Child processes that begin as forks of the tests' process, with all libraries loaded, instead of loading them anew."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path


class Child:
    """A running function in a process of its own, with the methods of `subprocess.Popen` that tests use.

    Its output goes to files, which can be read at any time.
    """

    def __init__(
        self, function: Callable[[], object], out: Path, *, cwd: Path, env: Mapping[str, str], largest_file: int | None
    ) -> None:
        self.returncode: int | None = None
        self._files = out.with_suffix(".out"), out.with_suffix(".err")
        for file in self._files:
            file.touch()
        self.pid = os.fork()
        if self.pid == 0:
            status = 70
            try:
                self._prepare(cwd, env, largest_file)
                status = _status_of(function)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)

    def _prepare(self, cwd: Path, env: Mapping[str, str], largest_file: int | None) -> None:
        """Take away what pytest has changed in the process."""
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        for descriptor, file in zip((1, 2), self._files, strict=True):
            os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), descriptor)
        sys.stdout = sys.__stdout__ = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1, closefd=False)
        for logger in (logging.getLogger(), logging.getLogger("mlff_calc")):
            logger.handlers.clear()
        warnings.resetwarnings()
        warnings.simplefilter("ignore", DeprecationWarning)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(env)
        os.chdir(cwd)
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    @property
    def stdout(self) -> str:
        """What the function has printed so far."""
        return self._files[0].read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """What the function has printed to standard error so far."""
        return self._files[1].read_text(encoding="utf-8")

    def poll(self) -> int | None:
        """Return the exit status as in `subprocess`, or None while the function runs."""
        if self.returncode is None:
            process, status = os.waitpid(self.pid, os.WNOHANG)
            if process:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = 240.0) -> int:
        """Wait for the end, and return the exit status. A child that does not end in time is killed, and the test fails."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                self.kill()
                raise TimeoutError(f"the child did not end within {timeout} s; it said: {self.stderr}")
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the child has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the child, and wait for its end."""
        self.send_signal(signal.SIGKILL)
        self.wait()


def _status_of(function: Callable[[], object]) -> int:
    """Run a function, and return the exit status of a program that consists of it."""
    try:
        function()
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
            return 1
        return int(leaving.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
