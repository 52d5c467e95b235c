"""Fixtures shared by all tests."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from mlff_calc.cli.main import main

from .children import Child

_THREADS = os.environ.get("MLFF_TEST_THREADS", "1")
torch.set_num_threads(int(_THREADS))

# Ranks of LAMMPS wait for each other in busy loops. Where they are more than the cores, they had better give way at once.
os.environ.setdefault("MPIR_CVAR_POLLS_BEFORE_YIELD", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # background jobs of a shell; children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _find_data() -> Path | None:
    """Return the folder of real data: MLFF_DATA, or shared/data beside the checkout."""
    named = os.environ.get("MLFF_DATA")
    if named:
        return Path(named)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return beside if beside.is_dir() else None


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the data sets (rmd17, condensed, ...). Tests are skipped if it does not exist."""
    folder = _find_data()
    if folder is None:
        pytest.skip("no data sets: set MLFF_DATA, or put shared/data beside the checkout")
    if not folder.is_dir():
        pytest.fail(f"MLFF_DATA={folder} is not a folder")
    return folder


def _device_params() -> list:
    if os.environ.get("MLFF_TEST_DEVICE", "cpu") == "cuda":
        return [pytest.param("cuda", marks=pytest.mark.gpu)]
    return ["cpu"]


@pytest.fixture(scope="session", params=_device_params())
def device(request: pytest.FixtureRequest) -> torch.device:
    """Device of the tests: the CPU, or with MLFF_TEST_DEVICE=cuda the GPU."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("MLFF_TEST_DEVICE=cuda, but PyTorch sees no CUDA device")
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def global_state_is_kept() -> object:
    """Check that no test, and so no library code, changes the default dtype or the number of threads."""
    before = (torch.get_default_dtype(), torch.get_num_threads())
    yield
    after = (torch.get_default_dtype(), torch.get_num_threads())
    if after != before:
        torch.set_default_dtype(before[0])
        torch.set_num_threads(before[1])
        pytest.fail(f"global state of torch changed: (default dtype, threads) {before} -> {after}")


@pytest.fixture(scope="session")
def mlff() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Function that runs the program `mlff` in this process, in a folder `cwd`, like its entry point.

    A child process, which loads all libraries again, is only needed in tests about the process itself: signals, limits,
    environments. Warnings are printed to stderr, as in a child process.
    """
    return _mlff


def _mlff(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    package, out, err = logging.getLogger("mlff_calc"), io.StringIO(), io.StringIO()
    before = (package.handlers[:], package.level, package.propagate)
    status: object = 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.chdir(cwd or Path.cwd()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")
        try:
            main([str(word) for word in words])
        except SystemExit as leaving:
            status = leaving.code
        finally:
            package.handlers[:], package.propagate = before[0], before[2]
            package.setLevel(before[1])
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


@pytest.fixture
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Child]]:
    """Function that starts a function or, given words, the program `mlff` in a process of its own.

    It is a fork of this process, which starts in milliseconds: for signals, limits and interrupted runs. What happens
    before `main`, such as imports, needs a new interpreter. Optional: working folder `cwd`, more environment variables
    `env`, and the size `largest_file` in bytes beyond which no file can grow.
    """
    started: list[Child] = []

    def start(
        *what: object, cwd: Path | None = None, env: dict[str, str] | None = None, largest_file: int | None = None
    ) -> Child:
        function = what[0] if callable(what[0]) else lambda: main([str(word) for word in what])
        out = tmp_path_factory.mktemp("child") / "said"
        started.append(Child(function, out, cwd=cwd or Path.cwd(), env=env or {}, largest_file=largest_file))
        return started[-1]

    yield start
    for one in started:
        one.kill()
