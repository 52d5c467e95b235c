"""How a search for conformers is set up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlff_calc.errors import OptionError
from mlff_calc.near import suggestion
from mlff_calc.sampling.relax import check_relaxation
from mlff_calc.sampling.replica_exchange import geometric_ladder
from mlff_calc.sampling.search import HOT

SEARCHES = ("etkdg", "md", "exchange")
WEIGHTS = ("energy", "torsions", "rrho")
LEAST_RMSD = 0.05
"""Smallest RMSD of conformers that may count as two, Angstrom. Lowering it leaves minima in an ensemble twice."""


@dataclass(frozen=True)
class Search:
    """How conformers are searched for and judged.

    Attributes:
        n: Number of starting structures; None for a number by the molecule's flexibility.
        screen: Number of structures by distance geometry for each of them, from which MMFF94s chooses; 1 for no choice.
        search: `etkdg`, or with snapshots of hot dynamics (`md`) or replica exchange (`exchange`) from the lowest of these.
        fmax: Largest force of a relaxed structure, eV/Angstrom.
        steps: Largest number of steps of a relaxation.
        optimizer: `LBFGS` or `FIRE`.
        window: Energy above the lowest up to which conformers are kept, kcal/mol.
        rmsd: RMSD below which conformers of the same energy and rotational constants are one, Angstrom;
            `LEAST_RMSD` or more.
        temperature: Temperature of the weights, K.
        weights: `energy`; `torsions` for free energies of hindered rotors, `rrho` for those of rigid rotor and harmonic
            oscillators.
        check: Look for saddle points among what is kept, and relax them further.
        seed: Seed of everything random.
        minutes: Time after which no new piece of work begins; starting structures take half of it at most. None for no
            limit.
    """

    n: int | None = None
    screen: int = 5
    search: str = "etkdg"
    fmax: float = 0.02
    steps: int = 500
    optimizer: str = "LBFGS"
    window: float = 6.0
    rmsd: float = 0.125
    temperature: float = 298.15
    weights: str = "energy"
    check: bool = True
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
        if self.screen < 1:
            raise OptionError(f"screen is {self.screen}; give 1 or more structures for each start")
        if not self.rmsd >= LEAST_RMSD:
            raise OptionError(
                f"rmsd is {self.rmsd} Angstrom; give {LEAST_RMSD} or more, as relaxations to one minimum end no closer"
            )
        check_relaxation(self.fmax, self.steps, self.optimizer)
        if self.search == "exchange":
            geometric_ladder(self.temperature, HOT, 2)
