"""Structures that a search has found, and what became of the others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from mlff_calc.datasets.molecules import Molecule, MoleculeError
from mlff_calc.sampling.ensemble import Counts
from mlff_calc.sampling.identity import Identity
from mlff_calc.sampling.systems import FloatArray


@dataclass(eq=False)
class Structure:
    """A relaxed structure that still is the molecule.

    Attributes:
        positions: [n_atoms, 3] Angstrom.
        energy: Energy by the calculator that relaxed it, eV.
        fmax: Largest force, eV/Angstrom.
        converged: Whether it reached the force asked for.
        source: Origin of its initial positions.
        score: Energy by which it is ranked, eV; NaN where that calculator failed, None before it was asked.
        lowest_mode: 1/cm; None before it was looked at.
        is_settled: Whether its minimum is known more closely than was asked for.
    """

    positions: FloatArray
    energy: float
    fmax: float
    converged: bool
    source: str
    score: float | None = None
    lowest_mode: float | None = None
    is_settled: bool = False


class Found:
    """Structures, numbers of those that were left out, and the reasons.

    Args:
        molecule: What structures must be.

    Attributes:
        structures: Structures so far.
        counts: Numbers by outcome.
        problems: Number of structures by reason of a failure or change.
    """

    def __init__(self, molecule: Molecule) -> None:
        self.molecule, self.identity = molecule, Identity(molecule)
        self.structures: list[Structure] = []
        self.counts, self.problems = Counts(), Counter[str]()

    def count(self, **more: int) -> None:
        """Raise numbers of `counts`."""
        self.counts = replace(self.counts, **{name: getattr(self.counts, name) + n for name, n in more.items()})

    def take(self, piece: dict[str, Any], sources: list[str]) -> list[Structure | None]:
        """Take in relaxed structures; what each became, None for what is left out.

        Args:
            piece: Arrays `positions` [n, n_atoms, 3], `energies`, `fmax`, `converged` and `problems` [n], which are empty
                texts where there was none.
            sources: Origins [n].
        """
        tally: Counter[str] = Counter()
        became: list[Structure | None] = [None] * len(sources)
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
            became[k] = Structure(
                piece["positions"][k], float(piece["energies"][k]), float(piece["fmax"][k]),
                bool(piece["converged"][k]), source,
            )  # fmt: skip
        self.structures += [one for one in became if one is not None]
        self.count(**tally)
        return became

    def has_images(self) -> bool:
        """Whether mirror images of the structures are the same molecule."""
        return bool(self.structures) and self.identity.image(self.structures[0].positions) is not None

    def _has_acid_and_base(self) -> bool:
        """Whether there are an atom with a positive charge and hydrogens, and one with a negative charge."""
        atoms = list(self.molecule.mol.GetAtoms())
        acid = any(atom.GetFormalCharge() > 0 and atom.GetTotalNumHs(includeNeighbors=True) for atom in atoms)
        return acid and any(atom.GetFormalCharge() < 0 for atom in atoms)

    def lost(self) -> MoleculeError:
        """Why there is no ensemble."""
        reason = "reacted" if self.counts.changed >= max(1, self.counts.failed) else "calculator"
        what, advice = {
            "reacted": ("changed its bonds or stereo", "check the molecule's charge and stereo, or use another calculator"),
            "calculator": ("failed", "see that the calculator works for one structure of this molecule, or use another one"),
        }[reason]
        if reason == "reacted" and self._has_acid_and_base():
            advice = "a zwitterion passes its proton on where no solvent keeps it: give the form without charges"
        text = self.problems.most_common(1)[0][0]
        return MoleculeError(
            reason,
            f"{self.molecule.source!r}: every one of {self.counts.generated} structures {what} ({text}); {advice}",
        )
