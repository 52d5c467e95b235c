"""How a general potential does on molecules that it has not seen: errors in its own dynamics, bonds kept, conformers, time.

| figure | protocol |
|---|---|
| errors | Langevin dynamics of the potential from minima of MMFF94, at several temperatures; the reference labels frames |
| stability | share of molecules whose bonds are kept through the dynamics at each temperature |
| conformers | minima of MMFF94 relaxed by both; share of pairs within 5 kcal/mol that both put in the same order |
| time | compiled evaluations of the potential and evaluations of the reference in turns, of the same moving atoms |

Dynamics of all molecules are one batch; a molecule that is no longer plausible ends in it (`distillation/explore.py`).
Everything is kept in a folder, so that a study that was stopped goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlff_calc.datasets.molecules import MoleculeError, from_smiles
from mlff_calc.datasets.starts import structures
from mlff_calc.distillation.explore import Explored, explore
from mlff_calc.distillation.sections import ExploreSection
from mlff_calc.distillation.students import Judgement
from mlff_calc.errors import OptionError, StructureError, UnknownElementError
from mlff_calc.sampling.calculators import evaluator_of, workers_for
from mlff_calc.sampling.duplicates import KCAL
from mlff_calc.sampling.evaluators import Evaluator
from mlff_calc.sampling.pieces import PieceStore
from mlff_calc.sampling.relax import relax_systems
from mlff_calc.sampling.systems import FloatArray, Systems

TIMED = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O", "caffeine": "CN1C=NC2=C1C(=O)N(C)C(=O)N2C",
    "ibuprofen": "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "atropine": "CN1C2CCC1CC(C2)OC(=O)C(CO)c1ccccc1", "testosterone": "CC12CCC3C(CCC4=CC(=O)CCC34C)C1CCC2O",
    "cortisone": "CC12CCC(=O)C=C1CCC1C2C(=O)CC2(C)C1CCC2(O)C(=O)CO",
}  # fmt: skip
"""Molecules of 21 to 54 atoms that are timed."""
WINDOW, SAME = 5.0 * KCAL, 0.1 * KCAL
"""Largest difference of two conformers that are compared, and the smallest one that is no tie, eV."""
SPACING = 100
"""Number of steps between looks at the bonds."""


@dataclass
class UnseenStudy:
    """Settings of the study.

    Attributes:
        potential: Name or folder of the potential.
        smiles: Molecules.
        folder: Folder in which results are kept.
        reference: Name of the calculator to compare with, see `evaluator_of`.
        temperatures: Of dynamics, the lowest first, K.
        time: Length of the dynamics at the lowest temperature, ps.
        hot_time: Length of the others, ps.
        timestep: fs.
        frames: Number of labelled frames of a molecule at each temperature.
        conformers: Largest number of conformers of a molecule.
        repeats: Number of timed evaluations.
        workers: Processes of the reference.
        seed: Seed of positions, velocities and noise.
        compiled: Whether the potential is compiled.
        left_out: Reasons why molecules could not be used, by SMILES.
    """

    potential: str
    smiles: Sequence[str]
    folder: Path
    reference: str = "gfn2-xtb"
    temperatures: tuple[float, ...] = (300.0, 600.0, 1000.0)
    time: float = 20.0
    hot_time: float = 2.0
    timestep: float = 1.0
    frames: int = 4
    conformers: int = 6
    repeats: int = 30
    workers: int = 1
    seed: int = 0
    compiled: bool = True
    left_out: dict[str, str] = field(default_factory=dict)

    def run(self, on_line: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
        """Carry out the study, or the rest of it.

        Returns:
            Lists of rows: `errors` by temperature, `elements`, `sizes`, `ends`, `conformers`, `times`; reasons by SMILES:
            `left_out`.

        Raises:
            OptionError: No molecule can be used, or a calculator cannot.
        """
        evaluator = evaluator_of(self.potential, compile=self.compiled)
        workers = workers_for(self.workers, self.reference, list)[0]  # none where the reference is a potential
        reference = evaluator_of(self.reference, workers=workers)
        try:
            starts = self._starts(evaluator)
            store = PieceStore(self.folder, {
                "potential": evaluator.name(), "reference": reference.name(), "frames": self.frames, "seed": self.seed,
                "time": [self.time, self.hot_time, self.timestep],
            })  # fmt: skip
            found: dict[str, Any] = {"left_out": self.left_out, "ends": []}
            judged = []
            for temperature in self.temperatures:
                on_line(f"dynamics of {len(starts)} molecules at {temperature:g} K")
                frames, ends = self._dynamics(store, evaluator, starts, temperature)
                found["ends"].append(_ends_row(temperature, len(starts), ends))
                on_line(f"{len(frames)} labels")
                judged.append(self._errors(store, evaluator, reference, frames, temperature))
            rows = list(zip(self.temperatures, judged, strict=True))
            found["errors"] = [{"temperature": at} | _summary(each) for at, each in rows]
            found["elements"] = [row for at, each in rows for row in _by_element(at, each)]
            found["sizes"] = [row for at, each in rows for row in _by_size(at, each)]
            on_line("conformers")
            found["conformers"] = self._conformers(store, evaluator, reference)
            on_line("times")
            timed = [one for one in TIMED.items() if one[1] not in self.left_out]
            found["times"] = [self._timed(evaluator, reference, *one) for one in timed]
        finally:
            reference.close()
        return found

    def _starts(self, evaluator: Evaluator) -> list[Atoms]:
        """A structure of each molecule that can be used; why others cannot, timed ones among them, is in `left_out`."""
        found = [one for one in (self._structure(text, evaluator) for text in self.smiles) if one is not None]
        if not found:
            raise OptionError(f"none of the {len(self.smiles)} molecules can be used; the first: {self.left_out}")
        for text in TIMED.values():
            self._structure(text, evaluator)
        return found

    def _structure(self, text: str, evaluator: Evaluator) -> Atoms | None:
        """A structure of a molecule; None, with the reason in `left_out`, where it cannot be used."""
        try:
            molecule = from_smiles(text)
            if molecule.charge:
                raise MoleculeError("charge", f"{text!r} has a charge of {molecule.charge} e")
            one = structures(molecule, 1, self.seed)[0]
            evaluator.check(Systems.of([one])[0])
        except (MoleculeError, StructureError, UnknownElementError) as error:
            self.left_out[text] = str(error)
            return None
        one.info["system"] = text
        return one

    def _dynamics(
        self, store: PieceStore, evaluator: Evaluator, starts: Sequence[Atoms], temperature: float
    ) -> tuple[list[Atoms], dict[int, str]]:
        """Frames of dynamics at one temperature, and why trajectories ended."""
        length = self.time if temperature == min(self.temperatures) else self.hot_time
        steps = max(self.frames, round(1000.0 * length / self.timestep))
        every = max(1, min(SPACING, steps // self.frames))
        section = ExploreSection(temperatures=[temperature], every=every, timestep=self.timestep)
        _, positions = Systems.of(starts)

        def run(_: FloatArray) -> dict[str, Any]:
            made = explore(_Plain(evaluator), starts, section, steps, self.seed)
            kept = _spread_out(made, len(starts), self.frames)
            return {
                "numbers": np.array([atoms.info["replica"] for atoms in kept], dtype=np.int64),
                "places": np.concatenate([atoms.positions for atoms in kept] or [np.zeros((0, 3))]),
                "ended": np.array(list(made.ends), dtype=np.int64), "why": np.array(list(made.ends.values()), dtype="U60"),
            }

        held = store.piece(f"dynamics {temperature:g} {steps}", positions, run)
        frames, first = [], 0
        for number in held["numbers"].tolist():
            atoms = starts[number].copy()
            atoms.positions = held["places"][first : first + len(atoms)]
            first += len(atoms)
            frames.append(atoms)
        return frames, dict(zip(held["ended"].tolist(), held["why"].tolist(), strict=True))

    def _errors(
        self, store: PieceStore, evaluator: Evaluator, reference: Evaluator, frames: Sequence[Atoms], temperature: float
    ) -> dict[str, Any]:
        """Predictions minus labels of frames that have a label."""
        if not frames:
            return {"numbers": np.zeros(0, dtype=np.int64), "sizes": np.zeros(0, dtype=np.int64), "energies": np.zeros(0),
                    "forces": np.zeros((0, 3))}  # fmt: skip
        systems, positions = Systems.of(frames)

        def run(_: FloatArray) -> dict[str, Any]:
            made = reference(systems, positions)
            return {"energies": made.energies, "forces": made.forces}

        label, own = store.piece(f"labels {temperature:g}", positions, run), evaluator(systems, positions)
        good = np.isfinite(label["energies"]) & np.isfinite(own.energies)
        rows = good[systems.index]
        return {
            "numbers": systems.numbers[rows], "forces": (own.forces - label["forces"])[rows],
            "sizes": systems.sizes[good], "energies": (own.energies - label["energies"])[good],
        }  # fmt: skip

    def _conformers(self, store: PieceStore, evaluator: Evaluator, reference: Evaluator) -> list[dict[str, Any]]:
        """How pairs of conformers are ordered, of all molecules together."""
        groups = []
        for text in self.smiles:
            if text not in self.left_out:
                groups.append(structures(from_smiles(text), self.conformers, self.seed))
        many = [atoms for group in groups if len(group) > 1 for atoms in group]
        owner = np.repeat(np.arange(len(groups)), [len(group) if len(group) > 1 else 0 for group in groups])
        pairs, right, errors = 0, 0, []
        if many:
            systems, positions = Systems.of(many)

            def relaxed(by: Evaluator, start: FloatArray) -> dict[str, Any]:
                ends = relax_systems(systems, start, by, fmax=0.02)
                return {"places": ends.positions, "energies": ends.energies, "converged": ends.converged}

            first = store.piece("relaxed by the reference", positions, lambda start: relaxed(reference, start))
            second = store.piece("relaxed by the potential", first["places"], lambda start: relaxed(evaluator, start))
            good = first["converged"] & second["converged"]
            for group in range(len(groups)):
                for i, j in combinations(np.flatnonzero((owner == group) & good).tolist(), 2):
                    true = first["energies"][i] - first["energies"][j]
                    if SAME <= abs(true) <= WINDOW:
                        own = second["energies"][i] - second["energies"][j]
                        pairs, right = pairs + 1, right + int(own * true > 0.0)
                        errors.append(abs(own - true))
        mean = float(np.mean(errors)) / KCAL if errors else None
        return [{"pairs": pairs, "same order": right / pairs if pairs else None, "mean error": mean}]

    def _timed(self, evaluator: Evaluator, reference: Evaluator, name: str, smiles: str) -> dict[str, Any]:
        """Median times of an evaluation, in turns, of atoms that move a little each time."""
        one = structures(from_smiles(smiles), 1, self.seed)[0]
        systems, positions = Systems.of([one])
        draw = np.random.default_rng(self.seed)
        seconds: dict[str, list[float]] = {"own": [], "reference": []}
        for number in range(self.repeats + 3):
            positions = positions + draw.normal(scale=0.003, size=positions.shape)
            for who, by in (("own", evaluator), ("reference", reference)):
                began = time.perf_counter()
                by(systems, positions)
                if number >= 3:
                    seconds[who].append(time.perf_counter() - began)
        own, other = (float(np.median(seconds[who])) * 1000.0 for who in ("own", "reference"))
        return {"molecule": name, "atoms": len(one), "own": own, "reference": other, "ratio": other / own}


class _Plain:
    """A judge without spread."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    def judge(self, systems: Systems, positions: FloatArray) -> Judgement:
        """Energies and forces; those of systems that fail are not finite, which ends them."""
        found = self.evaluator(systems, positions)
        return Judgement(found.energies, found.forces, np.zeros(len(positions)))

    def fails(self, systems: Systems, positions: FloatArray) -> NDArray[np.bool_]:
        """Whether each system cannot be evaluated."""
        return ~np.isfinite(self.evaluator(systems, positions).energies)


