"""From a molecule to its weighted ensemble: generate, relax, check, remove duplicates, rank, weigh.

Structures are relaxed in pieces, always the same ones, so that results depend neither on workers nor on an interruption;
what a piece gave is kept in a folder, where one is given, and not computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from mlff_calc.clock import Clock
from mlff_calc.datasets.embed import number_of_conformers
from mlff_calc.datasets.molecules import Molecule, MoleculeError, read_molecules
from mlff_calc.errors import SimulationError, UnknownElementError
from mlff_calc.sampling.calculators import evaluator_of, workers_for
from mlff_calc.sampling.duplicates import distinct, nearly_alike
from mlff_calc.sampling.ensemble import Ensemble
from mlff_calc.sampling.evaluators import BatchedPotential, Evaluator
from mlff_calc.sampling.found import Found, Structure
from mlff_calc.sampling.modes import SADDLE, lowest_mode, ways_down
from mlff_calc.sampling.pieces import PieceStore
from mlff_calc.sampling.ranking import Ranking
from mlff_calc.sampling.relax import relax_systems
from mlff_calc.sampling.search import by_dynamics, by_exchange
from mlff_calc.sampling.settings import Search
from mlff_calc.sampling.starts import starting_structures
from mlff_calc.sampling.systems import FloatArray, Systems

if TYPE_CHECKING:
    from rdkit.Chem import Mol

PIECE, SLOW_PIECE = 50, 16
"""Numbers of structures that are relaxed in one batch by a potential, and by other calculators. Raising the first lowers the
cost of each structure, and takes memory; raising the second loses more work where a search is stopped."""
REPLICAS = 8
"""Number of replicas of searches by dynamics. Raising it starts from more conformers."""
ROUNDS = 3
"""Largest number of times that saddle points are looked for. Raising it follows ways that lead from one to the next."""
TIGHT = 0.1
"""Factor of `fmax` to which structures that are nearly alike are relaxed. Raising it leaves minima in an ensemble twice."""


def conformers(
    source: str | Path | Atoms | Mol | Molecule,
    calculator: Any,
    *,
    rescore: Any = None,
    charge: int = 0,
    workers: int = 0,
    timeout: float = 600.0,
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
        timeout: Seconds that a calculator in one of these processes has for one structure.
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
        calculator, charge=molecule.charge, workers=for_calculator, timeout=timeout, precision=precision, compile=compile
    )
    try:
        judge = (
            None if rescore is None
            else evaluator_of(rescore, charge=molecule.charge, workers=for_rescore, timeout=timeout, precision=precision)
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
        self.molecule, self.evaluator = molecule, evaluator
        self.settings, self.store = settings, store
        self.on_progress = on_progress or (lambda what, done, total: None)
        self.piece = PIECE if isinstance(evaluator, BatchedPotential) else SLOW_PIECE
        self.found = Found(molecule)
        self.ranking = Ranking(molecule, evaluator, judge, settings, store, self.piece, self.on_progress)
        self.finished = True
        self.clock = Clock(settings.minutes)
        for one in (evaluator, judge):
            try:
                if one is not None:
                    one.check(self.systems(np.zeros((1, len(molecule.numbers), 3)))[0])
            except UnknownElementError as error:
                raise MoleculeError("element", f"{molecule.source!r}: {error}") from error

    def systems(self, places: FloatArray) -> tuple[Systems, FloatArray]:
        """Copies of the molecule at places [n, n_atoms, 3]."""
        return Systems.of([Atoms(self.molecule.numbers, place) for place in places])

    def ensemble(self, name: str) -> Ensemble:
        """Search, then rank and weigh; `name` is that of the calculator."""
        settings, found = self.settings, self.found
        given = [conformer.GetPositions() for conformer in self.molecule.mol.GetConformers()]
        n = settings.n or number_of_conformers(self.molecule)
        starts, sources = np.array(given).reshape(-1, len(self.molecule.numbers), 3), ["input"] * len(given)
        try:
            made = starting_structures(
                self.molecule, n, settings.seed, settings.screen, self.on_progress, self.clock
            )
            starts, sources = np.concatenate([starts, made.positions]), sources + made.sources
            self.finished = made.is_whole
        except MoleculeError as error:
            if error.reason != "time" or not given:
                raise
            self.finished = False
        self.relax("relaxing", starts, sources)
        if settings.search != "etkdg" and found.structures and len(self.molecule.numbers) > 2 and not self.late():
            snapshots = self.snapshots(n)
            self.relax("relaxing snapshots", snapshots, [settings.search] * len(snapshots))
        if not found.structures:
            raise found.lost()
        kept = self.settled()
        if settings.check and len(self.molecule.numbers) > 1:
            for _ in range(ROUNDS):
                if self.late() or not self.leave_saddles(kept):
                    break
                kept = self.settled()
            else:
                self.ways_from_saddles(kept)  # what is new is looked at, so that its mode is told
        return self.ranking.ensemble(kept, found, name, finished=self.finished)

    def late(self) -> bool:
        """Whether the budget of time is used up, so that the search does not come to its end."""
        late = self.clock.late()
        self.finished = self.finished and not late
        return late

    def relax(
        self, what: str, starts: FloatArray, sources: list[str], tight: float = 1.0
    ) -> list[Structure | None]:
        """Relax structures [n, n_atoms, 3] to `tight` times `fmax`, piece by piece, and keep those that are the molecule.

        Returns:
            What each became; None for what is left out. Those for which no time was left are missing at the end.
        """
        became: list[Structure | None] = []
        for first in range(0, len(starts), self.piece):
            if self.found.counts.generated and self.late():
                break
            piece = slice(first, first + self.piece)
            relaxed = self.relaxed(what, first, len(starts), tight * self.settings.fmax)
            self.found.count(generated=len(starts[piece]))
            kind = "relaxed" if tight == 1.0 else "relaxed further"
            became += self.found.take(self.store.piece(kind, starts[piece], relaxed), sources[piece])
        return became

    def relaxed(self, what: str, first: int, total: int, fmax: float) -> Callable[[FloatArray], dict[str, Any]]:
        """A function that relaxes one piece to forces of `fmax` (eV/Angstrom)."""
        settings = self.settings

        def made(starts: FloatArray) -> dict[str, Any]:
            def report(_: int, running: int) -> None:
                self.on_progress(what, first + len(starts) - running, total)

            ends = relax_systems(
                *self.systems(starts), self.evaluator, fmax=fmax, steps=settings.steps, optimizer=settings.optimizer,
                on_step=report,
            )  # fmt: skip
            return {
                "positions": ends.positions.reshape(starts.shape), "energies": ends.energies, "fmax": ends.fmax,
                "converged": ends.fmax <= settings.fmax, "problems": [ends.problems.get(k, "") for k in range(len(starts))],
            }  # fmt: skip

        return made

    def snapshots(self, n: int) -> FloatArray:
        """About `n` starting structures of dynamics from the lowest structures so far, which differ."""
        settings, found = self.settings, self.found
        energies = np.array([one.energy for one in found.structures])
        places = np.array([one.positions for one in found.structures])
        order = distinct(self.molecule, places, energies, self.ranking.masses, settings.rmsd, found.has_images())
        lowest, looks = places[order[:REPLICAS]], max(1, -(-n // REPLICAS))

        def report(number: int) -> None:
            self.on_progress("dynamics", number + 1, looks)

        def made(_: FloatArray) -> dict[str, Any]:
            if settings.search == "md":
                starts = np.resize(lowest, (REPLICAS, *lowest.shape[1:]))
                shapes = by_dynamics(
                    self.molecule, starts, self.evaluator, n_snapshots=looks, seed=settings.seed, on_snapshot=report
                )
            else:
                shapes = by_exchange(
                    self.molecule, lowest[0], self.evaluator, temperature=settings.temperature, n_replicas=REPLICAS,
                    n_snapshots=looks, seed=settings.seed, on_snapshot=report,
                )  # fmt: skip
            return {"positions": shapes}

        try:
            shapes: FloatArray = self.store.piece("snapshots", lowest, made)["positions"]
        except SimulationError as error:  # what is relaxed so far is not lost by it
            found.problems[f"dynamics gave no structures: {error}"] += 1
            return places[:0]
        return shapes

    def settled(self) -> list[Structure]:
        """What is kept, after those that are nearly alike were relaxed further.

        Where the energy is flat, relaxations to `fmax` end on different sides of one minimum, so that one conformer would
        count twice.
        """
        kept = self.ranking.chosen(self.found)
        places = np.array([one.positions for one in kept])
        energies = np.array([one.energy for one in kept])
        near = nearly_alike(self.molecule, places, energies, self.settings.rmsd, self.found.has_images())
        doubtful = [kept[k] for k in near if not kept[k].is_settled]
        if not doubtful or self.late():
            return kept
        for first in range(0, len(doubtful), self.piece):
            some = doubtful[first : first + self.piece]
            relaxed = self.relaxed("relaxing what is nearly alike", first, len(doubtful), TIGHT * self.settings.fmax)
            ends = self.store.piece("relaxed further", np.array([one.positions for one in some]), relaxed)
            became = self.found.take(ends, [one.source for one in some])
            for one, end, problem in zip(some, became, ends["problems"], strict=True):
                (one if end is None else end).is_settled = True
                if not problem:  # what could not be relaxed further stays as it was
                    self.found.structures.remove(one)
        if not self.found.structures:
            raise self.found.lost()
        return self.ranking.chosen(self.found)

    def leave_saddles(self, kept: list[Structure]) -> bool:
        """Relax what are saddle points among structures further, along both ways down; whether there were any.

        A saddle point stays where neither way leads to a lower structure that still is the molecule. The ways are relaxed
        closely: near the top of a low barrier forces are below `fmax` everywhere, and a relaxation would not leave it.
        """
        starts, owners = self.ways_from_saddles(kept)
        if not starts:
            return False
        became = self.relax("relaxing from saddle points", np.array(starts), [one.source for one in owners], TIGHT)
        lower = [one for one, end in zip(owners, became, strict=False) if end is not None and end.energy < one.energy]
        saddles = {id(one) for one in lower}
        self.found.structures = [one for one in self.found.structures if id(one) not in saddles]
        self.found.count(saddles=len(saddles))
        return bool(saddles)

    def ways_from_saddles(self, kept: list[Structure]) -> tuple[list[FloatArray], list[Structure]]:
        """Look at the softest modes of structures that are new; both ways down from saddle points, and whose they are."""
        new = [one for one in kept if one.lowest_mode is None]
        alone = self.systems(kept[0].positions[None])[0]

        def look(place: FloatArray) -> dict[str, Any]:
            mode, way = lowest_mode(alone, place, self.evaluator)
            nothing = np.zeros((0, *place.shape))
            return {"mode": mode, "starts": ways_down(alone, place, way, self.evaluator) if mode < SADDLE else nothing}

        starts: list[FloatArray] = []
        owners: list[Structure] = []
        for number, one in enumerate(new):
            self.on_progress("looking for saddle points", number + 1, len(new))
            one.lowest_mode = float("nan")
            if self.late():
                continue
            try:
                seen = self.store.piece("mode", one.positions, look)
            except SimulationError as error:
                self.found.problems[str(error)] += 1
                continue
            one.lowest_mode = float(seen["mode"])
            starts += list(seen["starts"])
            owners += [one] * len(seen["starts"])
        return starts, owners
