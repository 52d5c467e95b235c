"""Labels of many structures in one file, by several processes, restartable.

Finished labels are kept in a journal beside the file, `.NAME.journal`, and become the file when all are there. What the
journal holds survives any kill, and is not computed again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_calc.datasets.matrix_files import MatrixFile, write_matrices
from mlff_calc.electronic.scf.label_journal import LabelJournal
from mlff_calc.electronic.scf.labels import basis_of, label
from mlff_calc.electronic.scf.processes import check_workers, outcomes
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import DatasetError, OptionError, SimulationError, StructureError
from mlff_calc.locks import output_lock

if TYPE_CHECKING:
    from ase import Atoms

SUFFIXES = (".h5", ".hdf5")


@dataclass(frozen=True)
class LabelSummary:
    """What came of labelling.

    Attributes:
        path: File of the labels.
        labelled: Number of frames in the file.
        computed: Number of them that were computed now, without those of an interrupted run.
        failures: Number and reason of each structure without a label.
        cycles: Mean number of SCF cycles.
    """

    path: Path
    labelled: int
    computed: int
    failures: list[tuple[int, str]]
    cycles: float


def label_structures(
    structures: Sequence[Atoms],
    settings: SCFSettings,
    path: str | Path,
    workers: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    gradient: bool = True,
    on_done: Callable[[int, int, int], None] | None = None,
) -> LabelSummary:
    """Label structures, and write them to a file (see `MatrixFile`).

    Args:
        structures: Molecules, Angstrom; the charge of each is its `info['charge']`.
        settings: Level of the labels.
        path: File to write, in an existing folder, .h5 or .hdf5.
        workers: Number of processes of one thread each; labels do not depend on it.
        resume: Whether to continue an interrupted run with the same structures and settings.
        overwrite: Whether to replace a file, or to begin anew where a run was interrupted.
        gradient: Whether to compute forces.
        on_done: Called after each structure with the numbers of those that are done, that failed, and of all.

    Returns:
        A summary. Structures that are not molecules with paired electrons, and SCFs that do not converge, are kept in
        the file as failures with their reason.

    Raises:
        OptionError: Settings, path or options are wrong; raised before anything is written.
        DatasetError: An interrupted run is of other structures or settings, or its journal is damaged.
        SimulationError: No structure has a label, or another process writes this file.
    """
    target = Path(path)
    check_workers(workers)
    check_label_target(target, resume=resume, overwrite=overwrite)
    if not structures:
        raise OptionError("there are no structures to label")
    numbers = np.unique(np.concatenate([atoms.numbers for atoms in structures]))
    numbers = numbers[numbers > 0]  # ghosts are failures of their structure
    settings.check(numbers)
    if not len(numbers):
        raise StructureError("the structures hold no atoms; give molecules")
    head = {"settings": settings.to_dict(), "basis": basis_of(settings.basis, numbers), "gradient": gradient}
    with output_lock(target):
        if resume and target.exists():
            _check_whole(target, structures, settings)
        else:
            computed = _fill(target, head, structures, workers, resume=resume, on_done=on_done)
            return _summary(target, computed)
    with suppress(OSError):
        journal_of(target).unlink()
    return _summary(target, 0)


def check_label_target(path: Path, *, resume: bool, overwrite: bool) -> None:
    """Check that a file of labels can be written.

    Raises:
        OptionError: It is there already, its name or folder is wrong, or an interrupted run is in the way.
    """
    if resume and overwrite:
        raise OptionError("resume continues a run and overwrite replaces it; give one of them")
    if path.suffix not in SUFFIXES:
        raise OptionError(f"{path}: labels are written to HDF5; give a name that ends in {' or '.join(SUFFIXES)}")
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
    head: dict[str, Any],
    structures: Sequence[Atoms],
    workers: int,
    *,
    resume: bool,
    on_done: Callable[[int, int, int], None] | None,
) -> int:
    """Label what the journal lacks, write the file, and return the number of structures labelled now."""
    work = partial(label, settings=SCFSettings.from_dict(head["settings"]), gradient=head["gradient"])
    with LabelJournal(journal_of(target), head, structures, resume=resume) as journal:
        before = journal.n_labelled
        found = outcomes(work, journal.missing(), workers)
        try:
            for outcome in found:
                if outcome.problem is None:
                    journal.add(outcome.number, outcome.value)
                else:
                    journal.fail(outcome.number, outcome.problem)
                if on_done is not None:
                    on_done(journal.n_labelled + journal.n_failed, journal.n_failed, len(structures))
        except KeyboardInterrupt as stop:
            done = journal.n_labelled + journal.n_failed
            raise KeyboardInterrupt(
                f"{done} of {len(structures)} structures are done and kept in {journal.path}; go on with --resume"
            ) from stop
        finally:
            found.close()
        if not journal.n_labelled:
            number, reason = journal.failures()[0]
            journal.remove()
            raise SimulationError(f"none of {len(structures)} structures has a label; structure {number}: {reason}")
        write_matrices(target, journal.frames(), head["settings"], head["basis"], journal.failures())
        journal.remove()
        return journal.n_labelled - before


def _check_whole(path: Path, structures: Sequence[Atoms], settings: SCFSettings) -> None:
    """Check that a whole file is that of these structures; raises a DatasetError."""
    file = MatrixFile(path)
    found = SCFSettings.from_dict(file.settings)
    if found != settings:
        raise DatasetError(f"{path} is whole, and of another level: {'; '.join(found.differences(settings))}")
    sources = {*file.column("source").tolist(), *(number for number, _ in file.failures)}
    same = sources == set(range(len(structures))) and all(
        np.array_equal(frame.positions, structures[frame.source].positions) for frame in file
    )
    if not same:
        raise DatasetError(f"{path} is whole, and holds other structures; choose another name")


def _summary(path: Path, computed: int) -> LabelSummary:
    file = MatrixFile(path)
    return LabelSummary(path, len(file), computed, file.failures, float(np.mean(file.column("cycles"))))
