"""From relaxed structures to a weighted ensemble: one of each set of equal ones, rank, window, mirror images, weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms, units

from mlff_calc.datasets.molecules import Molecule, MoleculeError
from mlff_calc.errors import SimulationError
from mlff_calc.sampling.duplicates import KCAL, MIRROR, distinct
from mlff_calc.sampling.ensemble import Ensemble
from mlff_calc.sampling.evaluators import Evaluator
from mlff_calc.sampling.found import Found, Structure
from mlff_calc.sampling.modes import frequencies
from mlff_calc.sampling.pieces import PieceStore
from mlff_calc.sampling.settings import Search
from mlff_calc.sampling.symmetry import SYMMETRIC, best_rmsd, symmetry_number
from mlff_calc.sampling.systems import FloatArray, Systems
from mlff_calc.sampling.torsions import torsional_free_energy
from mlff_calc.sampling.weights import boltzmann_weights, rrho_free_energy


class Ranking:
    """How structures of one molecule are ranked and weighed.

    Args:
        molecule: The molecule.
        evaluator: Relaxed the structures; its forces tell free energies.
        judge: Gives energies by which they are ranked; None for those of `evaluator`.
        settings: Thresholds and weights.
        store: Keeps finished pieces of work.
        piece: Number of structures in a piece of work.
        on_progress: Called with the name of the task, the number of finished structures and of all.
    """

    def __init__(
        self,
        molecule: Molecule,
        evaluator: Evaluator,
        judge: Evaluator | None,
        settings: Search,
        store: PieceStore,
        piece: int,
        on_progress: Callable[[str, int, int], None],
    ) -> None:
        self.molecule, self.evaluator, self.judge = molecule, evaluator, judge
        self.settings, self.store, self.piece, self.on_progress = settings, store, piece, on_progress
        self.masses = molecule.masses

    def chosen(self, found: Found) -> list[Structure]:
        """What is found, without duplicates and without what is above the window, by rising energy of the ranking.

        Of two mirror images that both are the molecule one is left. Duplicates leave `found`.

        Raises:
            MoleculeError: No structure has an energy to be ranked by.
        """
        everything = found.structures
        energies = np.array([one.energy for one in everything])
        places = np.array([one.positions for one in everything])
        numbers = distinct(self.molecule, places, energies, self.masses, self.settings.rmsd, found.has_images())
        kept = [everything[k] for k in numbers]
        found.count(duplicates=len(everything) - len(kept))
        self._score([one for one in kept if one.score is None], found)
        scores = np.array([one.score for one in kept], dtype=np.float64)
        found.structures = [one for one, score in zip(kept, scores, strict=True) if np.isfinite(score)]
        if not found.structures:
            raise MoleculeError(
                "calculator", f"{self.molecule.source!r}: what rescores failed for every conformer", is_of_use=True
            )
        scores = scores[np.isfinite(scores)]
        inside = scores - scores.min() <= self.settings.window * KCAL
        found.counts = replace(found.counts, outside=int((~inside).sum()))
        return [found.structures[k] for k in np.argsort(scores, kind="stable") if inside[k]]

    def _score(self, structures: list[Structure], found: Found) -> None:
        """Give structures the energies by which they are ranked."""
        if self.judge is None:
            for one in structures:
                one.score = one.energy
            return
        judge = self.judge

        def judged(places: FloatArray) -> dict[str, Any]:
            evaluation = judge(*Systems.of([Atoms(self.molecule.numbers, place) for place in places]))
            problems = [evaluation.problems.get(k, "") for k in range(len(places))]
            return {"energies": evaluation.energies, "problems": problems}

        for first in range(0, len(structures), self.piece):
            some = structures[first : first + self.piece]
            seen = self.store.piece("energies by " + judge.name(), np.array([one.positions for one in some]), judged)
            for one, energy in zip(some, seen["energies"], strict=True):
                one.score = float(energy)
            failures = [str(text) for text in seen["problems"] if text]
            found.problems.update(failures)
            found.count(failed=len(failures))
            self.on_progress("energies for the rank", first + len(some), len(structures))

    def ensemble(self, kept: list[Structure], found: Found, name: str, *, finished: bool) -> Ensemble:
        """The weighted ensemble of what is kept; `name` is that of the calculator.

        Raises:
            MoleculeError: No structure has a free energy.
        """
        settings = self.settings
        thermal = self._thermal(kept, found)
        good = [k for k, value in enumerate(thermal) if np.isfinite(value)]
        if not good:
            raise MoleculeError(
                "calculator",
                f"{self.molecule.source!r}: no conformer has a free energy for the weights {settings.weights} "
                f"({found.problems.most_common(1)[0][0]}); weigh by energy",
                is_of_use=True,
            )
        numbers = np.array([symmetry_number(self.molecule, kept[k].positions) for k in good])
        free = np.array([kept[k].score for k in good], dtype=np.float64) + thermal[good]
        free += units.kB * settings.temperature * np.log(numbers)
        by_energy = settings.weights == "energy"
        scores = np.array([kept[k].score for k in good], dtype=np.float64)
        order = np.argsort(scores if by_energy else free, kind="stable").tolist()
        every = self._with_mirror_images([kept[good[k]] for k in order], found)
        of = np.array([order[k] for k, _ in every])
        all_of = [one for _, one in every]
        modes = [one.lowest_mode for one in all_of]
        return Ensemble(
            molecule=self.molecule, positions=np.array([one.positions for one in all_of]), energies=scores[of],
            weights=boltzmann_weights(free[of], settings.temperature), temperature=settings.temperature,
            converged=np.array([one.converged for one in all_of]), fmax=np.array([one.fmax for one in all_of]),
            sources=[one.source for one in all_of], seed=settings.seed, free_energies=None if by_energy else free[of],
            weighted_by=settings.weights, symmetry_numbers=numbers[of], calculator=name,
            lowest_modes=None if modes.count(None) == len(modes) else np.array(modes, dtype=np.float64),
            counts=found.counts, problems=dict(found.problems), outside=self._outside(all_of),
            finished=finished,
        )  # fmt: skip

    def _outside(self, structures: list[Structure]) -> list[str]:
        """What of structures potentials were not trained on."""
        systems = Systems.of([Atoms(self.molecule.numbers, one.positions) for one in structures])
        asked = [one for one in (self.evaluator, self.judge) if one is not None]
        return list(dict.fromkeys(text for one in asked for text in one.outside(*systems)))

    def _with_mirror_images(self, kept: list[Structure], found: Found) -> list[tuple[int, Structure]]:
        """Structures with their numbers, and behind each its mirror image, where this is the molecule in another shape."""
        every = []
        for number, one in enumerate(kept):
            every.append((number, one))
            alike = best_rmsd(self.molecule, one.positions, one.positions * MIRROR) <= SYMMETRIC
            image = None if alike else found.identity.image(one.positions)
            if image is not None:
                every.append((number, replace(one, positions=image)))
        found.count(mirrored=len(every) - len(kept))
        return every

    def _thermal(self, kept: list[Structure], found: Found) -> FloatArray:
        """What is added to the energies of structures [n] for their weights, eV; NaN where it cannot be known."""
        settings = self.settings
        if settings.weights == "energy":
            return np.zeros(len(kept))
        alone = Systems.of([Atoms(self.molecule.numbers, kept[0].positions, masses=self.masses)])[0]

        def made(place: FloatArray) -> dict[str, Any]:
            if settings.weights == "rrho":
                (modes,) = frequencies(alone, place, self.evaluator)
                return {"value": rrho_free_energy(self.masses, place, modes, settings.temperature)}
            return {"value": torsional_free_energy(self.molecule, place, self.evaluator, settings.temperature)}

        values = []
        for number, one in enumerate(kept):
            self.on_progress("free energies", number, len(kept))
            try:
                kind = f"free energies {settings.weights} {settings.temperature}"
                values.append(float(self.store.piece(kind, one.positions, made)["value"]))
                reason = "a free energy is not finite"
            except SimulationError as error:
                values.append(float("nan"))
                reason = str(error).partition(": ")[2]
            if not np.isfinite(values[-1]):
                found.problems[f"no free energy: {reason}"] += 1
                found.count(failed=1)
        self.on_progress("free energies", len(kept), len(kept))
        return np.array(values)
