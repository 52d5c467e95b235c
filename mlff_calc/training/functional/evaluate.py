"""Errors of a learned functional: energies that are self-consistent in PySCF, beside those of its base functional.

| row              | energy                                                       |
|------------------|--------------------------------------------------------------|
| functional       | the learned functional, with its constants of elements       |
| base + constants | the base functional, with constants of elements fitted to it |
| base             | the base functional                                          |
| rivals           | potentials trained on the same energies, where asked for     |

`relative` errors are those after the mean error of each composition is removed, as in relative energies of conformers.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.units import Bohr, Hartree
from numpy.typing import NDArray

from mlff_calc.charges import charge_of
from mlff_calc.datasets import Sample, matching_files
from mlff_calc.datasets.energy_files import LEVEL
from mlff_calc.electronic.functional import FunctionalNetwork, build_functional, load_functional
from mlff_calc.errors import DatasetError, EvaluationError
from mlff_calc.training.frames.read import read_sources
from mlff_calc.training.frames.recipe import Source
from mlff_calc.training.functional.constants import check_difference
from mlff_calc.training.functional.data import check_elements, check_samples

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_calc.electronic.scf.kept_densities import KeptDensities

MILLI = 1e3
_SHOWN = 5  # number of failures that are shown one by one
ROWS = ("functional", "base + constants", "base")


@dataclass(frozen=True)
class EnergyErrors:
    """Errors of energies of one row, in Hartree, and of forces, in Hartree/Bohr.

    Attributes:
        mae: Mean absolute error.
        rmse: Root mean square error.
        relative: Mean absolute error after the mean error of each composition is removed.
        largest: Largest absolute error.
        forces: Mean absolute error of components of forces; None without labels.
    """

    mae: float
    rmse: float
    relative: float
    largest: float
    forces: float | None = None


@dataclass(frozen=True)
class FunctionalReport:
    """Result of `evaluate_functional`.

    Attributes:
        molecules: Number of molecules with an energy.
        errors: Errors by row.
        failures: Places of molecules whose SCF did not converge, with reasons.
        cycles: Mean number of SCF cycles, from the density of the base functional.
        retries: Number of SCFs that needed a second attempt.
        seconds: Mean processor time of such an SCF.
        parameters: Number of trained parameters.
        other_charges: Number of molecules with a charge that no molecule of the training had.
    """

    molecules: int
    errors: dict[str, EnergyErrors]
    failures: list[str] = field(default_factory=list)
    cycles: float = float("nan")
    retries: int = 0
    seconds: float = float("nan")
    parameters: int = 0
    other_charges: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Everything, fit for JSON."""
        return asdict(self)

    def rows(self) -> list[tuple[str, ...]]:
        """The table of the card, in mHa."""
        has_forces = any(one.forces is not None for one in self.errors.values())
        head = ("mHa", "MAE", "RMSE", "relative", "largest", *(["forces (mHa/Bohr)"] if has_forces else []))
        lines = []
        for name, one in self.errors.items():
            values = [one.mae, one.rmse, one.relative, one.largest]
            forces = [] if not has_forces else ["" if one.forces is None else f"{MILLI * one.forces:.4g}"]
            lines.append((name, *(f"{MILLI * value:.4g}" for value in values), *forces))
        return [head, *lines]

    def as_text(self) -> str:
        """A table of plain text."""
        retries = f", {self.retries} second attempts" if self.retries else ""
        beyond = f"; {self.other_charges} of them with charges that were not trained on" if self.other_charges else ""
        lines = [
            f"{self.molecules} molecules{beyond}, self-consistent; {self.parameters} parameters; {self.cycles:.1f} SCF "
            f"cycles and {self.seconds:.2f} s of processor time each{retries}"
        ]
        lines += [f"{row[0]:<20}" + "".join(f"{cell:>18}" for cell in row[1:]) for row in self.rows()]
        lines += [f"{len(self.failures)} SCFs failed and do not count:"] if self.failures else []
        lines += [f"  {one}" for one in self.failures[:_SHOWN]]
        return "\n".join(lines)


@dataclass(frozen=True)
class Judged:
    """What is known of one molecule. Energies in Hartree, forces in Hartree/Bohr.

    Attributes:
        base: Energy of the base functional.
        energy: Energy of the functional.
        cycles: Number of SCF cycles of the functional.
        retried: Whether its SCF needed a second attempt.
        seconds: Processor time of its SCF.
        forces: Forces of functional and base [2, n_atoms, 3], where they were asked for.
    """

    base: float
    energy: float
    cycles: int
    retried: bool
    seconds: float
    forces: NDArray[np.float64] | None


