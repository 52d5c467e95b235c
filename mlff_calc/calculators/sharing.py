"""Use of one calculator by several threads, in forked processes, and by ASE's writers.

Threads take turns: a lock covers each call from question to answer, so that no thread reads the results of another. A
forked child has its parent's memory but not its threads; it would wait forever for PyTorch's thread pool, and therefore
computes with one thread. ASE's writers read `calculator.results` without naming the atoms; `written_atoms` finds them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import FrameType

import torch
from ase import Atoms

from mlff_calc.errors import OptionError

_IN_CHILD = False


class Turn:
    """A reentrant lock, and a count that tells which thread produced the current results.

    Copies, pickles and forked children get a new lock: one that another thread held at the fork would never be released.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pid, self._lock, self._count, self._mine = os.getpid(), threading.RLock(), 0, threading.local()

    def __enter__(self) -> None:
        if os.getpid() != self._pid:
            self._begin()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def new_results(self) -> None:
        """Record that the current thread replaced the results."""
        known = not self.replaced() and hasattr(self._mine, "count")
        self._count += 1
        if known:
            self.seen()

    def seen(self) -> None:
        """Record that the current thread knows which structure the results belong to."""
        self._mine.count = self._count

    def replaced(self) -> bool:
        """Whether another thread replaced the results known to this one; False for a thread that has not asked yet."""
        return bool(getattr(self._mine, "count", self._count) != self._count)

    def __reduce__(self) -> tuple[type[Turn], tuple[()]]:
        """Make copies and pickles new locks."""
        return Turn, ()


def written_atoms(caller: FrameType) -> Atoms | None:
    """Return the atoms that one of ASE's writers is writing; None if the caller is no writer.

    Args:
        caller: Stack frame that reads `results`. Writers (`ase.io.extxyz.save_calc_results`, and those of res, runner and
            castep) name their structure `atoms`.
    """
    if not caller.f_globals.get("__name__", "").startswith("ase.io."):
        return None
    atoms = caller.f_locals.get("atoms")
    return atoms if isinstance(atoms, Atoms) else None


@cache
def prepare_for_forks() -> None:
    """Make forked children of this process compute with one thread; the parent keeps its setting."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_one_thread)


def in_forked_child() -> bool:
    """Whether this process was forked from one that had a calculator."""
    return _IN_CHILD


def check_fork(device: torch.device, compiled: Sequence[Path]) -> None:
    """Refuse models that would hang or fail in a forked child.

    Args:
        device: Device of the models.
        compiled: Exported files of compiled code.

    Raises:
        OptionError: The device is a GPU, or there are compiled files, whose number of threads is fixed.
    """
    if not in_forked_child():
        return
    cure = "start processes by spawn instead: multiprocessing.get_context('spawn'), or joblib's loky"
    if device.type == "cuda" and torch.cuda._is_in_bad_fork():
        raise OptionError(f"device {device} cannot be used in a process forked from one that used a GPU; {cure}")
    if compiled:
        raise OptionError(
            f"{compiled[0]} is compiled for the threads of the process it was written in, and may wait for ever for those "
            f"that a fork does not copy; {cure}, or use a TorchScript file (.pt)"
        )


def _one_thread() -> None:
    global _IN_CHILD
    _IN_CHILD = True
    torch.set_num_threads(1)
