"""Translation of exceptions to one readable message and an exit status."""

from __future__ import annotations

import errno
import functools
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from mlff_calc.errors import MLFFError

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count

_ADVICE = {
    errno.ENOSPC: "The disk is full: free some space, or name another folder.",
    errno.EDQUOT: "Your disk quota is used up: free some space, or name another folder.",
    errno.EACCES: "You may not read or write there: check the permissions, or name another place.",
    errno.EROFS: "That file system is read-only: name another place.",
    errno.ENOENT: "There is no such file or folder: check the spelling.",
    errno.EISDIR: "That is a folder, and a file is needed.",
    errno.ENOTDIR: "A part of that path is a file, and a folder is needed.",
}


class Interrupted(Exception):  # noqa: N818  (not an error)
    """Ctrl-C inside a command; the text says what was saved."""


def guard(command: Callable[..., Any]) -> Callable[..., None]:
    """Wrap a command so that the text of its KeyboardInterrupt survives typer, which keeps only an exit status.

    Args:
        command: function of a command; it may raise `KeyboardInterrupt("what was saved")`.

    Returns:
        The same command, with the same signature.
    """

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            raise Interrupted(str(interrupt)) from None

    return guarded


def run_cli(app: Callable[..., Any], arguments: list[str], *, debug: bool = False) -> int:
    """Run a typer application, and turn any exception into one message on stderr.

    Args:
        app: typer application.
        arguments: command line without the program's name.
        debug: whether to print the stack trace of exceptions.

    Returns:
        The exit status: 0, 1 for an error, 2 for a wrong command line, 130 after Ctrl-C.
    """
    try:
        returned = app(args=arguments, prog_name="mlff", standalone_mode=False)
    except (Interrupted, KeyboardInterrupt) as interrupt:
        return _say_interrupted(str(interrupt))
    except SystemExit as leaving:
        return _status(leaving.code)
    except BrokenPipeError:
        _close_stdout()
        return EXIT_FAILURE
    except Exception as error:
        if debug:
            traceback.print_exc()
        say(describe(error, arguments))
        return int(getattr(error, "exit_code", EXIT_FAILURE))
    status = _status(returned)
    return _say_interrupted("") if status == EXIT_INTERRUPTED else status


def describe(error: Exception, arguments: Sequence[str] = ()) -> str:
    """Describe an error for a person: what went wrong, where, and what helps.

    Args:
        error: any exception of a command.
        arguments: command line, from which the value of a wrong option is quoted.

    Returns:
        One or a few lines, starting with `mlff: error:`.
    """
    if hasattr(error, "format_message"):  # typer's own: a wrong option or argument
        text = str(error.format_message()).strip()  # empty where typer has already shown the help
        context = getattr(error, "ctx", None)
        hint = f"\nSee '{context.command_path} --help'." if context is not None else ""
        return f"mlff: error: {text}{_given(error, text, arguments)}{hint}" if text else ""
    if isinstance(error, MLFFError):
        return f"mlff: error: {error}"
    if isinstance(error, OSError):
        place = f" ({error.filename})" if error.filename else ""
        reason = error.strerror or str(error) or type(error).__name__
        advice = _ADVICE.get(error.errno or 0, "")
        return f"mlff: error: {reason}{place}. {advice}".rstrip()
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"mlff: error: out of memory: {error}\nUse a smaller structure or batch, or a device with more memory."
    return (
        f"mlff: error: {type(error).__name__}: {error}\n"
        "This was not foreseen. Run again with --debug for the stack trace, and report it with your input."
    )


def _given(error: Exception, text: str, arguments: Sequence[str]) -> str:
    """Quote the value given for the option of an error, unless the text contains it."""
    names = getattr(getattr(error, "param", None), "opts", [])
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, _, attached = word.partition("=")
        value = attached or following
        if name.startswith("-") and name in names and value and value not in text:
            return f" (given: {value!r})"
    return ""


def say(message: str) -> None:
    """Write a message to stderr on its own line."""
    if message:
        sys.stderr.write(message.rstrip("\n") + "\n")
        sys.stderr.flush()


def configure_output(*, debug: bool) -> None:
    """Send the package's log records and Python warnings to stderr, one plain line each.

    Only the program `mlff` calls this; the library itself never configures logging.

    Args:
        debug: whether to show debug records too.
    """
    handler = _WithSpinner(sys.stderr)
    handler.setFormatter(_Plain())
    package = logging.getLogger("mlff_calc")
    package.handlers[:] = [handler]
    package.setLevel(logging.DEBUG if debug else logging.INFO)
    package.propagate = False
    if not debug:
        warnings.showwarning = _show_warning
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)


class _WithSpinner(logging.StreamHandler[TextIO]):
    """Writes records, and on a terminal a spinner with the time between the records that begin and end a compilation."""

    _spinner: Any = None

    def emit(self, record: logging.LogRecord) -> None:
        compiling = getattr(record, "compiling", None)
        if compiling is False and self._spinner is not None:
            self._spinner.stop()
            self._spinner = None
        super().emit(record)
        if compiling and self._spinner is None and self.stream.isatty():
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (SpinnerColumn(), TextColumn("compiling"), TimeElapsedColumn())
            self._spinner = Progress(*columns, console=Console(file=self.stream), transient=True)
            self._spinner.add_task("compiling", total=None)
            self._spinner.start()


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno <= logging.INFO else f"mlff: {record.levelname.lower()}: {text}"


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    say(f"mlff: warning: {message}")


def _say_interrupted(text: str) -> int:
    say(f"mlff: interrupted. {text}".rstrip())
    return EXIT_INTERRUPTED


def _status(returned: Any) -> int:
    """Convert a result of typer or sys.exit to an exit status; other return values of a command count as success."""
    if isinstance(returned, str):
        say(f"mlff: error: {returned}")
        return EXIT_FAILURE
    return returned if isinstance(returned, int) and not isinstance(returned, bool) else 0


def _close_stdout() -> None:
    """Keep Python from complaining when it flushes at exit after the reader of our output has closed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
