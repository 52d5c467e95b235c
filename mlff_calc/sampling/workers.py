"""ASE calculators in worker processes, which may hang or die without harm to anything but one structure."""

from __future__ import annotations

import multiprocessing
import pickle
import time
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Self

import numpy as np
import torch

from mlff_calc.errors import OptionError
from mlff_calc.sampling.evaluators import Evaluation, Evaluator, Factory, check_factory, name_of, single
from mlff_calc.sampling.systems import FloatArray, Systems

_CONTEXT = multiprocessing.get_context("spawn")


class Workers(Evaluator):
    """Any ASE calculator, in several processes of one thread each.

    Results do not depend on the number of workers: every structure gets a calculator of its own.

    Args:
        factory: Makes a calculator; a function of a module, so that other processes can import it.
        info: What every structure has in `info`, see `OneByOne`.
        n_workers: Number of processes.
        timeout: Seconds after which a structure counts as failed, and its process is replaced; None waits for ever.

    Raises:
        OptionError: Fewer than one worker, a timeout that is not positive, or a factory that other processes cannot get.
    """

    def __init__(
        self, factory: Factory, n_workers: int = 1, timeout: float | None = 600.0, info: dict[str, int] | None = None
    ) -> None:
        if n_workers < 1:
            raise OptionError(f"the number of workers is {n_workers}; give 1 or more")
        if timeout is not None and not timeout > 0.0:
            raise OptionError(f"the timeout is {timeout} s; give a positive number, or None")
        try:
            pickle.dumps(factory)
        except Exception as error:  # objects raise what they like
            raise OptionError(
                f"{name_of(factory)} cannot be given to other processes ({error}); name a function of a module, or leave "
                "workers out"
            ) from error
        self.factory, self.timeout, self.info = factory, timeout, info or {}
        self._workers = [_Worker(factory) for _ in range(n_workers)]

    def name(self) -> str:
        """Name of the factory, so that results are known whatever the number of workers."""
        return name_of(self.factory, self.info)

    def check(self, systems: Systems) -> None:
        """See `Evaluator`."""
        check_factory(self.factory, systems)

    def __call__(self, systems: Systems, positions: FloatArray) -> Evaluation:
        """See `Evaluator`."""
        energies, forces, problems = np.full(len(systems), np.nan), np.zeros_like(positions), {}
        waiting = deque(range(len(systems)))
        busy: dict[Connection, tuple[_Worker, int, float]] = {}
        free = list(self._workers)
        while waiting or busy:
            while free and waiting:
                worker, number = free.pop(), waiting.popleft()
                atoms = systems.atoms(number, positions)
                atoms.info |= self.info
                worker.send(atoms)
                busy[worker.pipe] = (worker, number, time.monotonic())
            ready = wait(list(busy), timeout=self._remaining([start for _, _, start in busy.values()]))
            for pipe in list(busy):
                worker, number, start = busy[pipe]
                late = self.timeout is not None and time.monotonic() - start >= self.timeout
                if pipe not in ready and not late:
                    continue
                del busy[pipe]
                found = worker.receive() if pipe in ready else None
                if found is None:
                    problems[number] = (
                        f"the calculator gave no answer within {self.timeout:g} s" if pipe not in ready
                        else "the process of the calculator ended"
                    )  # fmt: skip
                    worker.replace()
                elif found[2] is not None:
                    problems[number] = found[2]
                else:
                    rows = slice(systems.starts[number], systems.starts[number] + systems.sizes[number])
                    energies[number], forces[rows] = found[:2]
                free.append(worker)
        return Evaluation(energies, forces, problems)

    def _remaining(self, starts: list[float]) -> float | None:
        """Seconds until the first structure is late."""
        return None if self.timeout is None else max(0.0, min(starts) + self.timeout - time.monotonic())

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Worker:
    """One process, and the pipe to it."""

    def __init__(self, factory: Factory) -> None:
        self.factory = factory
        self.start()

    def start(self) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_serve, args=(theirs, self.factory), daemon=True)
        self.process.start()
        theirs.close()
        self.is_ready = False

    def send(self, atoms: object) -> None:
        if not self.process.is_alive():
            self.replace()
        if not self.is_ready:  # imports take seconds, which are not the calculator's
            self.is_ready = self.receive() is not None
        with suppress(OSError):  # it ended, which `receive` will tell
            self.pipe.send(atoms)

    def receive(self) -> tuple[float, FloatArray, str | None] | None:
        """What the process answered; None where it ended instead."""
        try:
            answer: tuple[float, FloatArray, str | None] = self.pipe.recv()
        except (EOFError, OSError):
            return None
        return answer

    def replace(self) -> None:
        self.stop()
        self.start()

    def stop(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


def _serve(pipe: Connection, factory: Factory) -> None:
    """Answer structures with energy, forces and reason of failure until the pipe is closed."""
    torch.set_num_threads(1)
    pipe.send((0.0, np.zeros((0, 3)), None))  # it is ready
    while True:
        try:
            atoms = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        pipe.send(single(factory, atoms))
