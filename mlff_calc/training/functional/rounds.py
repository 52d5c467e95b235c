"""Rounds of self-consistent densities, kept in the folder of a run.

densities/ROUND/FRAME.safetensors   the frozen density of a frame, see `FrozenDensity`
densities/ROUND/weights.txt         SHA-256 of the weights that the round began with
densities/rounds.json               what each refresh changed
densities/base_energies.json        energies of all frames with the base functional, Ha

A round that was interrupted goes on where it was, if it has the same weights. The round before is kept as well, since a
run that is resumed may go back to it.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_calc.bounded import parse_json, read_text
from mlff_calc.electronic.functional import FunctionalNetwork
from mlff_calc.errors import MLFFError, TrainingError
from mlff_calc.networks.files import checksum
from mlff_calc.training.functional.recipe import DensitySection
from mlff_calc.whole_files import write_whole

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_calc.electronic.scf.frozen import FrozenDensity
    from mlff_calc.electronic.scf.kept_densities import KeptDensities

logger = logging.getLogger(__name__)
_MILLI = 1e3


@dataclass(frozen=True)
class RoundReport:
    """What a refresh of the densities did.

    Attributes:
        round: Number of the round, from 0, which has the densities of the base functional.
        frames: Number of frames.
        cycles: Mean number of SCF cycles of a frame.
        retries: Number of frames that needed a second attempt.
        kept: Number of frames that did not converge and keep their density of the round before.
        jump: Mean absolute change of energies by the refresh at fixed weights, mHa; None in the first round. This is the
            error of the training at frozen densities.
        largest_jump: Largest such change, mHa.
    """

    round: int
    frames: int
    cycles: float
    retries: int
    kept: int
    jump: float | None
    largest_jump: float | None

    def __str__(self) -> str:
        words = f"densities of round {self.round}: {self.frames} frames, {self.cycles:.1f} SCF cycles each"
        if self.jump is not None:
            words += f", energies moved by {self.jump:.3g} mHa (at most {self.largest_jump:.3g})"
        words += f", {self.retries} second attempts" if self.retries else ""
        return words + (f", {self.kept} kept their densities of the round before" if self.kept else "")


@dataclass(frozen=True)
class Refresh:
    """Converges frames and writes their densities to a folder; it can be sent to other processes.

    Attributes:
        functional: Functional.
        section: Thresholds.
        folder: Folder of the round.
        before: Folder of the round before; None for the first one.
        kept: Densities of the base functional, which the first round takes; None computes them.
    """

    functional: FunctionalNetwork
    section: DensitySection
    folder: Path
    before: Path | None
    kept: KeptDensities | None = None

    def __call__(self, item: tuple[int, Atoms]) -> float:
        """Converge a frame, given by its number and structure, and return its energy, Ha."""
        from mlff_calc.electronic.scf.frozen import FrozenDensity, freeze

        number, atoms = item
        start = None if self.before is None else FrozenDensity.load(density_path(self.before, number))
        options: dict[str, Any] = {"conv_tol": self.section.conv_tol, "max_cycle": self.section.max_cycle}
        if start is None and self.kept is not None:
            found = self.kept.density(self.functional, atoms, **options)
        else:
            found, _ = freeze(self.functional, atoms, start, **options)
        found.save(density_path(self.folder, number))
        return found.energy


def density_path(folder: Path, number: int) -> Path:
    """Return the path of the density of a frame."""
    return folder / f"{number:06d}.safetensors"


class DensityRounds:
    """The rounds of a run.

    Args:
        functional: Functional that is trained in place.
        structures: Structures of all frames, training frames first.
        places: Their places, for messages.
        section: Refreshes, processes and thresholds.
        kept: Densities of the base functional that other trainings share; None computes them for this one.

    Attributes:
        round: Number of the present round; -1 before the first one.
    """

    def __init__(
        self,
        functional: FunctionalNetwork,
        structures: Sequence[Atoms],
        places: Sequence[str],
        section: DensitySection,
        kept: KeptDensities | None = None,
    ) -> None:
        self.functional, self.structures, self.places, self.section = functional, structures, places, section
        self._kept = kept
        self.round = -1
        self._folder = Path()

    def begin(self, folder: Path, check: Callable[[int, float], None]) -> list[float]:
        """Set the folder of the densities, and make those of the base functional, which untrained weights are.

        Args:
            folder: Folder of the densities.
            check: Called with number and energy (Ha) of each frame that was converged now.

        Returns:
            The energies of all frames with the base functional, Ha. Those that are known from an earlier start of this run
            are read.

        Raises:
            TrainingError: A frame does not converge.
            OptionError: PySCF is not installed, or does not know the basis.
        """
        self._folder, known = folder, folder / "base_energies.json"
        if known.is_file():
            with suppress(MLFFError, OSError, ValueError, TypeError):
                energies = [float(one) for one in parse_json(read_text(known, TrainingError))]
                if len(energies) == len(self.structures):
                    return energies
        self.enter(0, first=True, check=check)
        energies = [self.density(number).energy for number in range(len(self.structures))]
        write_whole(known, json.dumps(energies) + "\n")
        return energies

    def enter(self, number: int, *, first: bool, check: Callable[[int, float], None] | None = None) -> None:
        """Make a round the present one, and its densities where they are missing.

        Args:
            number: Number of the round.
            first: Whether the weights are those that the round begins with.
            check: Called with number and energy (Ha) of each frame that was converged now.

        Raises:
            TrainingError: A frame does not converge in the first round, or densities are damaged.
        """
        if number == self.round:
            return
        folder, mark = self._folder / f"round-{number}", checksum(self.functional.state_dict(), {})
        before = self._folder / f"round-{number - 1}" if number else None
        before = before if before is not None and before.is_dir() else None
        if first and folder.is_dir() and _text(folder / "weights.txt") != mark:
            shutil.rmtree(folder)
        missing = [k for k in range(len(self.structures)) if not density_path(folder, k).is_file()]
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / "weights.txt", mark)
            kept = self._converge(number, before, missing, check)
            report = self._report(number, kept)
            self._note(report)
            logger.info("%s", report)
        self.round = number
        for old in range(number - 1):
            shutil.rmtree(self._folder / f"round-{old}", ignore_errors=True)

    def density(self, number: int) -> FrozenDensity:
        """Read the density of a frame in the present round.

        Raises:
            TrainingError: It is missing or damaged.
        """
        return self._read(self._folder / f"round-{self.round}", number)

    def recall(self) -> None:
        """Where no round is the present one, as in a run that was resumed at its end, make the last one that is there."""
        if self.round < 0:
            self.round = max((int(one.name.removeprefix("round-")) for one in self._folder.glob("round-*")), default=0)

    def remove(self) -> None:
        """Remove the densities of all rounds; what the refreshes did stays."""
        for folder in self._folder.glob("round-*"):
            shutil.rmtree(folder, ignore_errors=True)
        self.round = -1

    def reports(self) -> list[RoundReport]:
        """What the refreshes did so far; empty where this is not known."""
        path = self._folder / "rounds.json"
        with suppress(MLFFError, OSError, ValueError, TypeError):
            return [RoundReport(**one) for one in parse_json(read_text(path, TrainingError))]
        return []

    def _read(self, folder: Path, number: int) -> FrozenDensity:
        from mlff_calc.electronic.scf.frozen import FrozenDensity

        path = density_path(folder, number)
        try:
            return FrozenDensity.load(path)
        except (MLFFError, OSError) as error:
            raise TrainingError(f"{path} cannot be read ({error}); remove it, and --resume computes it again") from error

    def _converge(
        self, number: int, before: Path | None, missing: Sequence[int], check: Callable[[int, float], None] | None
    ) -> int:
        """Converge frames; the number of those that keep their density of the round before is returned."""
        from mlff_calc.datasets.labelling import outcomes
        from mlff_calc.electronic.scf.pyscf_door import one_thread

        functional = self.functional.to_precision(self.functional.precision).cpu().eval().requires_grad_(False)
        folder = self._folder / f"round-{number}"
        work = Refresh(functional, self.section, folder, before, self._kept if number == 0 else None)
        items = [(k, (k, self.structures[k])) for k in missing]
        kept = 0
        with closing(outcomes(work, items, min(self.section.workers, len(items)), one_thread)) as found:
            for outcome in found:
                if outcome.problem is None:
                    if check is not None:
                        check(outcome.number, outcome.value)
                    continue
                if before is None:
                    raise TrainingError(f"{self.places[outcome.number]}: {outcome.problem} (or leave this frame out)")
                logger.warning("%s keeps its density: %s", self.places[outcome.number], outcome.problem)
                held = replace(self._read(before, outcome.number), jump=float("nan"))
                held.save(density_path(folder, outcome.number))
                kept += 1
        return kept

    def _report(self, number: int, kept: int) -> RoundReport:
        held = [self._read(self._folder / f"round-{number}", k) for k in range(len(self.structures))]
        jumps = np.abs([one.jump for one in held if np.isfinite(one.jump)])
        moved = (_MILLI * float(jumps.mean()), _MILLI * float(jumps.max())) if len(jumps) else (None, None)
        cycles = float(np.mean([one.cycles for one in held]))
        return RoundReport(number, len(held), cycles, sum(one.retried for one in held), kept, *moved)

    def _note(self, report: RoundReport) -> None:
        earlier: list[Any] = [one for one in self.reports() if one.round < report.round]
        write_whole(self._folder / "rounds.json", json.dumps([asdict(one) for one in [*earlier, report]], indent=1) + "\n")


def _text(path: Path) -> str:
    with suppress(MLFFError, OSError):
        return read_text(path, TrainingError).strip()
    return ""
