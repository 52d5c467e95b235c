"""What kinds have in common whose data are one file that is cut into parts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mlff_calc.datasets import PARTS
from mlff_calc.errors import OptionError
from mlff_calc.training.fingerprints import fingerprint
from mlff_calc.training.task import P, R, Task

if TYPE_CHECKING:
    from mlff_calc.training.failures import BadBatch
    from mlff_calc.training.folder import RunFolder


class OneFileTask(Task[R, P]):
    """A trainable kind whose recipes name one file, `data.file`.

    Attributes:
        advice: Beginning of a sentence that says what to look for in a bad batch.
    """

    advice: ClassVar[str]

    @abstractmethod
    def place(self, samples: P, number: int) -> str:
        """Where a sample stands, for messages."""

    def mark(self, recipe: R) -> dict[str, Any]:
        """Return name, size and hash of the file."""
        return fingerprint(recipe.data_file())

    def fingerprints(self, recipe: R, parts: Mapping[str, P]) -> dict[str, dict[str, Any]]:
        """Return name, size and hash of the file, and numbers of samples."""
        mark = self.mark(recipe)
        return {part: mark | {self.items: len(samples)} for part, samples in parts.items()}

    def table(self, parts: Mapping[str, P]) -> str:
        """Numbers of samples, for the log."""
        return ", ".join(f"{len(samples)} {self.items} for {part}" for part, samples in parts.items())

    def bad_batch(self, parts: Mapping[str, P]) -> Callable[[RunFolder], BadBatch]:
        """Return a function that makes the reporter of a bad batch."""
        from mlff_calc.training.failures import NamedSamples

        trained = {part: parts[part] for part in ("train", "valid")}
        places = {part: [self.place(one, k) for k in range(len(one))] for part, one in trained.items()}
        return lambda folder: NamedSamples(folder, places, self.advice)

    def one_of(self, data: Sequence[Path], part: str | None) -> Path:
        """Return the file that is evaluated.

        Raises:
            OptionError: More than one file is given, or the part is unknown.
        """
        if len(data) > 1:
            raise OptionError(f"a network of kind {self.name} takes one file, not {len(data)}; give one")
        if part not in (None, *PARTS, "all"):
            raise OptionError(f"--part is {part!r}; give {', '.join(PARTS)} or all")
        return data[0]
