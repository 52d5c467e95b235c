"""One calculator asked by several threads, after a fork, and by ASE's writers.

Threads take turns: a question and its answer are one turn, so that nobody reads the results of another thread's structure.
A child of a fork has its parent's memory but not its threads: PyTorch's pool is gone there, and whoever waits for it waits
for ever. The child therefore computes with one thread. ASE's writers read `calculator.results` without saying for which
atoms; `written_atoms` finds them.
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
    """A lock for one thread at a time, which may take it several times over, and a count that says whose the results are.

    Copies, pickles and children of a fork get one of their own: a lock that another thread held at a fork would never be
    given back.
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
        """The present thread replaced the results."""
        known = not self.replaced() and hasattr(self._mine, "count")
        self._count += 1
        if known:
            self.seen()

    def seen(self) -> None:
        """The present thread knows what the results belong to."""
        self._mine.count = self._count

    def replaced(self) -> bool:
        """Whether another thread replaced the results that the present one knew; one that never asked knew of none."""
        return bool(getattr(self._mine, "count", self._count) != self._count)

    def __reduce__(self) -> tuple[type[Turn], tuple[()]]:
        """A copy is a new lock."""
        return Turn, ()


def written_atoms(caller: FrameType) -> Atoms | None:
    """The atoms that one of ASE's writers is writing; None where the caller is none.

    Args:
        caller: the frame that reads `results`. Writers (`ase.io.extxyz.save_calc_results`, and those of res, runner and
            castep) call their structure `atoms`.
    """
    if not caller.f_globals.get("__name__", "").startswith("ase.io."):
        return None
    atoms = caller.f_locals.get("atoms")
    return atoms if isinstance(atoms, Atoms) else None


@cache
def prepare_for_forks() -> None:
    """From now on children of a fork of this process compute with one thread (their own setting, not the parent's)."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_one_thread)


def in_forked_child() -> bool:
    """Whether this process was forked from one that had a calculator."""
    return _IN_CHILD


def check_fork(device: torch.device, compiled: Sequence[Path]) -> None:
    """Refuse what would hang or fail in the child of a fork.

    Args:
        device: where models are to run.
        compiled: exported files of compiled code.

    Raises:
        OptionError: a GPU, or compiled files, whose number of threads was fixed when they were written.
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
