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

from mlff_calc.errors import SimulationError, UnknownElementError
from mlff_calc.sampling.calculators import evaluator_of, workers_for
from mlff_calc.sampling.duplicates import KCAL, MIRROR, best_rmsd, distinct
from mlff_calc.sampling.embed import number_of_conformers
from mlff_calc.sampling.ensemble import Counts, Ensemble
from mlff_calc.sampling.evaluators import Evaluator
from mlff_calc.sampling.identity import Identity
from mlff_calc.sampling.modes import SADDLE, frequencies, lowest_mode, ways_down
from mlff_calc.sampling.molecules import Molecule, MoleculeError, read_molecules
from mlff_calc.sampling.pieces import PieceStore
from mlff_calc.sampling.relax import relax_systems
from mlff_calc.sampling.search import by_dynamics, by_exchange
from mlff_calc.sampling.settings import Search
from mlff_calc.sampling.starts import starting_structures
from mlff_calc.sampling.systems import FloatArray, Systems
from mlff_calc.sampling.torsions import torsional_free_energy
from mlff_calc.sampling.weights import boltzmann_weights, rrho_free_energy

if TYPE_CHECKING:
    from rdkit.Chem import Mol

PIECE = 50
"""Number of structures that are relaxed in one batch. Raising it lowers the cost of each, and takes memory."""
ROUNDS = 3
"""Largest number of times that saddle points are looked for. Raising it follows ways that lead from one to the next."""
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
        calculator: Calculator that relaxes the structures, see `evaluator_of`.
        rescore: Another calculator, for the energies of the relaxed structures; they are ranked and weighed by it.
        charge: Total charge, for sources without bonds.
        workers: Number of processes, see `evaluator_of`, for those of `calculator` and `rescore` that are not potentials.
        precision: Precision of a potential.
        compile: Whether a potential is compiled.
        folder: Folder of finished pieces of work, from which a stopped search continues; None keeps nothing.
        on_progress: Function that is called with the name of the task, the number of finished structures and of all.
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
    for_calculator, for_rescore = workers_for(workers, calculator, rescore)
    evaluator = evaluator_of(
        calculator, charge=molecule.charge, workers=for_calculator, precision=precision, compile=compile
    )
    try:
        judge = (
            None if rescore is None
            else evaluator_of(rescore, charge=molecule.charge, workers=for_rescore, precision=precision, compile=False)
        )  # fmt: skip
        store = PieceStore.open(folder, molecule, settings, evaluator.name())
        run = _Run(molecule, evaluator, judge, settings, store, on_progress)
        try:
            return run.ensemble(_name(calculator) if rescore is None else f"{_name(rescore)}//{_name(calculator)}")
        finally:
            if judge is not None:
                judge.close()
    finally:
        evaluator.close()


def _name(calculator: Any) -> str:
    """What a calculator is called in tables."""
    if isinstance(calculator, str | Path):
        return str(calculator)
    return str(getattr(calculator, "__name__", type(calculator).__name__))


@dataclass
class _Structure:
    """A relaxed structure that still is the molecule.

    Attributes:
        positions: [n_atoms, 3] Angstrom.
        energy: Energy by the calculator that relaxed it, eV.
        fmax: Largest force, eV/Angstrom.
        converged: Whether it reached the force asked for.
        source: Origin of its initial positions.
        score: Energy by which it is ranked, eV; NaN where that calculator failed, None before it was asked.
        lowest_mode: 1/cm; None before it was looked at.
    """

    positions: FloatArray
    energy: float
    fmax: float
    converged: bool
    source: str
    score: float | None = None
    lowest_mode: float | None = None


