"""The interface of a trainable kind, `Task`. `run.train` carries it out, and the commands know no kind by name.

The name of a kind is the section of its recipes, the `kind` in the header of its files and the folder of its result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from mlff_calc.errors import OptionError
from mlff_calc.training.data import BatchSource
from mlff_calc.training.objective import Objective
from mlff_calc.training.predict import Predictor
from mlff_calc.training.recipe_base import TrainingRecipe

if TYPE_CHECKING:
    from mlff_calc.training.failures import BadBatch
    from mlff_calc.training.fit import FitResult
    from mlff_calc.training.folder import RunFolder

R = TypeVar("R", bound=TrainingRecipe)
P = TypeVar("P", bound=Sized)


class Report(Protocol):
    """Errors of a trained network."""

    def as_text(self) -> str:
        """Return the errors as a table of plain text."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """Return the errors as plain values for JSON."""
        ...

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table of the card: its headings, then its rows."""
        ...


@dataclass(frozen=True)
class Prepared:
    """Network, objective and batches of a run, ready for training.

    Attributes:
        network: Network with `precision`, `to_precision` and `save`, trained in place.
        objective: Objective of the training.
        train: Source of training batches.
        valid: Source of validation batches.
        bad_batch: Function from the folder of the run to the reporter of a batch whose loss is not finite.
        table: Text about the data that were read, for the log.
        notes: Decisions about the data, a sentence each.
        example: Numbers of the training frames that compiled code is made for and checked on, such as `range(8)`; None
            where the network is not compiled for training.
        begin: Function that is called with the locked folder of the run before the fit, also of a resumed run; it may write
            there what batches need. None where there is nothing to do.
    """

    network: Any
    objective: Objective
    train: BatchSource
    valid: BatchSource
    bad_batch: Callable[[RunFolder], BadBatch]
    table: str
    notes: list[str] = field(default_factory=list)
    example: Sequence[int] | None = None
    begin: Callable[[RunFolder], None] | None = None


@dataclass(frozen=True)
class Outcome(Generic[R, P]):
    """Results of a run, for its card.

    Attributes:
        recipe: Recipe of the run.
        network: Result of the run, on the CPU, with the averaged weights of the best epoch.
        parts: Data by part.
        fitted: Epochs and time of the fit.
        report: Errors on the samples of `judged`.
        judged: Part that was judged: `test`, or `valid` where there is no test part.
        command: Command line of the run.
        notes: Decisions about the data, a sentence each.
    """

    recipe: R
    network: Any
    parts: Mapping[str, P]
    fitted: FitResult
    report: Any
    judged: str
    command: str
    notes: Sequence[str]


class Task(ABC, Generic[R, P]):
    """A trainable kind.

    Attributes:
        name: Name of the kind: the section of the recipe, the `kind` in the header and the folder of the result.
        recipe: Class of the recipe, which has the section.
        example: Commented recipe.
        items: Plural noun for the samples of a part, such as frames.
        drawings: Names of the files in the folder of a run that `plots` writes.
        options: Names of options of `mlff eval` that the kind takes besides device, precision and batch size: of
            `plot`, `keys`, `units`, `index`, `part`, `format`, `output` and `overwrite`, `horizon`, `start`, `hops`,
            `heavy_atoms`, `neighbors`, `limit`, `calculator`, `rivals` and `trust`.
        predictions: Names of options of `mlff predict` that the kind takes besides device and precision: of `energy`,
            `matrices`, `cube` and `trust`. None where it predicts nothing for the frames of a file.
        instead: What a kind that predicts nothing for frames offers instead, for messages.
    """

    name: ClassVar[str]
    recipe: ClassVar[type[TrainingRecipe]]
    example: ClassVar[str]
    items: ClassVar[str] = "frames"
    drawings: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[frozenset[str]] = frozenset()
    predictions: ClassVar[frozenset[str] | None] = None
    instead: ClassVar[str] = "use `mlff eval`"

    @abstractmethod
    def read(self, recipe: R) -> dict[str, P]:
        """Read and check the data by part: `train`, `valid`, and `test` where there is one.

        Raises:
            RecipeError: The recipe needs labels or files that are missing.
            DatasetError: Data cannot be read, or the parts do not fit together.
        """

    @abstractmethod
    def fingerprints(self, recipe: R, parts: Mapping[str, P]) -> dict[str, dict[str, Any]]:
        """Return fingerprints of the data by part, which a resumed run must find unchanged."""

    def decisions(self, recipe: R, parts: Mapping[str, P]) -> dict[str, Any]:
        """Return the decisions that the recipe leaves to the data, for the record of the run."""
        del recipe, parts
        return {}

    def check_resumed(
        self,
        folder: Path,
        record: Mapping[str, Any],
        recipe: R,
        data: Mapping[str, Any],
        decided: Mapping[str, Any],
    ) -> None:
        """Refuse to resume a run whose data are now read differently.

        Args:
            folder: Folder of the run.
            record: Record of the run.
            recipe: Present recipe.
            data: Present result of `fingerprints`.
            decided: Present result of `decisions`.

        Raises:
            TrainingError: Something differs; the message names it and the cure.
        """

    @abstractmethod
    def prepare(self, recipe: R, parts: Mapping[str, P]) -> Prepared:
        """Build the network, its objective and its batches. Nothing is written.

        Raises:
            RecipeError: An option of the network is out of range.
        """

    @abstractmethod
    def judge(self, recipe: R, network: Any, samples: P) -> Report:  # noqa: ANN401
        """Compute the errors on the samples of a part."""

    @abstractmethod
    def card(self, outcome: Outcome[R, P]) -> str:
        """Write the card as Markdown."""

    def finish(self, network: Any, parts: Mapping[str, P]) -> None:  # noqa: ANN401
        """Add to the trained network what only the data tell, before it is judged and written."""

    def clean(self) -> None:
        """Remove what only an unfinished run needs. It is called when everything is written."""

    def plots(self, folder: RunFolder, report: Any, what: str) -> None:  # noqa: ANN401
        """Draw plots besides the learning curve, which every run has.

        Args:
            folder: Folder of the run.
            report: Result of `judge`.
            what: Description of the judged samples.
        """

    def provenance(self, recipe: R, parts: Mapping[str, P]) -> dict[str, Any]:
        """Return entries for the header besides data, command, time and machine."""
        del recipe, parts
        return {}

    @abstractmethod
    def evaluate(
        self,
        model: str,
        data: Sequence[Path],
        *,
        batch_size: int | None,
        device: str,
        precision: str | None,
        **asked: Any,  # noqa: ANN401
    ) -> Report:
        """Compute the errors of a trained network of this kind on files, for `mlff eval`.

        Args:
            model: Folder of the network, or name of a shipped one.
            data: Data files.
            batch_size: Number of samples evaluated at once; None for the kind's default.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            precision: Precision; None for the kind's default.
            **asked: Options given to the command, all of them in `options`.
        """

    def predictor(self, model: str, *, device: str, precision: str | None, **asked: Any) -> Predictor:  # noqa: ANN401
        """Open a trained network of this kind for `mlff predict`.

        Args:
            model: Folder of the network, or name of a shipped one.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            precision: Precision; None for the kind's default.
            **asked: Options given to the command, all of them in `predictions`.

        Raises:
            OptionError: The kind predicts nothing for the frames of a file, or an option cannot be honoured.
        """
        raise OptionError(f"{model} holds a {self.name}, which predicts nothing for the frames of a file; {self.instead}")
