"""Running a LAMMPS input command by command.

LAMMPS reads a file to its end in one call. Here each command is passed on separately, so that the program can act
between two of them. Commands that control the reading itself (`include`, `jump`, `label`, `next`, `if`, `quit`) are
carried out here by the rules of LAMMPS's manual; conditions and variables are evaluated by LAMMPS.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlff_calc.bounded import MEBI, read_text
from mlff_calc.errors import OptionError, SimulationError

BRANCH = "mlff_branch"
"""Name of the LAMMPS variable for the branch of an `if` that was taken."""
LETTERS = "mlff_letters"
"""Name of the LAMMPS variable for a command with letters that LAMMPS would drop from its text."""
_MOST_FILES = 64  # largest depth of included files; a larger one lets endless recursion run longer
_MOST_BYTES = 256 * MEBI  # largest size of an input; a larger one accepts files that take more memory


@dataclass(frozen=True)
class Line:
    """One command, with continuation lines joined and comments kept.

    Attributes:
        text: text of the command.
        place: ``file:line``, for messages.
    """

    text: str
    place: str


@dataclass
class _Frame:
    """A file that is being read, and the index of its next command."""

    lines: list[Line]
    at: int = 0


class Script:
    """Reads an input and passes its commands to LAMMPS.

    Args:
        lammps: object of `lammps.lammps`.
        before: function called with text and words of each command before LAMMPS gets it; returns the text to pass on.
        after: function called after each command.

    Attributes:
        place: ``file:line`` of the current command.
    """

    def __init__(self, lammps: Any, before: Callable[[str, list[str]], str], after: Callable[[], None]) -> None:
        self._lammps = lammps
        self._before = before
        self._after = after
        self._frames: list[_Frame] = []
        self._skip_jump = False
        self.place = ""

    def run(self, path: Path) -> None:
        """Carry out a whole input.

        Args:
            path: path of the input; files that it names are relative to the current folder, as in LAMMPS.

        Raises:
            OptionError: the input or an included file cannot be read, or a label is missing.
            SimulationError: LAMMPS refuses a command; the text is LAMMPS's own.
        """
        self.place = str(path)
        self._frames = [_Frame(read_lines(path))]
        while self._frames:
            frame = self._frames[-1]
            if frame.at == len(frame.lines):
                self._frames.pop()
                continue
            line = frame.lines[frame.at]
            frame.at += 1
            self.place = line.place
            self._command(line.text)

    def _command(self, text: str) -> None:
        """Carry out one command of the file or of a branch of an `if`."""
        words = split_words(text)
        if not words:
            return
        name = self._expand(words[0])
        steering = {
            "include": self._include,
            "jump": self._jump,
            "next": self._next,
            "if": self._if,
            "quit": self._quit,
        }
        if name in steering:
            steering[name](text, words)
        elif name != "label":
            self._send(self._before(text, [name, *words[1:]]))
            self._after()

    def _send(self, text: str) -> None:
        try:
            self._hand_over(text)
        except Exception as error:  # LAMMPS's module raises plain exceptions
            self._after()  # an error of the callback comes first
            raise SimulationError(
                f"{self.place}: LAMMPS says: {lammps_message(error)}\nThe command was: {text.strip()}"
            ) from error

    def _hand_over(self, text: str) -> None:
        """Pass a command to LAMMPS.

        LAMMPS drops a part of letters such as u-umlaut, so that the rest names another file. It does not look into the
        values of variables, so such commands are passed through a variable.
        """
        text = text if text.isascii() else _without_comment(text)
        if not holds_letters(text):
            self._lammps.command(text)
            return
        whole = self._lammps.expand(text) if "$" in text else text
        self._lammps.command(f"variable {LETTERS} string none")
        self._lammps.set_string_variable(LETTERS, whole)
        self._lammps.command(f"${{{LETTERS}}}")

    def _expand(self, text: str) -> str:
        """Replace variables by their values."""
        if "$" not in text:
            return text
        try:
            return self._lammps.expand(text) or ""
        except Exception as error:
            raise SimulationError(
                f"{self.place}: LAMMPS says: {lammps_message(error)}\nThe text was: {text}"
            ) from error

    def _arguments(self, words: list[str], usage: str, least: int = 1) -> list[str]:
        if len(words) <= least:
            raise SimulationError(f"{self.place}: {' '.join(words)!r} lacks an argument; it is written {usage}")
        return [unquote(self._expand(word)) for word in words[1:]]

    def _include(self, _: str, words: list[str]) -> None:
        path = Path(self._arguments(words, "include FILE")[0])
        if len(self._frames) >= _MOST_FILES:
            raise OptionError(
                f"{self.place}: {len(self._frames)} files include each other without end; break the circle"
            )
        self._frames.append(_Frame(self._read(path)))

    def _read(self, path: Path) -> list[Line]:
        try:
            return read_lines(path)
        except OptionError as error:
            raise OptionError(f"{self.place}: {error}") from error

    def _jump(self, _: str, words: list[str]) -> None:
        file, *label = self._arguments(words, "jump FILE LABEL, or jump SELF LABEL")
        if self._skip_jump:
            self._skip_jump = False
            return
        frame = self._frames[-1]
        if file != "SELF":
            frame.lines = self._read(Path(file))
        frame.at = self._find_label(frame.lines, label[0]) if label else 0

    def _find_label(self, lines: list[Line], label: str) -> int:
        for index, line in enumerate(lines):
            words = split_words(line.text)
            if len(words) > 1 and words[0] == "label" and unquote(self._expand(words[1])) == label:
                return index + 1
        raise OptionError(f"{self.place}: no line `label {label}` in the file; check the spelling")

    def _next(self, text: str, words: list[str]) -> None:
        names = self._arguments(words, "next VARIABLE")
        self._send(text)
        self._skip_jump = not all(self._lammps.has_id("variable", name) for name in names)

    def _quit(self, _: str, words: list[str]) -> None:
        self._frames.clear()
        status = unquote(self._expand(words[1])) if len(words) > 1 else "0"
        if status != "0":
            raise SimulationError(f"{self.place}: the input ended the run itself, by `quit {status}`")

    def _if(self, text: str, words: list[str]) -> None:
        """Let LAMMPS choose the branch of an `if`, and carry out its commands."""
        heads, branches = _split_if(words)
        if not branches or not all(branches):
            self._send(text)  # LAMMPS reports the fault
            return
        asked = [f'{head} "variable {BRANCH} string {index}"' for index, head in enumerate(heads)]
        self._send(f"variable {BRANCH} string none")
        self._send(" ".join(asked))
        chosen = self._lammps.extract_variable(BRANCH)
        if chosen != "none":
            for command in branches[int(chosen)]:
                self._command(unquote(command))


def holds_letters(text: str) -> bool:
    """Whether LAMMPS would damage a text: non-ASCII letters, but not blanks, dashes and quotes."""
    known = {"Zs", "Pd", "Pi", "Pf", "Sm", "Sk", "Lm", "Cf"}
    return any(unicodedata.category(c) not in known for c in text if not c.isascii())


def lammps_message(error: Exception) -> str:
    """Extract LAMMPS's message from an exception of its module, without places in its source."""
    text = re.sub(r"^ERROR( on proc \d+)?: ", "", str(error)) or type(error).__name__
    text = text.partition("\nLast input line")[0]  # the command, in LAMMPS's own spelling, ends the message
    return re.sub(r" \(\S+\.cpp:\d+\)", "", text).strip()