class _Run:
    """One search."""

    def __init__(
        self,
        molecule: Molecule,
        evaluator: Evaluator,
        judge: Evaluator | None,
        settings: Search,
        store: PieceStore,
        on_progress: Callable[[str, int, int], None] | None,
    ) -> None:
        self.molecule, self.evaluator, self.judge = molecule, evaluator, judge
        self.settings, self.store = settings, store
        self.on_progress = on_progress or (lambda what, done, total: None)
        self.masses = atomic_masses[molecule.numbers]
        self.identity = Identity(molecule)
        self.found: list[_Structure] = []
        self.counts, self.problems = Counts(), Counter[str]()
        self.finished = True
        self._end = None if settings.minutes is None else time.monotonic() + 60.0 * settings.minutes
        try:
            evaluator.check(Systems.of([Atoms(molecule.numbers, np.zeros((len(molecule.numbers), 3)))])[0])
        except UnknownElementError as error:
            raise MoleculeError("element", f"{molecule.source!r}: {error}") from error

    def ensemble(self, name: str) -> Ensemble:
        """Search, then rank and weigh; `name` is that of the calculator."""
        settings = self.settings
        given = [conformer.GetPositions() for conformer in self.molecule.mol.GetConformers()]
        n = settings.n or number_of_conformers(self.molecule)
        made = starting_structures(self.molecule, n, settings.seed, settings.screen)
        starts = np.concatenate([np.array(given).reshape(-1, *made.positions.shape[1:]), made.positions])
        self.relax("relaxing", starts, ["input"] * len(given) + made.sources)
        if settings.search != "etkdg" and self.found and len(self.molecule.numbers) > 2:
            snapshots = self.snapshots()
            self.relax("relaxing snapshots", snapshots, [settings.search] * len(snapshots))
        if not self.found:
            self.give_up()
        kept = self.chosen()
        if settings.check and len(self.molecule.numbers) > 1:
            for _ in range(ROUNDS):
                if self.late() or not self.leave_saddles(kept):
                    break
                kept = self.chosen()
        return self.ranked(self.with_mirror_images(kept), name)

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

    def relax(self, what: str, starts: FloatArray, sources: list[str]) -> list[_Structure | None]:
        """Relax structures [n, n_atoms, 3] piece by piece and keep those that still are the molecule.

        Returns:
            What each became; None for what is left out. Those for which no time was left are missing at the end.
        """
        became: list[_Structure | None] = []
        for first in range(0, len(starts), PIECE):
            if first and self.late():
                break
            piece = slice(first, first + PIECE)
            found = self.store.piece("relaxed", starts[piece], self._relaxed(what, first, len(starts)))
            became += self.keep(found, sources[piece])
        return became

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

    def keep(self, piece: dict[str, Any], sources: list[str]) -> list[_Structure | None]:
        """Take in a relaxed piece: what each became."""
        tally: Counter[str] = Counter(generated=len(sources))
        became: list[_Structure | None] = [None] * len(sources)
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
            became[k] = _Structure(
                piece["positions"][k], float(piece["energies"][k]), float(piece["fmax"][k]),
                bool(piece["converged"][k]), source,
            )  # fmt: skip
        self.found += [one for one in became if one is not None]
        self.counts = replace(self.counts, **{name: getattr(self.counts, name) + n for name, n in tally.items()})
        return became

    def snapshots(self) -> FloatArray:
        """Starting structures of dynamics from the lowest structures so far."""
        settings, order = self.settings, np.argsort([one.energy for one in self.found], kind="stable")
        n = settings.n or number_of_conformers(self.molecule)
        replicas = 8
        lowest = np.array([self.found[k].positions for k in order[:replicas]])
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

        found: FloatArray = self.store.piece("snapshots", lowest, made)["positions"]
        return found

    def chosen(self) -> list[_Structure]:
        """What is found, without duplicates and without what is above the window, by rising energy of the ranking.

        Of two mirror images that both are the molecule one is left.
        """
        energies = np.array([one.energy for one in self.found])
        places = np.array([one.positions for one in self.found])
        mirror = self.identity.change(places[0] * MIRROR) is None
        numbers = distinct(self.molecule, places, energies, self.masses, self.settings.rmsd, mirror)
        kept = [self.found[k] for k in numbers]
        duplicates = self.counts.duplicates + len(self.found) - len(kept)
        self.score([one for one in kept if one.score is None])
        scores = np.array([one.score for one in kept], dtype=np.float64)
        self.found = [one for one, score in zip(kept, scores, strict=True) if np.isfinite(score)]
        if not self.found:
            raise MoleculeError("calculator", f"{self.molecule.source!r}: what rescores failed for every conformer")
        scores = scores[np.isfinite(scores)]
        inside = scores - scores.min() <= self.settings.window * KCAL
        self.counts = replace(self.counts, duplicates=duplicates, outside=int((~inside).sum()))
        return [self.found[k] for k in np.argsort(scores, kind="stable") if inside[k]]

    def score(self, structures: list[_Structure]) -> None:
        """Give structures the energies by which they are ranked."""
        if self.judge is None or not structures:
            for one in structures:
                one.score = one.energy
            return
        evaluation = self.judge(*Systems.of([Atoms(self.molecule.numbers, one.positions) for one in structures]))
        for one, energy in zip(structures, evaluation.energies, strict=True):
            one.score = float(energy)
        self.problems.update(evaluation.problems.values())
        self.counts = replace(self.counts, failed=self.counts.failed + len(evaluation.problems))

    def leave_saddles(self, kept: list[_Structure]) -> bool:
        """Relax what are saddle points among structures further, along both ways down; whether there were any.

        A saddle point stays where neither way leads to a lower structure that still is the molecule.
        """
        new = [one for one in kept if one.lowest_mode is None]
        alone = Systems.of([Atoms(self.molecule.numbers, kept[0].positions)])[0]

        def look(place: FloatArray) -> dict[str, Any]:
            mode, way = lowest_mode(alone, place, self.evaluator)
            nothing = np.zeros((0, *place.shape))
            return {"mode": mode, "starts": ways_down(alone, place, way, self.evaluator) if mode < SADDLE else nothing}

        starts: list[FloatArray] = []
        owners: list[_Structure] = []
        for number, one in enumerate(new):
            self.on_progress("looking for saddle points", number + 1, len(new))
            try:
                seen = self.store.piece("mode", one.positions, look)
            except SimulationError as error:
                self.problems[str(error)] += 1
                one.lowest_mode = float("nan")
                continue
            one.lowest_mode = float(seen["mode"])
            starts += list(seen["starts"])
            owners += [one] * len(seen["starts"])
        if not starts:
            return False
        became = self.relax("relaxing from saddle points", np.array(starts), [one.source for one in owners])
        lower = [one for one, end in zip(owners, became, strict=False) if end is not None and end.energy < one.energy]
        saddles = {id(one) for one in lower}
        self.found = [one for one in self.found if id(one) not in saddles]
        self.counts = replace(self.counts, saddles=self.counts.saddles + len(saddles))
        return bool(saddles)

    def with_mirror_images(self, kept: list[_Structure]) -> list[_Structure]:
        """Structures, and behind each its mirror image, where this is the same molecule in another shape."""
        every = []
        for one in kept:
            every.append(one)
            image = one.positions * MIRROR
            alike = best_rmsd(self.molecule, one.positions, image) <= self.settings.rmsd
            if not alike and self.identity.change(image) is None:
                every.append(replace(one, positions=image))
        self.counts = replace(self.counts, mirrored=len(every) - len(kept))
        return every

    def ranked(self, kept: list[_Structure], name: str) -> Ensemble:
        """The ensemble of what is kept."""
        settings, scores = self.settings, np.array([one.score for one in kept], dtype=np.float64)
        thermal = self.thermal(np.array([one.positions for one in kept]))
        order = np.argsort(scores if thermal is None else scores + thermal, kind="stable")
        kept, scores = [kept[k] for k in order], scores[order]
        free = None if thermal is None else scores + thermal[order]
        modes = [one.lowest_mode for one in kept]
        return Ensemble(
            molecule=self.molecule, positions=np.array([one.positions for one in kept]), energies=scores,
            weights=boltzmann_weights(scores if free is None else free, settings.temperature),
            temperature=settings.temperature, converged=np.array([one.converged for one in kept]),
            fmax=np.array([one.fmax for one in kept]), sources=[one.source for one in kept], seed=settings.seed,
            free_energies=free, weighted_by=settings.weights, calculator=name,
            lowest_modes=None if None in modes else np.array(modes, dtype=np.float64),
            counts=self.counts, problems=dict(self.problems), finished=self.finished,
        )  # fmt: skip

    def thermal(self, positions: FloatArray) -> FloatArray | None:
        """What is added to the energies of conformers [n, n_atoms, 3] for their weights, eV; None for nothing."""
        settings = self.settings
        if settings.weights == "energy":
            return None
        if settings.weights == "rrho":
            systems, joined = Systems.of([Atoms(self.molecule.numbers, place) for place in positions])
            modes = frequencies(systems, joined, self.evaluator)
            return np.array([
                rrho_free_energy(self.masses, place, found, settings.temperature)
                for place, found in zip(positions, modes, strict=True)
            ])  # fmt: skip
        return np.array([
            torsional_free_energy(self.molecule, place, self.evaluator, settings.temperature) for place in positions
        ])  # fmt: skip
