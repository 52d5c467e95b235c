"""Work on many structures in several processes of one thread each, any of which may die without harm to the rest."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from mlff_calc.errors import MLFFError, OptionError

MOST_WORKERS = 256
"""Largest number of processes."""
_CONTEXT = multiprocessing.get_context("spawn")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Outcome:
    """What became of one structure.

    Attributes:
        number: Number of the structure.
        value: What the work returned; None where it failed.
        problem: Why it failed; None where it did not.
    """

    number: int
    value: Any
    problem: str | None = None


Alone = Callable[[], AbstractContextManager[Any]]
"""What holds this process to one thread while it works by itself."""


def outcomes(
    work: Callable[[Any], Any], items: Iterable[tuple[int, Any]], workers: int = 1, alone: Alone | None = nullcontext
) -> Generator[Outcome]:
    """Do some work on every structure; results come in the order in which they are ready.

    They do not depend on the number of workers, since each structure is computed by one thread. One worker is this process
    itself. A process that dies is replaced, and its structure tried once more.

    Args:
        work: Function of a structure, or of what stands in its place, that can be pickled.
        items: Numbers and structures.
        workers: Number of processes.
        alone: What holds this process to one thread, for one worker; None where the work needs a process of its own.

    Yields:
        One outcome for each structure.

    Raises:
        OptionError: The number of workers is out of range, or the work itself cannot be done for any structure.
    """
    check_workers(workers)
    if workers > 1 or alone is None:
        yield from _in_processes(work, deque(items), workers)
        return
    for number, item in items:
        with alone():
            outcome = _tried(work, number, item)
        yield outcome


def check_workers(workers: int) -> None:
    """Check a number of processes; raises an OptionError."""
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= MOST_WORKERS:
        raise OptionError(f"the number of workers is {workers!r}; give 1 to {MOST_WORKERS}")


def _tried(work: Callable[[Any], Any], number: int, item: Any) -> Outcome:
    try:
        return Outcome(number, work(item))
    except OptionError:
        raise
    except MLFFError as error:
        return Outcome(number, None, str(error))
    except Exception as error:  # other packages raise errors of any type
        return Outcome(number, None, f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])


def _in_processes(work: Callable[[Any], Any], waiting: deque[tuple[int, Any]], workers: int) -> Generator[Outcome]:
    dead: set[int] = set()
    busy: dict[Connection, tuple[_Worker, tuple[int, Any]]] = {}
    free = [_Worker(work) for _ in range(min(workers, len(waiting)))]
    try:
        while waiting or busy:
            while free and waiting:
                worker, item = free.pop(), waiting.popleft()
                with suppress(OSError):  # it ended, which its pipe will tell
                    worker.pipe.send(item)
                busy[worker.pipe] = worker, item
            for pipe in wait(list(busy)):
                worker, item = busy.pop(pipe)  # type: ignore[call-overload]
                try:
                    found = worker.pipe.recv()
                except (EOFError, OSError):
                    worker.stop(ending=True)
                    if not worker.is_ready:
                        raise OptionError(
                            f"processes cannot be started (exit code {worker.code}). Take one worker; or, in a script, call "
                            "this under `if __name__ == '__main__':`, since each process reads the script anew"
                        ) from None
                    free.append(_Worker(work))
                    if item[0] in dead:
                        yield Outcome(item[0], None, f"the process ended twice (exit code {worker.code}); is memory short?")
                    else:
                        dead.add(item[0])
                        waiting.append(item)
                    continue
                if found is None:
                    worker.is_ready = True
                    busy[worker.pipe] = worker, item
                    continue
                free.append(worker)
                if isinstance(found, OptionError):
                    raise found
                yield found
    finally:
        for worker in [*free, *(each for each, _ in busy.values())]:
            worker.stop()


class _Worker:
    """One process, and the pipe to it."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_serve, args=(theirs, work), daemon=True)
        with _one_thread():
            self.process.start()
        theirs.close()
        self.code: int | None = None
        self.is_ready = False

    def stop(self, *, ending: bool = False) -> None:
        self.pipe.close()
        self.process.join(10.0 if ending else 0.2)
        self.code = self.process.exitcode
        self.process.kill()
        self.process.join()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that start have one thread; the variables are read when libraries are loaded."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _serve(pipe: Connection, work: Callable[[Any], Any]) -> None:
    """Answer structures until the pipe is closed. Ctrl-C is for the process that waits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe.send(None)  # it is ready
    while True:
        try:
            number, item = pipe.recv()
        except (EOFError, OSError):
            return
        answer: Outcome | OptionError
        try:
            answer = _tried(work, number, item)
        except OptionError as error:
            answer = error
        try:
            pipe.send(answer)
        except OSError:
            return
        except pickle.PicklingError as error:
            pipe.send(Outcome(number, None, f"the result cannot be sent: {error}"))