@dataclass(frozen=True)
class Judge:
    """Converges a molecule with the base functional, then with the functional; it can be sent to other processes.

    Attributes:
        functional: Functional.
        base: The same network with the weights of its base functional.
        kept: Densities of the base functional that are there already; None computes them.
        options: Options of `freeze`.
    """

    functional: FunctionalNetwork
    base: FunctionalNetwork
    kept: KeptDensities | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, item: tuple[Atoms, bool]) -> Judged:
        """Judge a structure, with forces or without; raises the errors of `freeze`."""
        from mlff_calc.electronic.scf.frozen import freeze
        from mlff_calc.electronic.scf.mean_field import forces_of

        atoms, gradient = item
        start = None if self.kept is None else self.kept.density(self.base, atoms, **self.options)
        first = None
        if start is None or gradient:
            start, first = freeze(self.base, atoms, start, **self.options)
        began = time.process_time()
        found, second = freeze(self.functional, atoms, start, **self.options)
        seconds = time.process_time() - began
        forces = np.stack([forces_of(second), forces_of(first)]) if first is not None and gradient else None
        return Judged(start.energy, found.energy, found.cycles, found.retried, seconds, forces)


@dataclass(frozen=True)
class BaseEnergy:
    """Converges a molecule with a functional alone; it can be sent to other processes.

    Attributes:
        functional: Functional.
        kept: Densities of this functional that are there already; None computes them.
        options: Options of `freeze`.
    """

    functional: FunctionalNetwork
    kept: KeptDensities | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, atoms: Atoms) -> float:
        """Return the energy of a structure, Ha."""
        from mlff_calc.electronic.scf.frozen import freeze

        if self.kept is not None:
            return self.kept.density(self.functional, atoms, **self.options).energy
        return freeze(self.functional, atoms, **self.options)[0].energy


def evaluate_functional(
    network: FunctionalNetwork,
    samples: Sequence[Sample],
    *,
    workers: int = 1,
    rivals: Sequence[Sample] = (),
    kept: KeptDensities | None = None,
    **options: Any,
) -> FunctionalReport:
    """Compare self-consistent energies of a functional with those of molecules, and forces where samples have them.

    Args:
        network: Functional.
        samples: Molecules with energies.
        workers: Number of processes.
        rivals: Molecules with the energies of the training, on which rivals are trained; none for no rivals.
        kept: Densities of the base functional that other judgements share; None computes them.
        **options: Options of `freeze`: `conv_tol` (Ha) and `max_cycle`.

    Raises:
        DatasetError: A sample is no molecule of paired electrons, has no energy, or is of another level than the training.
        UnknownElementError, OptionError: A molecule is not one for the functional.
        RecipeError: An energy is too far from that of the base functional; its unit is another one.
        EvaluationError: No SCF converges.
    """
    check_samples([*samples, *rivals])
    _check_level(network, [*samples, *rivals])
    check_elements(network.elements, samples)
    functional = network.to_precision(network.precision).cpu().eval().requires_grad_(False)
    base = build_functional(network.config | {"constants": {}}, seed=0).eval().requires_grad_(False)
    items = [(k, (sample.atoms, sample.forces is not None)) for k, sample in enumerate(samples)]

    def check(number: int, judged: Judged) -> None:
        one = samples[number]
        check_difference(float(one.energy or 0.0) / Hartree - network.constant(one.atoms.numbers), judged.base, one.place)

    found, failures = _solved(Judge(functional, base, kept, options), items, samples, workers, check)
    used = [samples[k] for k in found]
    bases = np.array([one.base for one in found.values()])
    others = {}
    if rivals:
        from mlff_calc.training.functional.rivals import rival_energies

        asked = [(k, one.atoms) for k, one in enumerate(rivals)]
        known, _ = _solved(BaseEnergy(base, kept, options), asked, rivals, workers)
        others = rival_energies([rivals[k] for k in known], np.array(list(known.values())), used, bases)
    return _report(network, used, list(found.values()), failures, others)


def _solved(
    work: Callable[[Any], Any],
    items: list[tuple[int, Any]],
    samples: Sequence[Sample],
    workers: int,
    check: Callable[[int, Any], None] = lambda number, value: None,
) -> tuple[dict[int, Any], list[str]]:
    """Results by number of sample, rising, and places and reasons of failures; raises an EvaluationError without results.

    `check` sees each result as it arrives.
    """
    from mlff_calc.datasets.labelling import outcomes
    from mlff_calc.electronic.scf.pyscf_door import one_thread

    with closing(outcomes(work, items, min(workers, len(items)), one_thread)) as found:
        done = []
        for outcome in found:
            if outcome.problem is None:
                check(outcome.number, outcome.value)
            done.append(outcome)
    done.sort(key=lambda outcome: outcome.number)
    failures = [f"{samples[one.number].place}: {one.problem}" for one in done if one.problem is not None]
    if len(failures) == len(done):
        raise EvaluationError(f"no SCF of {len(samples)} molecules converged; {failures[0]}")
    return {one.number: one.value for one in done if one.problem is None}, failures


