"""Worker that reads damaged inputs: it gets a JSON line with kind and number, and answers with one about the outcome.

`python worker.py FOLDER --make` makes the intact samples first. The process may take 4 GiB more than it has at the start.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

GIBI = 1 << 30
ROOM = 4 * GIBI
_KNOWN = ("site-packages", "/lib/python", "/lib-dynload/", "/torch/", "_inductor")
executed: list[str] = []


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Record all programs that are started, and all unknown libraries that are loaded."""
    if event in ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class"):
        if event == "pickle.find_class" and str(arguments[0]) not in ("os", "posix", "builtins", "subprocess"):
            return
        executed.append(f"{event} {arguments[:2]}")
    elif event == "ctypes.dlopen" and arguments[0] and not any(part in str(arguments[0]) for part in _KNOWN):
        executed.append(f"{event} {arguments[0]}")


def peak() -> int:
    """Return the peak memory of this process since `forget_peak`, bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def forget_peak() -> None:
    """Reset the peak memory."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def limit_memory() -> None:
    """Limit the memory to `ROOM` bytes above the current use."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def chain(error: BaseException) -> list[BaseException]:
    """Return the text of an error with its causes."""
    found: list[BaseException] = []
    now: BaseException | None = error
    while now is not None and now not in found:
        found.append(now)
        now = now.__cause__ or now.__context__
    return found


def attempt(sound: Path, kind: str, number: int) -> dict[str, Any]:
    """Make an input, and read it."""
    from kinds import KINDS, MLFFError, Place

    draw = random.Random(f"{kind} {number}")
    here = Path(tempfile.mkdtemp(prefix="fuzz-"))
    answer: dict[str, Any] = {"kind": kind, "number": number, "end": "read"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            use = KINDS[kind](Place(sound, here), draw)
            forget_peak()
            executed.clear()
            before, begin = peak(), time.monotonic()
            try:
                use()
            except MLFFError as error:
                answer |= {"end": "refused", "said": f"{type(error).__name__}: {error}"}
                causes = chain(error)
                answer["asked_too_much"] = any(isinstance(one, MemoryError) or "can't allo" in str(one) for one in causes)
            except BaseException as error:
                text = traceback.format_exc()
                answer |= {"end": "unforeseen", "said": f"{type(error).__name__}: {str(error)[:300]}", "trace": text[-3500:]}
            answer |= {"seconds": round(time.monotonic() - begin, 3), "more": max(peak() - before, 0)}
    finally:
        shutil.rmtree(here, ignore_errors=True)
    marker = sound / "executed"
    if marker.exists() or executed:
        answer["executed"] = [*executed, *([f"{marker} is there"] if marker.exists() else [])]
        shutil.rmtree(marker, ignore_errors=True)
        marker.unlink(missing_ok=True)
    return answer


def main() -> None:
    """Make samples if requested, then answer until the input ends."""
    sound = Path(sys.argv[1])
    os.environ["MLFF_CACHE"] = str(sound / "cache")
    os.environ["MPLBACKEND"] = "Agg"
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(1)
    if "--make" in sys.argv:
        import samples

        samples.make_all(sound)
        with contextlib.suppress(OSError):
            (sound / "executed").unlink()
        channel.write("made\n")
        return
    _warm_up(sound)
    limit_memory()
    sys.addaudithook(watch)
    channel.write("ready\n")
    for line in sys.stdin:
        order = json.loads(line)
        channel.write(json.dumps(attempt(sound, order["kind"], order["number"])) + "\n")


def _warm_up(sound: Path) -> None:
    """Import libraries, whose loading would count in the time of the first inputs, and switch plots off."""
    import kinds

    from mlff_calc.training import plots
    from mlff_calc.training.run import train

    plots.save = lambda figure, target: target.write_bytes(b"")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        copy = shutil.copytree(sound / "runs" / "run", Path(folder) / "run")
        train(sound / "recipes" / "potential.yaml", output=copy, resume=True)
        kinds.expected(sound / "exported" / "own.pt")
        for name in ("equiformer", "hegnn", "deq"):
            kinds.expected(sound / "potentials" / name)


if __name__ == "__main__":
    main()
