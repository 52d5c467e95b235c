"""Messages about compilations: what is being compiled, and how long that took last time.

Times are kept in the cache by architecture, device and purpose of the code, since weights do not change them. Two log
records enclose the work. Their attribute `compiling` is True and then False, so that a program can show a spinner in
between.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from mlff_calc.caches import cache_dir
from mlff_calc.errors import CacheError
from mlff_calc.potential import Potential

logger = logging.getLogger(__name__)


def times_dir() -> Path:
    """Return the folder of compilation times."""
    return cache_dir("compile_times")


@contextlib.contextmanager
def announced(potential: Potential, device: torch.device, what: str) -> Iterator[None]:
    """Log that code is compiled inside the `with` block and how long that took last time, and finally how long it took.

    Args:
        potential: potential that is compiled; its backbone (without values measured on data), precision and kind of
            forces identify the architecture.
        device: device that the code runs on.
        what: purpose of the code, such as "a training step".
    """
    backbone = {name: value for name, value in potential.config["backbone"].items() if name != "avg_num_neighbors"}
    facts = [backbone, potential.direct_forces, potential.precision, device.type, what]
    name = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]
    before = _read(name)
    last = f"last time it took {before:.0f} s here" if before else "the first time here, it may take minutes"
    logger.info("compiling %s of %s (%s)", what, backbone["name"], last, extra={"compiling": True})
    start = time.monotonic()
    done = False
    try:
        yield
        done = True
    finally:
        seconds = time.monotonic() - start
        ended = "compiled in" if done else "compilation ended after"
        logger.info("%s %.0f s", ended, seconds, extra={"compiling": False})
        if done:
            _write(name, seconds)


def _read(name: str) -> float | None:
    """Return the seconds of the last time, or None."""
    try:
        found = float((times_dir() / name).read_text(encoding="ascii")[:32])
    except (OSError, ValueError, CacheError):
        return None
    return found if 0.0 < found < 1e6 else None


def _write(name: str, seconds: float) -> None:
    """Store the time, unless the cache cannot be written."""
    with contextlib.suppress(OSError, CacheError):
        times_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
        (times_dir() / name).write_text(f"{seconds:.1f}\n", encoding="ascii")