def _check_level(network: FunctionalNetwork, samples: Sequence[Sample]) -> None:
    """Refuse energies of another level than those of the training."""
    trained = network.config["level"]
    for sample in samples:
        level = sample.atoms.info.get(LEVEL)
        if trained and level is not None and level != trained:
            raise DatasetError(
                f"{sample.place}: the energy is of the level {level!r}, and the functional was trained on {trained!r}; "
                "label the structures at that level"
            )


def _report(
    network: FunctionalNetwork,
    used: Sequence[Sample],
    found: Sequence[Judged],
    failures: list[str],
    others: Mapping[str, NDArray[np.float64]],
) -> FunctionalReport:
    wanted = np.array([float(one.energy or 0.0) / Hartree for one in used])
    bases = np.array([one.base for one in found])
    of_base = network.config["base_constants"] or network.config["constants"]
    fitted = np.array([sum(of_base.get(str(number), 0.0) for number in one.atoms.numbers) for one in used])
    energies = (np.array([one.energy for one in found]), bases + fitted, bases)
    compositions = [one.atoms.get_chemical_formula() for one in used]
    forces = [_force_error(used, found, row) for row in (0, 1, 1)]
    rows = {
        row: energy_errors(one - wanted, compositions, force)
        for row, one, force in zip(ROWS, energies, forces, strict=True)
    }
    return FunctionalReport(
        len(found),
        rows | {row: energy_errors(one - wanted, compositions) for row, one in others.items()},
        failures,
        float(np.mean([one.cycles for one in found])),
        sum(one.retried for one in found),
        float(np.mean([one.seconds for one in found])),
        sum(parameter.numel() for parameter in network.parameters()),
        sum(charge_of(one.atoms) not in network.config["charges"] for one in used),
    )


def _force_error(samples: Sequence[Sample], found: Sequence[Judged], row: int) -> float | None:
    wrong = [
        np.abs(one.forces[row] - sample.forces * (Bohr / Hartree)).ravel()
        for sample, one in zip(samples, found, strict=True)
        if one.forces is not None and sample.forces is not None
    ]
    return float(np.concatenate(wrong).mean()) if wrong else None


def energy_errors(
    wrong: NDArray[np.float64], compositions: Sequence[str], forces: float | None = None
) -> EnergyErrors:
    """Summarize errors.

    Args:
        wrong: Error of the energy of each molecule [n_molecules], Hartree.
        compositions: Composition of each molecule.
        forces: Mean absolute error of components of forces, Hartree/Bohr; None without labels.
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for formula, one in zip(compositions, wrong, strict=True):
        groups[formula].append(float(one))
    relative = np.concatenate([np.array(one) - np.mean(one) for one in groups.values()])
    rmse, largest = float(np.sqrt(np.mean(wrong**2))), float(np.abs(wrong).max())
    return EnergyErrors(float(np.abs(wrong).mean()), rmse, float(np.abs(relative).mean()), largest, forces)


def evaluate_functional_files(
    model: str | Path,
    sources: Sequence[Source],
    *,
    limit: int | None = None,
    workers: int = 1,
    rivals: Sequence[Source] = (),
) -> FunctionalReport:
    """Evaluate a functional, given by name or folder, on files of energies.

    Args:
        model: Folder of the functional, or name of a shipped one.
        sources: Files and how to read them, as in a recipe; `parse_sources` makes them.
        limit: Largest number of molecules, the first ones.
        workers: Number of processes.
        rivals: Files of the energies of the training, for rivals.

    Raises:
        PotentialFileError: The folder holds no functional.
        DatasetError: A file cannot be read, or does not fit.
    """
    network = load_functional(model)
    samples, training = (read_samples(each) if each else [] for each in (sources, rivals))
    return evaluate_functional(network, samples[: limit or len(samples)], workers=workers, rivals=training)


def read_samples(sources: Sequence[Source]) -> Sequence[Sample]:
    """Read the molecules of files; raises a DatasetError where one cannot be read."""
    return read_sources([(file, source) for source in sources for file in matching_files(source.file)])
