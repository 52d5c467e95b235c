"""The process that runs races."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .racers import Races


@pytest.fixture(scope="session")
def races(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Races]:
    """Function that runs racers concurrently, see `Races`."""
    server = [sys.executable, str(Path(__file__).with_name("server.py"))]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == "ready\n"
    yield Races(process, tmp_path_factory.mktemp("notes"))
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()
