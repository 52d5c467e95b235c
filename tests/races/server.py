"""Server that runs commands of `mlff` concurrently, each in a fork of this process, and kills some of them.

The process has imported all libraries, so that forks start quickly. A line on standard input is a race: a JSON list of
racers. Each has

| key | meaning |
|---|---|
| `words` | command line without the name of the program |
| `delay` | seconds between the start of the race and that of the racer |
| `kill` | time of SIGKILL: null for never, seconds after the start, or "row N" for just before row N is recorded |
| `notes` | file to which the racer appends its events, each a line with a JSON list of time, event and value |
| `slow` | seconds of waiting before every row of the log, so that races end in different ways |
| `after` | row of the first racer after which this racer starts, or null |
| `hold` | row at which the racer waits until all others have ended, or null |
| `others` | files of notes of the other racers |

The answer is a line with a JSON list of exit statuses, as in `subprocess`. The standard error of a racer is recorded as its
event `said`. Plots are not drawn, since they take most of the time of a short run.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlff_calc.cli.console import configure_output, run_cli
from mlff_calc.cli.main import build_app
from mlff_calc.dynamics import log, report, run
from mlff_calc.training import callbacks, folder, plots
from mlff_calc.training import fit as _preloaded  # noqa: F401
from mlff_calc.training import run as training_run

Note = Callable[..., None]


def watch(racer: dict[str, Any], note: Note) -> None:
    """Make the racer record when it has read its folder, and every row that it has written."""
    last = int(racer["kill"].split()[1]) if isinstance(racer["kill"], str) else None
    rows = 0

    def count(number: int) -> None:
        nonlocal rows
        rows += 1
        if rows == racer["hold"]:
            await_notes(racer["others"], '"said"')
        time.sleep(racer["slow"])
        if rows == last:
            os.kill(os.getpid(), signal.SIGKILL)
        note("row", number)

    append, write = log.LogFile.append, callbacks.MetricsFile._write

    def append_and_note(self: Any, row: Any) -> None:
        append(self, row)
        count(row.step)

    def write_and_note(self: Any) -> None:
        write(self)
        count(int(self.rows[-1]["epoch"]))

    log.LogFile.append, callbacks.MetricsFile._write = append_and_note, write_and_note
    run.MDRun.__init__ = then(run.MDRun.__init__, lambda: note("looked", 0))
    training_run.look = then(training_run.look, lambda: note("looked", 0))
    run.refuse_changed = then(run.refuse_changed, lambda: note("starts", 0))
    training_run.set_up_folder = first(training_run.set_up_folder, lambda: note("starts", 0))
    run.RunState.save = first(run.RunState.save, lambda: note("writes", 0))
    folder.RunFolder.write_record = first(folder.RunFolder.write_record, lambda: note("writes", 0))
    plots._save = lambda figure, target: target.write_bytes(b"")
    report.plot_run = lambda *arguments: b""


def await_notes(files: list[str], text: str) -> None:
    """Wait until all files contain a text."""
    while not all(Path(file).exists() and text in Path(file).read_text() for file in files):
        time.sleep(0.005)


def first(method: Callable[..., Any], act: Callable[[], None]) -> Callable[..., Any]:
    """Wrap a method so that a function is called before it."""

    def call(*arguments: Any, **options: Any) -> Any:
        act()
        return method(*arguments, **options)

    return call


def then(method: Callable[..., Any], act: Callable[[], None]) -> Callable[..., Any]:
    """Wrap a method so that a function is called after it, unless it raises an error."""

    def call(*arguments: Any, **options: Any) -> Any:
        returned = method(*arguments, **options)
        act()
        return returned

    return call


def race(racer: dict[str, Any], begin: float) -> int:
    """Run one racer in its process, and return its exit status."""
    out = os.open(racer["notes"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def note(event: str, value: Any) -> None:
        os.write(out, (json.dumps([time.monotonic(), event, value]) + "\n").encode())

    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    watch(racer, note)
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        configure_output(debug=False)
        time.sleep(max(begin + racer["delay"] - time.monotonic(), 0.0))
        if racer["after"] is not None:
            await_notes(racer["others"][:1], f'"row", {racer["after"]}]')
        status = run_cli(build_app(), racer["words"])
    note("said", said.getvalue())
    return status


def run_race(racers: list[dict[str, Any]]) -> list[int]:
    """Start all racers, kill some as requested, and wait for them."""
    begin = time.monotonic() + 0.05
    running: dict[int, int] = {}
    for index, racer in enumerate(racers):
        process = os.fork()
        if process == 0:
            status = 99
            try:
                status = race(racer, begin)
            finally:
                os._exit(status)
        running[process] = index
    statuses = [0] * len(racers)
    due = {
        process: begin + racers[index]["delay"] + racers[index]["kill"]
        for process, index in running.items()
        if isinstance(racers[index]["kill"], float)
    }
    while running:
        for process in [process for process, when in due.items() if time.monotonic() >= when]:
            os.kill(process, signal.SIGKILL)
            del due[process]
        process, status = os.waitpid(-1, os.WNOHANG)
        if process:
            statuses[running.pop(process)] = os.waitstatus_to_exitcode(status)
            due.pop(process, None)
        else:
            time.sleep(0.002)
    return statuses


def main() -> None:
    """Answer all lines of the input."""
    build_app()  # imports the commands
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run_race(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
