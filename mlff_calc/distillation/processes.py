"""Labels by processes of one thread each, any of which may hang, die or print without harm to the rest.

They run `serve.py` alone, by the interpreter of the teacher: neither torch nor this package is loaded there unless the
teacher itself needs them.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from mlff_calc.datasets.labelling import check_workers
from mlff_calc.distillation.answers import Answer, Labeller, Pair, Task
from mlff_calc.distillation.teachers import Teacher, missing_package
from mlff_calc.errors import OptionError

START = 120.0
"""Seconds in which a process has to load its teacher. Raising it waits longer for slow disks."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_PROGRAM = Path(__file__).with_name("serve.py")
_TAIL = 300  # characters of what a process said last, in messages


class TeacherProcesses(Labeller):
    """A teacher in several processes.

    Args:
        teacher: The teacher; its function is given by name.
        workers: Number of processes.
        timeout: Seconds for one label, after which the process is replaced and the structure has failed once.

    Attributes:
        version: Package and version of the teacher.
        loads_torch: Whether the teacher itself loads torch.

    Raises:
        OptionError: Options out of range, or the teacher cannot be loaded; the text says why and what helps.
    """

    def __init__(self, teacher: Teacher, workers: int = 1, timeout: float = 60.0) -> None:
        check_workers(workers)
        if not timeout > 0.0:
            raise OptionError(f"label.timeout is {timeout} s; give a positive number")
        if not isinstance(teacher.factory, str):
            raise OptionError("processes find a teacher by its name; give module:function, or an executor")
        self.teacher, self.timeout = teacher, timeout
        self._processes = [_Process(teacher)]
        try:
            hello = self._processes[0].hello()
        except OptionError:
            self.close()
            raise
        self.version, self.loads_torch = str(hello["version"]), bool(hello["torch"])
        self._processes += [_Process(teacher) for _ in range(workers - 1)]

    def answers(self, structures: Iterable[Pair], want: Sequence[str]) -> Generator[Answer]:
        """See `Labeller`."""
        waiting: Iterator[Task] = (Task(number, atoms) for number, atoms in structures)
        again: deque[Task] = deque()
        busy: dict[_Process, tuple[Task, float]] = {}
        free = list(self._processes)
        with selectors.DefaultSelector() as selector:
            try:
                while True:
                    while free and (task := again.popleft() if again else next(waiting, None)) is not None:
                        process = free.pop()
                        process.hello()
                        process.send(task.request(want, self.teacher))
                        selector.register(process.out, selectors.EVENT_READ, process)
                        busy[process] = task, time.monotonic()
                    if not busy:
                        return
                    late = min(began for _, began in busy.values()) + self.timeout - time.monotonic()
                    ready = {key.data for key, _ in selector.select(max(0.0, late))}
                    for process in list(busy):
                        task, began = busy[process]
                        spent = time.monotonic() - began
                        found = process.answer() if process in ready else None
                        if found is None and process.is_alive and spent < self.timeout:
                            continue  # nothing yet, or a part of a line
                        del busy[process]
                        selector.unregister(process.out)
                        answer = self._answer(process, task, found, spent)
                        free.append(process)
                        if answer is None:
                            again.append(task)
                        else:
                            yield answer
            finally:
                for process in busy:  # nobody waits for these any more
                    process.restart()

    def _answer(self, process: _Process, task: Task, found: dict[str, Any] | None, spent: float) -> Answer | None:
        """The answer to a task; None where it is to be tried again."""
        if found is None:
            if process.is_alive:
                problem = f"no answer within {self.timeout:g} s"
            else:
                problem = f"the teacher's process ended ({process.end()})"
            process.restart()
            return task.failed(problem, spent, self.teacher)
        return task.settled(found, spent, self.teacher)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.stop()


class _Process:
    """One process, and the pipes to it."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self._start()

    def _start(self) -> None:
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `stop`)
        self._rest = b""
        self._hello: dict[str, Any] | None = None
        environment = os.environ | dict.fromkeys(_THREADS, "1")
        try:
            self._popen = subprocess.Popen(
                [self.teacher.python, str(_PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
                env=environment, bufsize=0, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._said.close()
            raise OptionError(
                f"teacher {self.teacher.name} cannot be started by {self.teacher.python}: {error}; give the path of a python"
            ) from error
        self.out: IO[bytes] = self._popen.stdout  # type: ignore[assignment]
        os.set_blocking(self.out.fileno(), False)
        self.is_alive = True
        self.send(self.teacher.setup())

    def hello(self) -> dict[str, Any]:
        """What the process said of its teacher when it was ready; waits for it.

        Raises:
            OptionError: The teacher cannot be loaded.
        """
        began = time.monotonic()
        while self._hello is None:
            self._hello = self.answer()
            if self._hello is not None:
                break
            if not self.is_alive or time.monotonic() - began > START:
                self._hello = {"error": self.end() if not self.is_alive else f"it was not ready within {START:g} s"}
                break
            with selectors.DefaultSelector() as selector:
                selector.register(self.out, selectors.EVENT_READ)
                selector.select(1.0)
        if "error" in self._hello:
            error = str(self._hello["error"])
            self.stop()
            raise OptionError(
                f"teacher {self.teacher.name} cannot be loaded by {self.teacher.python}: {error}; "
                f"{missing_package(self.teacher, error)}"
            )
        return self._hello

    def send(self, what: dict[str, Any]) -> None:
        """Write a line; a process that has ended is found out by `answer`."""
        with suppress(OSError):
            self._popen.stdin.write(json.dumps(what).encode() + b"\n")  # type: ignore[union-attr]

    def answer(self) -> dict[str, Any] | None:
        """The next line, if a whole one is there."""
        while b"\n" not in self._rest:
            piece = self.out.read(1 << 20)
            if piece is None:
                return None
            if not piece:
                self.is_alive = False
                return None
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if isinstance(found, dict):
            return found
        return {"error": f"it said {line[:_TAIL].decode(errors='replace')!r}, which no python that runs {_PROGRAM} says"}

    def end(self) -> str:
        """How the process ended, and what it said last."""
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(5.0)
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - _TAIL))
        said = " ".join(self._said.read().decode(errors="replace").split())
        code = self._popen.returncode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return f"{how}: {said}" if said else how

    def restart(self) -> None:
        """Replace the process."""
        self.stop()
        self._start()

    def stop(self) -> None:
        """End the process, and the programs that its teacher has started."""
        if self._popen.returncode is None:  # then its number is still its own
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout, self._said):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
