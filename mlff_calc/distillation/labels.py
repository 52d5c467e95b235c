"""Rounds of labels: frames that are to be labelled, their labels, and those that failed, in extended xyz files.

Labels of a round that is not whole stand in a journal beside their file, which survives any kill. What is written of a label
does not depend on the order in which labels came, on the number of processes, or on how often the run was stopped.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import ase.io.extxyz
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from mlff_calc.charges import charge_of
from mlff_calc.datasets.ase_files import as_written, read_frames_with_ase
from mlff_calc.datasets.labelling import ItemKind, LabelJournal, Outcome, WholeFile, label_items
from mlff_calc.distillation.answers import Labeller
from mlff_calc.distillation.checks import Label, checked, first_label, outliers
from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.whole_files import write_whole

MOST_FAILED = 0.2
"""Share of a round that may fail. Raising it goes on with a teacher that fails for a whole kind of structures."""
MOST_IN_A_ROW = 5
"""Number of failures one after another that are accepted; more mean that the teacher itself has failed."""
SAME_ENERGY = 1e-6
"""Largest difference of an energy that is computed again, eV."""
REPEATED = 5
"""Number of labels that are computed again when a run is resumed."""

_GO_ON = "Labels so far are kept: correct the teacher or the structures, and go on with --resume"
_BEGIN_ANEW = "These labels were made by one teacher and contradict each other: correct it, and begin anew with --overwrite"


def labels_file(folder: Path, number: int) -> Path:
    """File of the labels of a round of a run."""
    return folder / "labels" / f"round-{number:03d}.extxyz"


def key_of(atoms: Atoms, options: str) -> bytes:
    """Digest of what a label depends on: charge, periodicity, elements, positions, cell, and the teacher's options."""
    whole = np.array([charge_of(atoms), *atoms.pbc], dtype="<i8")
    cell = atoms.cell.array if atoms.pbc.any() else np.zeros((3, 3))
    parts = (atoms.numbers.astype("<i8"), atoms.positions.astype("<f8"), cell.astype("<f8"), whole)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts) + options.encode()).digest()


@dataclass
class RoundLabels(ItemKind[Atoms]):
    """Labels of one round.

    Attributes:
        labeller: What labels.
        want: Which labels.
        told: What the frames say of the teacher: `teacher`, `version`, `options`.
        number: Number of the round.
        failed_file: File to which frames that failed are written with their reasons.
        is_first: Whether no label was made before, so that units are looked at.
        seconds: Time of the teacher so far, s.
    """

    labeller: Labeller
    want: Sequence[str]
    told: Mapping[str, str]
    number: int
    failed_file: Path
    is_first: bool = False
    seconds: float = 0.0
    _failed: list[tuple[Atoms, str]] = field(default_factory=list)
    _n_items: int = 0
    suffixes: ClassVar[tuple[str, ...]] = (".extxyz",)
    format: ClassVar[str] = "extended xyz"
    sync_seconds: ClassVar[float] = 5.0
    fails_for_good: ClassVar[bool] = False

    def head_of(self, items: Sequence[Atoms]) -> dict[str, Any]:
        """See `ItemKind`."""
        self._n_items = len(items)
        return {**self.told, "want": list(self.want)}

    def mark(self, item: Atoms) -> bytes:
        """See `key_of`."""
        return key_of(item, self.told["options"])

    def outcomes(self, items: Sequence[tuple[int, Atoms]], workers: int) -> Generator[Outcome]:
        """Label structures, and end where too many fail.

        Raises:
            SimulationError: Too many failed; the text has the reason and the file of the first one.
        """
        del workers  # the labeller knows
        structures, in_a_row, n_items = dict(items), 0, self._n_items
        before = {self.mark(atoms) for atoms in read_labels(self.failed_file) if atoms.info.get("round") == self.number}
        for answer in self.labeller.answers(items, self.want):
            atoms, problem, label = structures[answer.number], answer.problem, answer.label
            self.seconds += answer.seconds
            found: Label = {}
            if label is not None:
                if self.is_first:
                    check_units(atoms, label, self.told["teacher"])
                try:
                    found = checked(atoms, label, self.want)
                    self.is_first = False
                except OptionError as error:
                    problem = str(error)
            if problem is None:
                in_a_row = 0
                yield Outcome(answer.number, found)
                continue
            if self.mark(atoms) not in before:  # those that failed before a stop come one after another now
                in_a_row += 1
            self._failed.append((atoms, problem))
            self._write_failed()
            many = len(self._failed) > max(MOST_FAILED * n_items, 1.0)
            if in_a_row > MOST_IN_A_ROW or many:
                raise self._too_many(n_items, in_a_row)
            yield Outcome(answer.number, None, problem)

    def _too_many(self, n_items: int, in_a_row: int, cure: str = _GO_ON) -> SimulationError:
        how = f"{in_a_row} labels failed one after another" if in_a_row > MOST_IN_A_ROW else (
            f"{len(self._failed)} of {n_items} labels failed, more than {100 * MOST_FAILED:g} %"
        )  # fmt: skip
        return SimulationError(
            f"round {self.number} was stopped: {how}. The first: {self._failed[0][1]}. Its structure is the first of this "
            f"round in {self.failed_file}. {cure}"
        )

    def _write_failed(self) -> None:
        """Write the frames that failed in this round, behind those of other rounds."""
        before = [atoms for atoms in read_labels(self.failed_file) if atoms.info.get("round") != self.number]
        now = []
        for atoms, problem in self._failed:
            copy = atoms.copy()
            copy.info |= {"round": self.number, "reason": problem}
            now.append(copy)
        write_frames(self.failed_file, [*before, *now])

    def write(self, path: Path, journal: LabelJournal) -> None:
        """Write the labels in the order of their frames; energies that cannot be are failures."""
        numbers = journal.labelled()
        held = [journal.label(number) for number in numbers]
        frames = [journal.item(number) for number in numbers]
        odd = outliers(frames, [float(one["energy"]) for one in held])
        for k, problem in odd.items():
            self._failed.append((frames[k], problem))
        if odd or self.failed_file.is_file():  # which may hold some that have a label since
            self._write_failed()
        if odd and len(self._failed) > MOST_FAILED * len(frames):
            raise self._too_many(len(frames), 0, _BEGIN_ANEW)
        write_frames(path, [self._frame(frames[k], held[k]) for k in range(len(held)) if k not in odd])

    def _frame(self, atoms: Atoms, held: Mapping[str, Any]) -> Atoms:
        copy = atoms.copy()
        copy.info |= {**self.told, "round": self.number, "key": self.mark(atoms).hex()[:16]}
        results = {name: held[name] for name in self.want}
        results["energy"] = float(results["energy"])
        copy.calc = SinglePointCalculator(copy, **results)
        return copy

    def read(self, path: Path) -> WholeFile:
        """See `ItemKind`."""
        frames = read_labels(path)
        return WholeFile([], list(range(len(frames))), frames, [])

    def is_of(self, whole: WholeFile, items: Sequence[Atoms]) -> bool:
        """Whether frames are among the items."""
        marks = {self.mark(item) for item in items}
        return all(self.mark(atoms) in marks for atoms in whole.contents)


