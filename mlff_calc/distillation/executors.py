"""Labels by any executor of `concurrent.futures`: threads, processes, Dask, MPI."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import Any

from mlff_calc.datasets.labelling import check_workers
from mlff_calc.distillation import serve
from mlff_calc.distillation.answers import Answer, Labeller, Pair, Task
from mlff_calc.distillation.teachers import Teacher
from mlff_calc.errors import OptionError


class ExecutorLabels(Labeller):
    """A teacher behind an executor, whose workers can import `mlff_calc.distillation.serve` and the teacher.

    Args:
        teacher: The teacher.
        executor: Executor, which is not shut down here.
        workers: Number of structures that are with the executor at one time.
        timeout: Seconds for one label; what takes longer is given up, and its result is not waited for.

    Raises:
        OptionError: Options out of range, or a teacher in another environment.
    """

    def __init__(self, teacher: Teacher, executor: Executor, workers: int = 1, timeout: float = 60.0) -> None:
        check_workers(workers)
        if teacher.python != sys.executable:
            raise OptionError("an executor decides in which environment a teacher runs; leave out teacher.environment")
        self.teacher, self.executor, self.workers, self.timeout = teacher, executor, workers, timeout
        self.version = serve.version_of(teacher.setup())

    def answers(self, structures: Iterable[Pair], want: Sequence[str]) -> Generator[Answer]:
        """See `Labeller`."""
        waiting: Iterator[Task] = (Task(number, atoms) for number, atoms in structures)
        again: deque[Task] = deque()
        running: dict[Future[dict[str, Any]], tuple[Task, float]] = {}
        while True:
            while len(running) < self.workers and (task := again.popleft() if again else next(waiting, None)) is not None:
                future: Future[dict[str, Any]]
                try:
                    future = self.executor.submit(serve.label, self.teacher.setup(), task.request(want, self.teacher))
                except RuntimeError as error:  # broken, or shut down
                    future = Future()
                    future.set_exception(error)
                running[future] = task, time.monotonic()
            if not running:
                return
            late = min(began for _, began in running.values()) + self.timeout - time.monotonic()
            wait(list(running), timeout=max(0.0, late), return_when=FIRST_COMPLETED)
            for future in list(running):
                task, began = running[future]
                spent = time.monotonic() - began
                if not future.done() and spent < self.timeout:
                    continue
                del running[future]
                answer = self._answer(future, task, spent)
                if answer is None:
                    again.append(task)
                else:
                    yield answer

    def _answer(self, future: Future[dict[str, Any]], task: Task, spent: float) -> Answer | None:
        """The answer to a task; None where it is to be tried again."""
        if not future.done():
            future.cancel()
            return task.failed(f"no answer within {self.timeout:g} s", spent, self.teacher)
        try:
            found = future.result()
        except Exception as error:  # workers that died, brokers that lost a task
            return task.failed(f"the executor lost it ({type(error).__name__}: {error})", spent, self.teacher)
        return task.settled(found, spent, self.teacher)