def _spread_out(made: Explored, n_replicas: int, n: int) -> list[Atoms]:
    """Up to n frames of each trajectory, at equal distances, its last one among them."""
    kept = []
    for replica in range(n_replicas):
        own = [atoms for atoms in made.frames if atoms.info["replica"] == replica]
        places = np.unique(np.linspace(len(own) / n - 1, len(own) - 1, min(n, len(own))).round().astype(int))
        kept += [own[k] for k in places]
    return kept


def _ends_row(temperature: float, n: int, ends: dict[int, str]) -> dict[str, Any]:
    why = {reason: list(ends.values()).count(reason) for reason in sorted(set(ends.values()))}
    words = ", ".join(f"{count} {reason}" for reason, count in why.items())
    return {"temperature": temperature, "molecules": n, "whole": 1.0 - len(ends) / n, "ended": words}


def _summary(found: dict[str, Any]) -> dict[str, Any]:
    """Errors of forces (meV/Angstrom) and energies (meV/atom)."""
    forces, energies = 1000.0 * found["forces"], 1000.0 * found["energies"] / found["sizes"]
    if not len(energies):
        return {"frames": 0, "forces": None, "forces rmse": None, "energy": None}
    return {
        "frames": len(energies), "forces": float(np.abs(forces).mean()), "forces rmse": float(np.sqrt((forces**2).mean())),
        "energy": float(np.abs(energies).mean()),
    }  # fmt: skip


def _by_element(temperature: float, found: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for z in np.unique(found["numbers"]).tolist():
        own = 1000.0 * np.abs(found["forces"][found["numbers"] == z])
        row = {"temperature": temperature, "element": chemical_symbols[z], "atoms": len(own), "forces": float(own.mean())}
        rows.append(row)
    return rows


def _by_size(temperature: float, found: dict[str, Any]) -> list[dict[str, Any]]:
    rows, sizes = [], np.repeat(found["sizes"], found["sizes"])
    for low, high in ((1, 10), (11, 20), (21, 30), (31, 1000)):
        systems = (found["sizes"] >= low) & (found["sizes"] <= high)
        if systems.any():
            part = {
                "sizes": found["sizes"][systems], "energies": found["energies"][systems],
                "forces": found["forces"][(sizes >= low) & (sizes <= high)],
            }  # fmt: skip
            size = f"{low} to {high}" if high < 1000 else f"{low} and more"
            rows.append({"temperature": temperature, "size": size} | _summary(part))
    return rows