def _split_if(words: list[str]) -> tuple[list[str], list[list[str]]]:
    """Return the heads (``if COND then``, ``elif COND``, ``else``) and the commands of the branches."""
    heads, branches, at = [], [], 0
    while at < len(words):
        length = {"if": 3, "elif": 2, "else": 1}.get(words[at], 0)
        if length == 0 or (words[at] == "if" and (at > 0 or words[2:3] != ["then"])):
            return [], []
        heads.append(" ".join(words[at : at + length]))
        at += length
        commands: list[str] = []
        while at < len(words) and words[at] not in ("elif", "else"):
            commands.append(words[at])
            at += 1
        branches.append(commands)
    return heads, branches


def read_lines(path: Path) -> list[Line]:
    """Read the commands of a file, joining lines that end in ``&`` and texts in triple quotes.

    Raises:
        OptionError: the file does not exist, is a pipe or device, is larger than 256 MiB, or is not text.
    """
    if not path.exists():
        raise OptionError(f"there is no input {path} in {Path.cwd()}; check the spelling, or change the folder")
    text = read_text(path, OptionError, _MOST_BYTES)
    lines, part, start = [], "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        start = start if part else number
        part += raw
        if part.count('"""') % 2:
            part += "\n"
        elif part.rstrip().endswith("&"):
            part = part.rstrip()[:-1] or " "
        else:
            lines.append(Line(part, f"{path}:{start}"))
            part = ""
    if part:
        lines.append(Line(part, f"{path}:{start}"))
    return lines


_WORD = re.compile(r'"""(?:.|\n)*?"""|"[^"]*"|\'[^\']*\'|[^\s#]\S*')


def split_words(text: str) -> list[str]:
    """Return the words of a command with their quotes, without its comment."""
    return _WORD.findall(_without_comment(text))


def _without_comment(text: str) -> str:
    """Return the text before a # outside of quotes."""
    quote = ""
    at = 0
    while at < len(text):
        if quote:
            if text.startswith(quote, at):
                at, quote = at + len(quote), ""
                continue
        elif text.startswith('"""', at):
            quote, at = '"""', at + 3
            continue
        elif text[at] in "\"'":
            quote = text[at]
        elif text[at] == "#":
            return text[:at]
        at += 1
    return text


def unquote(word: str) -> str:
    """Return a word without its quotes."""
    for quote in ('"""', '"', "'"):
        if word.startswith(quote) and word.endswith(quote) and len(word) >= 2 * len(quote):
            return word[len(quote) : -len(quote)]
    return word
