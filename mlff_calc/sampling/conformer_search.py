"""From a molecule to its weighted ensemble: generate, relax, check, remove duplicates, rank, weigh.

Structures are relaxed in pieces of `PIECE`, always the same ones, so that results depend neither on workers nor on an
interruption; what a piece gave is kept in a folder, where one is given, and not computed again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses

from mlff_calc.errors import OptionError, UnknownElementError
from mlff_calc.near import suggestion
from mlff_calc.sampling.calculators import evaluator_of
from mlff_calc.sampling.duplicates import KCAL, distinct
from mlff_calc.sampling.embed import embed, number_of_conformers
from mlff_calc.sampling.ensemble import Counts, Ensemble
from mlff_calc.sampling.evaluators import Evaluator
from mlff_calc.sampling.identity import Identity
from mlff_calc.sampling.molecules import Molecule, MoleculeError, read_molecules
from mlff_calc.sampling.pieces import PieceStore
from mlff_calc.sampling.relax import relax_systems
from mlff_calc.sampling.search import by_dynamics, by_exchange
from mlff_calc.sampling.systems import FloatArray, Systems
from mlff_calc.sampling.weights import boltzmann_weights, frequencies, rrho_free_energy

if TYPE_CHECKING:
    from rdkit.Chem import Mol

PIECE = 50
"""Number of structures that are relaxed in one batch. Raising it lowers the cost of each, and takes memory."""
SEARCHES = ("etkdg", "md", "exchange")
WEIGHTS = ("energy", "rrho")


@dataclass(frozen=True)
class Search:
    """How conformers are searched for and judged.

    Attributes:
        n: Number of starting structures by distance geometry; None for a number by the molecule's flexibility.
        search: `etkdg`, or with snapshots of hot dynamics (`md`) or replica exchange (`exchange`) from the lowest of these.
        fmax: Largest force of a relaxed structure, eV/Angstrom.
        steps: Largest number of steps of a relaxation.
        optimizer: `LBFGS` or `FIRE`.
        window: Energy above the lowest up to which conformers are kept, kcal/mol.
        rmsd: RMSD below which conformers of the same energy and rotational constants are one, Angstrom.
        temperature: Temperature of the weights, K.
        weights: `energy`, or `rrho` for free energies of rigid rotor and harmonic oscillators.
        seed: Seed of everything random.
        minutes: Time after which no new piece of work begins; None for no limit.
    """

    n: int | None = None
    search: str = "etkdg"
    fmax: float = 0.02
    steps: int = 500
    optimizer: str = "LBFGS"
    window: float = 6.0
    rmsd: float = 0.125
    temperature: float = 298.15
    weights: str = "energy"
    seed: int = 0
    minutes: float | None = None

    def __post_init__(self) -> None:
        for name, value, choices in (("search", self.search, SEARCHES), ("weights", self.weights, WEIGHTS)):
            if value not in choices:
                hint = suggestion(value, choices, after=" ")
                raise OptionError(f"unknown {name} {value!r}: {hint}choose {', '.join(choices)}")
        positive = {"fmax": self.fmax, "window": self.window, "temperature": self.temperature}
        if self.minutes is not None:
            positive["minutes"] = self.minutes
        for name, number in positive.items():
            if not (np.isfinite(number) and number > 0.0):
                raise OptionError(f"{name} is {number}; give a positive number")
        if self.n is not None and self.n < 1:
            raise OptionError(f"n is {self.n}; give 1 or more starting structures")


def conformers(
    source: str | Path | Atoms | Mol | Molecule,
    calculator: Any,
    *,
    rescore: Any = None,
    charge: int = 0,
    workers: int = 0,
    precision: str = "float32",
    compile: bool = False,
    folder: Path | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
    **options: Any,
) -> Ensemble:
    """The weighted ensemble of conformers of one molecule.

    Args:
        source: SMILES, path, ASE's atoms or RDKit's molecule, see `read_molecules`; of several molecules the first is
            an error.
        calculator: See `evaluator_of`.
        rescore: Another calculator, for the energies of the relaxed structures; they are ranked and weighed by it.
        charge: Total charge, for sources without bonds.
        workers: See `evaluator_of`.
        precision: Precision of a potential.
        compile: Whether a potential is compiled.
        folder: Where pieces of work are kept, so that a search that was stopped goes on; None keeps nothing.
        on_progress: Called with what is done, and how many of how many structures.
        **options: Fields of `Search`.

    Returns:
        At least one conformer.

    Raises:
        MoleculeError: There is no ensemble; `reason` says why.
        OptionError: An option that cannot be honoured.
    """
    settings = Search(**options)
    if isinstance(source, Molecule):
        molecule = source
    else:
        found = read_molecules(source, charge)
        if len(found) > 1:
            raise MoleculeError("mixture", f"{source}: holds {len(found)} molecules; give them one by one")
        molecule = found[0]
    evaluator = evaluator_of(
        calculator, charge=molecule.charge, workers=workers, precision=precision, compile=compile
    )
    try:
        judge = (
            None if rescore is None
            else evaluator_of(rescore, charge=molecule.charge, workers=workers, precision=precision, compile=False)
        )  # fmt: skip
        run = _Run(molecule, evaluator, settings, PieceStore.open(folder, molecule, settings, evaluator.name()), on_progress)
        try:
            return run.ensemble(_name(calculator), judge, None if rescore is None else _name(rescore))
        finally:
            if judge is not None:
                judge.close()
    finally:
        evaluator.close()


def _name(calculator: Any) -> str:
    """What a calculator is called in tables."""
    return str(calculator) if isinstance(calculator, str | Path) else type(calculator).__name__


@dataclass
class _Found:
    """Relaxed structures so far."""

    positions: list[FloatArray]
    energies: list[float]
    fmax: list[float]
    converged: list[bool]
    sources: list[str]


class _Run:
    """One search."""

    def __init__(
        self,
        molecule: Molecule,
        evaluator: Evaluator,
        settings: Search,
        store: PieceStore,
        on_progress: Callable[[str, int, int], None] | None,
    ) -> None:
        self.molecule, self.evaluator, self.settings, self.store = molecule, evaluator, settings, store
        self.on_progress = on_progress or (lambda what, done, total: None)
        self.masses = atomic_masses[molecule.numbers]
        self.identity = Identity(molecule)
        self.found = _Found([], [], [], [], [])
        self.counts, self.problems = Counts(), Counter[str]()
        self.finished = True
        self._end = None if settings.minutes is None else time.monotonic() + 60.0 * settings.minutes
        try:
            evaluator.check(Systems.of([Atoms(molecule.numbers, np.zeros((len(molecule.numbers), 3)))])[0])
        except UnknownElementError as error:
            raise MoleculeError("element", f"{molecule.source!r}: {error}") from error

    def ensemble(self, name: str, judge: Evaluator | None, judge_name: str | None) -> Ensemble:
        """Search, then rank and weigh."""
        settings = self.settings
        given = [conformer.GetPositions() for conformer in self.molecule.mol.GetConformers()]
        made = embed(self.molecule, settings.n or number_of_conformers(self.molecule), settings.seed)
        starts = np.concatenate([np.array(given).reshape(-1, *made.positions.shape[1:]), made.positions])
        self.relax("relaxing", starts, ["input"] * len(given) + [made.rung] * len(made.positions))
        if settings.search != "etkdg" and self.found.energies and len(self.molecule.numbers) > 2:
            self.relax("relaxing snapshots", self.snapshots(), None)
        if not self.found.energies:
            self.give_up()
        return self.ranked(name, judge, judge_name)

    def give_up(self) -> None:
        """Say why there is no ensemble."""
        reason = "reacted" if self.counts.changed >= max(1, self.counts.failed) else "calculator"
        what = {"reacted": "changed its bonds or stereo", "calculator": "failed"}[reason]
        text, _ = self.problems.most_common(1)[0] if self.problems else ("no time was left", 0)
        raise MoleculeError(
            reason,
            f"{self.molecule.source!r}: every one of {self.counts.generated} structures {what} ({text}); check the "
            "molecule's charge and stereo, or use another calculator",
        )

    def late(self) -> bool:
        """Whether the budget of time is used up."""
        if self._end is not None and time.monotonic() > self._end:
            self.finished = False
        return not self.finished

    def relax(self, what: str, starts: FloatArray, sources: list[str] | None) -> None:
        """Relax structures [n, n_atoms, 3] piece by piece and keep those that still are the molecule."""
        names = sources or [self.settings.search] * len(starts)
        for first in range(0, len(starts), PIECE):
            if first and self.late():
                return
            piece = slice(first, first + PIECE)
            self.keep(self.store.piece(starts[piece], self._relaxed(what, first, len(starts))), names[piece])

    def _relaxed(self, what: str, first: int, total: int) -> Callable[[FloatArray], dict[str, Any]]:
        """A function that relaxes one piece."""

        def relaxed(starts: FloatArray) -> dict[str, Any]:
            systems, positions = Systems.of([Atoms(self.molecule.numbers, place) for place in starts])

            def report(_: int, running: int) -> None:
                self.on_progress(what, first + len(starts) - running, total)

            ends = relax_systems(
                systems, positions, self.evaluator, fmax=self.settings.fmax, steps=self.settings.steps,
                optimizer=self.settings.optimizer, on_step=report,
            )  # fmt: skip
            return {
                "positions": ends.positions.reshape(starts.shape), "energies": ends.energies, "fmax": ends.fmax,
                "converged": ends.converged, "problems": [ends.problems.get(k, "") for k in range(len(starts))],
            }  # fmt: skip

        return relaxed

    def keep(self, piece: dict[str, Any], sources: list[str]) -> None:
        """Take in a relaxed piece."""
        tally: Counter[str] = Counter(generated=len(sources))
        for k, source in enumerate(sources):
            if piece["problems"][k]:
                tally["failed"] += 1
                self.problems[piece["problems"][k].partition(": ")[2]] += 1
                continue
            change = self.identity.change(piece["positions"][k])
            if change is not None:
                tally["changed"] += 1
                self.problems[change] += 1
                continue
            tally["unconverged"] += not piece["converged"][k]
            self.found.positions.append(piece["positions"][k])
            self.found.energies.append(float(piece["energies"][k]))
            self.found.fmax.append(float(piece["fmax"][k]))
            self.found.converged.append(bool(piece["converged"][k]))
            self.found.sources.append(source)
        self.counts = replace(self.counts, **{name: getattr(self.counts, name) + n for name, n in tally.items()})

    def snapshots(self) -> FloatArray:
        """Starting structures of dynamics from the lowest structures so far."""
        settings, order = self.settings, np.argsort(self.found.energies, kind="stable")
        n = settings.n or number_of_conformers(self.molecule)
        replicas = 8
        lowest = np.array([self.found.positions[k] for k in order[:replicas]])
        looks = max(1, -(-n // replicas))

        def report(number: int) -> None:
            self.on_progress("dynamics", number + 1, looks)

        def made(_: FloatArray) -> dict[str, Any]:
            if settings.search == "md":
                starts = np.resize(lowest, (replicas, *lowest.shape[1:]))
                found = by_dynamics(
                    self.molecule, starts, self.evaluator, n_snapshots=looks, seed=settings.seed, on_snapshot=report
                )
            else:
                found = by_exchange(
                    self.molecule, lowest[0], self.evaluator, temperature=settings.temperature, n_replicas=replicas,
                    n_snapshots=looks, seed=settings.seed, on_snapshot=report,
                )  # fmt: skip
            return {"positions": found}

        found: FloatArray = self.store.piece(lowest, made)["positions"]
        return found

    def ranked(self, name: str, judge: Evaluator | None, judge_name: str | None) -> Ensemble:
        """The ensemble of what was found."""
        settings = self.settings
        positions, energies = np.array(self.found.positions), np.array(self.found.energies)
        fmax, converged = np.array(self.found.fmax), np.array(self.found.converged)
        kept = distinct(self.molecule, positions, energies, self.masses, settings.rmsd)
        duplicates = len(energies) - len(kept)
        systems, joined = Systems.of([Atoms(self.molecule.numbers, positions[k]) for k in kept])
        scores = energies[kept]
        if judge is not None:
            evaluation = judge(systems, joined)
            scores, good = evaluation.energies, np.isfinite(evaluation.energies)
            self.problems.update(evaluation.problems.values())
            self.counts = replace(self.counts, failed=self.counts.failed + int((~good).sum()))
            if not good.any():
                raise MoleculeError("calculator", f"{self.molecule.source!r}: {judge_name} failed for every conformer")
            kept, scores = kept[good], scores[good]
            systems, joined = Systems.of([Atoms(self.molecule.numbers, positions[k]) for k in kept])
        inside = scores - scores.min() <= settings.window * KCAL
        outside = int((~inside).sum())
        kept, scores = kept[inside], scores[inside]
        free = None
        if settings.weights == "rrho":
            free = scores + self._thermal(positions[kept])
        order = np.argsort(scores if free is None else free, kind="stable")
        kept, scores, free = kept[order], scores[order], None if free is None else free[order]
        return Ensemble(
            molecule=self.molecule, positions=positions[kept], energies=scores,
            weights=boltzmann_weights(scores if free is None else free, settings.temperature),
            temperature=settings.temperature, converged=converged[kept], fmax=fmax[kept],
            sources=[self.found.sources[k] for k in kept], seed=settings.seed, free_energies=free,
            calculator=name if judge_name is None else f"{judge_name}//{name}",
            counts=replace(self.counts, duplicates=duplicates, outside=outside),
            problems=dict(self.problems), finished=self.finished,
        )  # fmt: skip

    def _thermal(self, positions: FloatArray) -> FloatArray:
        """Free energies of vibrations and rotation of conformers [n, n_atoms, 3], eV."""
        systems, joined = Systems.of([Atoms(self.molecule.numbers, place) for place in positions])
        modes = frequencies(systems, joined, self.evaluator)
        return np.array([
            rrho_free_energy(self.masses, place, found, self.settings.temperature)
            for place, found in zip(positions, modes, strict=True)
        ])  # fmt: skip