def check_units(atoms: Atoms, label: Mapping[str, Any], name: str) -> None:
    """Look at the units of a first label; other faults are those of `checked`.

    Raises:
        OptionError: They are wrong.
    """
    forces: NDArray[np.float64] | None
    try:
        forces = np.asarray(label.get("forces"), dtype=np.float64)
    except (TypeError, ValueError):
        return
    if forces.shape == (len(atoms), 3) and np.isfinite(forces).all():
        first_label({"forces": forces}, name)


def label_round(
    todo: Sequence[Atoms],
    kind: RoundLabels,
    path: Path,
    on_done: Callable[[int, int, int], None] | None = None,
) -> None:
    """Label the frames of a round, going on where a run was stopped.

    Args:
        todo: Frames, as read from their file.
        kind: How they are labelled.
        path: File of the labels.
        on_done: See `label_items`.

    Raises:
        SimulationError: Too many labels failed, or all of them.
        OptionError: The first label has wrong units.
        OSError: A file cannot be written; what was labelled before is kept.
    """
    label_items(todo, kind, path, resume=True, on_done=on_done)


def write_frames(path: Path, frames: Sequence[Atoms]) -> None:
    """Write an extended xyz file whole, also one without frames; raises an OSError that names it."""
    write_whole(path, _text(frames))


def as_in_file(frames: Sequence[Atoms]) -> list[Atoms]:
    """Frames as they are when they have been written and read, so that their keys are those of the file."""
    return list(ase.io.extxyz.read_xyz(io.StringIO(_text(frames)), slice(None))) if frames else []


def _text(frames: Sequence[Atoms]) -> str:
    text = io.StringIO()
    for atoms in frames:
        ase.io.extxyz.write_xyz(text, [_rewritable(atoms)])
    return text.getvalue()


def read_labels(path: Path) -> list[Atoms]:
    """Read the frames of a file, none where it is missing or empty; raises a DatasetError where it is damaged."""
    if not path.is_file() or path.stat().st_size == 0:
        return []
    return [atoms for _, atoms in read_frames_with_ase(path, ":", "extxyz")]


def _rewritable(atoms: Atoms) -> Atoms:
    """A copy whose texts are written so that they are read as they are."""
    copy = atoms.copy()
    copy.calc = atoms.calc
    copy.info = {name: as_written(value) if isinstance(value, str) and value else value for name, value in
    atoms.info.items()}
    return copy
