"""What is asked of a teacher, and what it answers: the same for processes and executors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from ase import Atoms

from mlff_calc.charges import charge_of
from mlff_calc.distillation.checks import arrays_of
from mlff_calc.distillation.teachers import Teacher
from mlff_calc.errors import OptionError

Pair = tuple[int, Atoms]


@dataclass(frozen=True)
class Answer:
    """What became of one structure.

    Attributes:
        number: Number of the structure.
        label: `energy` (eV), `forces` (eV/Angstrom), `stress` (eV/Angstrom^3) where it was asked for, as lists; None where
            it failed.
        problem: Why it failed.
        attempts: Number of attempts.
        seconds: Time of the teacher, s.
    """

    number: int
    label: Mapping[str, Any] | None
    problem: str | None = None
    attempts: int = 1
    seconds: float = 0.0


@dataclass
class Task:
    """A structure on its way.

    Attributes:
        number: Number of the structure.
        atoms: The structure.
        attempts: Number of attempts so far.
        problem: Why the first one failed.
        seconds: Time so far, s.
        want: What was asked for.
    """

    number: int
    atoms: Atoms
    attempts: int = 0
    problem: str | None = None
    seconds: float = field(default=0.0)
    want: Sequence[str] = ()

    def request(self, want: Sequence[str], teacher: Teacher) -> dict[str, Any]:
        """The next attempt as plain values, see `serve.label`."""
        self.want = want
        retries, charge = teacher.retries, charge_of(self.atoms)
        again = retries[min(self.attempts, len(retries)) - 1] if self.attempts and retries else {}
        return {
            "number": self.number, "numbers": self.atoms.numbers.tolist(), "positions": self.atoms.positions.tolist(),
            "cell": self.atoms.cell.array.tolist(), "pbc": self.atoms.pbc.tolist(), "want": list(want),
            "info": {"charge": charge} if charge else {}, "arguments": {**teacher.charged(charge), **again},
        }  # fmt: skip

    def failed(self, problem: str, seconds: float, teacher: Teacher) -> Answer | None:
        """Note a failure, and return the answer where no attempt is left."""
        self.attempts += 1
        self.seconds += seconds
        self.problem = self.problem or problem
        if self.attempts <= max(1, len(teacher.retries)):
            return None
        words = self.problem if self.problem == problem else f"{self.problem}; then {problem}"
        return Answer(self.number, None, words, self.attempts, self.seconds)

    def settled(self, found: Mapping[str, Any], spent: float, teacher: Teacher) -> Answer | None:
        """The answer that a teacher's words make; None where they are an error or no label, and an attempt is left.

        Args:
            found: Label, or `error`, and `seconds`.
            spent: Time, s, where the words do not tell it.
            teacher: Teacher.
        """
        problem = found.get("error")
        if problem is None:
            try:
                arrays_of(self.atoms, found, self.want)
            except OptionError as error:
                problem = str(error)
        if problem is not None:
            return self.failed(str(problem), float(found.get("seconds", spent)), teacher)
        return self.done(found)

    def done(self, found: Mapping[str, Any]) -> Answer:
        """The answer with a label."""
        seconds = float(found.get("seconds", 0.0))
        label = {name: value for name, value in found.items() if name not in ("seconds", "number")}
        return Answer(self.number, label, None, self.attempts + 1, self.seconds + seconds)


class Labeller(ABC):
    """What labels many structures by a teacher.

    Attributes:
        version: Package and version of the teacher.
    """

    version: str = "not known"

    @abstractmethod
    def answers(self, structures: Iterable[Pair], want: Sequence[str]) -> Generator[Answer]:
        """Label structures; answers come in the order in which they are ready.

        Args:
            structures: Numbers and structures.
            want: Some of `energy`, `forces`, `stress`.
        """

    def close(self) -> None:  # noqa: B027 - executors belong to who made them
        """End processes, if any."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
