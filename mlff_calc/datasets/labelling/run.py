"""Labels of many structures, or other work on many items, in one file, by several processes, restartable.

Finished labels are kept in a journal beside the file, `.NAME.journal`, and become the file when all are there. What the
journal holds survives any kill, and is not computed again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlff_calc.datasets.labelling.journal import LabelJournal
from mlff_calc.datasets.labelling.kind import ItemKind, LabelKind, WholeFile
from mlff_calc.datasets.labelling.processes import check_workers
from mlff_calc.errors import DatasetError, OptionError, SimulationError
from mlff_calc.locks import output_lock

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class LabelSummary:
    """What came of labelling.

    Attributes:
        path: File of the labels.
        labelled: Number of frames in the file.
        computed: Number of them that were computed now, without those of an interrupted run.
        failures: Number and reason of each item without a label.
        n_items: Number of items with frames in the file.
        cycles: Mean number of SCF cycles; None where the file does not say it.
    """

    path: Path
    labelled: int
    computed: int
    failures: list[tuple[int, str]]
    n_items: int
    cycles: float | None


def label_structures(
    structures: Sequence[Atoms],
    kind: LabelKind,
    path: str | Path,
    workers: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    on_done: Callable[[int, int, int], None] | None = None,
) -> LabelSummary:
    """Label structures, and write them to a file.

    Args:
        structures: Molecules, Angstrom; the charge of each is its `info['charge']`.
        kind: What a label is, with its level.
        path: File to write, in an existing folder, with an ending of the kind.
        workers: Number of processes of one thread each; labels do not depend on it.
        resume: Whether to continue an interrupted run with the same structures and level.
        overwrite: Whether to replace a file, or to begin anew where a run was interrupted.
        on_done: Called after each structure with the numbers of those that are done, that failed, and of all.

    Returns:
        A summary. Structures that are not molecules with paired electrons, and SCFs that do not converge, are kept as
        failures with their reason.

    Raises:
        OptionError: Level, path or options are wrong; raised before anything is written.
        DatasetError: An interrupted run is of other structures or of another level, or its journal is damaged.
        SimulationError: No structure has a label, or another process writes this file.
    """
    return label_items(structures, kind, path, workers, resume, overwrite, on_done)


def label_items(
    items: Sequence[Any],
    kind: ItemKind[Any],
    path: str | Path,
    workers: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    on_done: Callable[[int, int, int], None] | None = None,
) -> LabelSummary:
    """Do the work of a kind on any items, and write the results to a file; see `label_structures`."""
    target = Path(path)
    check_workers(workers)
    check_label_target(target, kind, resume=resume, overwrite=overwrite)
    if not items:
        raise OptionError(f"there are no {kind.nouns} to label")
    head = kind.head_of(items)
    with output_lock(target):
        if resume and target.exists():
            whole, computed = _checked(target, items, kind), 0
        else:
            with LabelJournal(journal_of(target), head, items, kind, resume=resume) as journal:
                computed = _fill(target, kind, journal, items, workers, on_done)
            whole = kind.read(target)
    with suppress(OSError):
        journal_of(target).unlink()
    return LabelSummary(target, len(whole.sources), computed, whole.failures, len(set(whole.sources)), whole.cycles)


def check_label_target(path: Path, kind: ItemKind[Any], *, resume: bool, overwrite: bool) -> None:
    """Check that a file of labels can be written.

    Raises:
        OptionError: It is there already, its name or folder is wrong, or an interrupted run is in the way.
    """
    if resume and overwrite:
        raise OptionError("resume continues a run and overwrite replaces it; give one of them")
    if path.suffix not in kind.suffixes:
        ends = " or ".join(kind.suffixes)
        raise OptionError(f"{path}: labels are written to {kind.format}; give a name that ends in {ends}")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise OptionError(f"{path}: the folder {path.parent} is not there or cannot be written to; choose another one")
    if path.is_dir():
        raise OptionError(f"{path} is a folder; give the name of a file")
    if path.exists() and not (resume or overwrite):
        raise OptionError(f"{path} is there already; choose another name, or replace it with overwrite")
    journal = journal_of(path)
    if journal.exists() and not (resume or overwrite):
        raise OptionError(f"{journal} holds an interrupted run; go on with resume, or begin anew with overwrite")


def journal_of(path: Path) -> Path:
    """Return the path of the journal of a file that is being made."""
    return path.with_name(f".{path.name}.journal")


def _fill(
    target: Path,
    kind: ItemKind[Any],
    journal: LabelJournal,
    items: Sequence[Any],
    workers: int,
    on_done: Callable[[int, int, int], None] | None,
) -> int:
    """Label what the journal lacks, write the file, and return the number of items labelled now."""
    before = journal.n_labelled
    found = kind.outcomes(journal.missing(), workers)
    try:
        for outcome in found:
            if outcome.problem is None:
                journal.add(outcome.number, outcome.value)
            else:
                journal.fail(outcome.number, outcome.problem)
            if on_done is not None:
                on_done(journal.n_labelled + journal.n_failed, journal.n_failed, len(items))
    except KeyboardInterrupt as stop:
        done = journal.n_labelled + journal.n_failed
        raise KeyboardInterrupt(
            f"{done} of {len(items)} {kind.nouns} are done and kept in {journal.path}; go on with --resume"
        ) from stop
    finally:
        found.close()
    if not journal.n_labelled:
        number, reason = journal.failures()[0]
        journal.remove()
        raise SimulationError(f"none of {len(items)} {kind.nouns} has a label; {kind.noun} {number}: {reason}")
    kind.write(target, journal)
    return journal.n_labelled - before


def _checked(path: Path, items: Sequence[Any], kind: ItemKind[Any]) -> WholeFile:
    """Read a whole file, and check that it is that of these items; raises a DatasetError."""
    whole = kind.read(path)
    if whole.differences:
        raise DatasetError(f"{path} is whole, and of another level: {'; '.join(whole.differences)}")
    every = {*whole.sources, *(number for number, _ in whole.failures)} == set(range(len(items)))
    if not every or not kind.is_of(whole, items):
        raise DatasetError(f"{path} is whole, and holds other {kind.nouns}; choose another name")
    return whole
