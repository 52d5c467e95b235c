"""Starts of the SCF beside each other, on the same structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlff_calc.electronic.scf.guess import PredictsFock, loaded
from mlff_calc.electronic.scf.mean_field import mean_field
from mlff_calc.electronic.scf.predicted import check_molecule
from mlff_calc.electronic.scf.pyscf_door import check_structure
from mlff_calc.electronic.scf.run import SCFStats, solve
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.electronic.scf.starts import FREE, Starter
from mlff_calc.errors import MLFFError, OptionError


@dataclass(frozen=True)
class StartRow:
    """What one start cost; numbers but the last four are means over structures.

    Attributes:
        start: Name of the start.
        structures: Number of structures.
        cycles: Number of cycles.
        fock_builds: Number of Fock builds, with those of guesses and guard.
        seconds: Seconds of the SCF with its start.
        energy_difference: Largest absolute difference of energies to those of minao, Hartree.
        most_cycles_above: Largest number of cycles above those of minao in a structure.
        fallbacks: Number of starts replaced by minao.
        retries: Number of SCFs that were repeated.
    """

    start: str
    structures: int
    cycles: float
    fock_builds: float
    seconds: float
    energy_difference: float
    most_cycles_above: int
    fallbacks: int
    retries: int

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)


def compare_starts(
    structures: Sequence[Atoms],
    settings: SCFSettings,
    starts: Sequence[str] = ("minao", "huckel", "previous", "model"),
    model: str | Path | PredictsFock | None = None,
    on_structure: Callable[[int], None] | None = None,
) -> list[StartRow]:
    """Solve the SCF of every structure from every start.

    Structures are taken in order, which matters for starts from earlier ones. Of each structure, all starts are solved one
    after the other; minao, the reference, always is. It is solved once beforehand, and a model predicts once, so that
    nothing is loaded in their times.

    Args:
        structures: Molecules, closed shells; charges are `info['charge']`.
        settings: SCFSettings of theory.
        starts: Names of starts, see `Starter`.
        model: Model, for starts that need one.
        on_structure: Function that is called with the number of structures that are done.

    Returns:
        A row for each start, minao first.

    Raises:
        OptionError: There are no structures, or a start is unknown or lacks its model.
        StructureError, UnknownElementError: A structure is none for the model; the message has its number, from 0.
        SimulationError: An SCF does not converge.
    """
    if not structures:
        raise OptionError("there are no structures; give at least one")
    names = ["minao", *(name for name in dict.fromkeys(starts) if name != "minao")]
    _check(structures, None if model is None else loaded(model))
    starters = [Starter(name, None if not name.startswith("model") else model) for name in names]
    stats = [SCFStats() for _ in names]
    energies, cycles = np.zeros((2, len(structures), len(names)))
    solve(mean_field(structures[0], settings), Starter(FREE[0]), SCFStats())
    if any(name.startswith("model") for name in names):
        Starter("model", model).density(mean_field(structures[0], settings))
    for row, atoms in enumerate(structures):
        for column, (starter, counts) in enumerate(zip(starters, stats, strict=True)):
            before = counts.cycles
            mf = mean_field(atoms, settings)
            solve(mf, starter, counts)
            energies[row, column], cycles[row, column] = mf.e_tot, counts.cycles - before
        if on_structure is not None:
            on_structure(row + 1)
    n = len(structures)
    return [
        StartRow(
            name,
            n,
            counts.cycles / n,
            counts.fock_builds / n,
            counts.seconds / n,
            float(np.abs(energies[:, column] - energies[:, 0]).max()),
            int((cycles[:, column] - cycles[:, 0]).max()),
            counts.fallbacks,
            counts.retries,
        )
        for column, (name, counts) in enumerate(zip(names, stats, strict=True))
    ]


def _check(structures: Sequence[Atoms], model: PredictsFock | None) -> None:
    """Refuse structures that cannot be solved or predicted, before the first is."""
    for number, atoms in enumerate(structures):
        try:
            if model is None:
                check_structure(atoms)
            else:
                check_molecule(model, atoms)
        except MLFFError as error:
            raise type(error)(f"structure {number}: {error}") from error
