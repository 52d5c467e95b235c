"""Learned functionals with and without each of their parts, beside what else could be trained on the same energies.

All energies of functionals are self-consistent. Delta-learning and the force field (`rivals.py`) are trained on the energies
of training and validation. Energies, densities of the base functional, trainings and rivals are kept, and an arm that
fails does not end the others; see `trainings.py`.

Source: Gao, Eberhard and Guennemann, "Learning equivariant non-local electron density functionals" (2024), for the arms.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from ase.units import Hartree

from mlff_calc.bench.studies.functional_sets import TESTS, TRAIN, VALID, MoleculeSet, labelled_parts
from mlff_calc.bench.studies.kept import keep_settings, kept_result
from mlff_calc.bench.studies.trainings import result_of
from mlff_calc.datasets import Sample
from mlff_calc.electronic.functional import build_functional, load_functional
from mlff_calc.electronic.scf.kept_densities import KeptDensities
from mlff_calc.errors import BenchmarkError, MLFFError
from mlff_calc.near import suggestion
from mlff_calc.training.frames.recipe import parse_sources
from mlff_calc.training.functional.evaluate import energy_errors, evaluate_functional, read_samples
from mlff_calc.training.functional.recipe import FunctionalRecipe
from mlff_calc.training.functional.rivals import DIFFERENCE, FORCE_FIELD, STEPS, rival_energies
from mlff_calc.training.functional.task import FunctionalTask
from mlff_calc.training.recipe import parse_recipe

ARMS: dict[str, dict[str, Any]] = {
    "full": {},
    "no messages": {"layers": 0},
    "readout only": {"reweight": "none"},
    "no readout": {"readout": False},
    "local": {"reweight": "local", "readout": False},
}
"""Changes of the section `functional` by name of the arm."""
RIVALS = (DIFFERENCE, FORCE_FIELD)
ROUNDS = 2
"""Number of rounds of densities. Energies move by less than a thousandth of a mHa in the second one."""
FIGURES = ("mae", "relative", "largest", "cycles", "failures", "parameters", "minutes")


@dataclass(frozen=True)
class FunctionalStudy:
    """How the arms are compared.

    Attributes:
        name: Name of the folder of this set.
        output: Folder of energies, densities, trainings and results.
        molecules: Molecules and numbers of structures.
        arms: Names from `ARMS`.
        rivals: Whether Delta-learning and the force field are trained.
        seeds: Seeds of weights and order; structures are the same for all.
        epochs: Number of epochs of each training.
        basis: Basis of the functionals and of the energies.
        grid_level: Level of the grid of both.
        network: Other changes of the section `functional`, for all arms.
        optimizer: Other changes of the section `optimizer`.
        workers: Number of processes of energies and self-consistent fields.
    """

    name: str
    output: Path
    molecules: MoleculeSet
    arms: Sequence[str] = tuple(ARMS)
    rivals: bool = True
    seeds: Sequence[int] = (0, 1, 2)
    epochs: int = 100
    basis: str = "6-31g*"
    grid_level: int = 1
    network: Mapping[str, Any] | None = None
    optimizer: Mapping[str, Any] | None = None
    workers: int = 1

    def run(self, on_done: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
        """Label, train and judge what is not kept yet; one row for each arm or rival, test and seed, in Hartree.

        Rows of arms that failed have the reason in `failed`, which is empty in others, and empty figures.

        Raises:
            BenchmarkError: An arm is unknown, or the folder holds results of other settings, recipes or versions.
            OptionError: PySCF is not installed, or does not know method or basis.
            SimulationError: No energy of a part can be computed.
        """
        self._check()
        tell = on_done or (lambda _: None)
        folder = self.output / self.name
        files = labelled_parts(self.molecules, folder / "energies", self.basis, self.grid_level, self.workers, tell)
        samples = {part: _samples(path) for part, path in files.items()}
        tests = {part: samples[part] for part in TESTS if part in samples}
        kept = KeptDensities(self.output / "densities")
        rows: list[dict[str, Any]] = []
        for seed in self.seeds:
            for arm in self.arms:
                result = self._trained(folder, files, tests, arm, seed, kept)
                rows += _rows(result, arm, seed, [*tests], with_bases=not any(row["arm"] == "base" for row in rows))
                tell(f"{arm}, seed {seed}")
            if self.rivals:
                rows += self._rivals(folder, samples, tests, seed, kept)
                tell(f"rivals, seed {seed}")
        return rows

    def _check(self) -> None:
        if not self.seeds or not (self.arms or self.rivals):
            raise BenchmarkError("there are no arms or seeds; give at least one of each")
        for arm in self.arms:
            if arm not in ARMS:
                raise BenchmarkError(f"unknown arm {arm!r}: {suggestion(arm, ARMS, after=' ')}known are {'; '.join(ARMS)}")
        settings = json.dumps(asdict(self.molecules) | {"basis": self.basis, "grid_level": self.grid_level})
        keep_settings(self.output / self.name, json.loads(settings))

    def _trained(
        self,
        folder: Path,
        files: Mapping[str, Path],
        tests: Mapping[str, Sequence[Sample]],
        arm: str,
        seed: int,
        kept: KeptDensities,
    ) -> dict[str, Any]:
        """Result of an arm, kept or trained now."""
        own = folder / f"{seed}-{arm.replace(' ', '_')}"

        def judge(record: dict[str, Any]) -> dict[str, Any]:
            network = load_functional(own / "functional")
            found = {
                part: evaluate_functional(network, those, workers=self.workers, kept=kept).as_dict()
                for part, those in tests.items()
            }
            return {"errors": found, "minutes": float(record["cpu_minutes"])}

        return result_of(own, self._recipe(folder, files, arm, seed), judge, FunctionalTask(kept))

    def _recipe(self, folder: Path, files: Mapping[str, Path], arm: str, seed: int) -> FunctionalRecipe:
        several = len(self.molecules.trained) > 1
        every = max(1, min(10, self.epochs // ROUNDS))
        recipe: dict[str, Any] = {
            "functional": {"basis": self.basis, "grid_level": self.grid_level, **(self.network or {}), **ARMS[arm]},
            "densities": {"epochs": max(1, -(-self.epochs // ROUNDS)), "workers": self.workers},
            "data": {part: str(files[part].resolve()) for part in (TRAIN, VALID)},
            "optimizer": {
                "learning_rate": 0.01, "batch_size": 10 if several else 3, "valid_batch_size": 50, "ema_decay": 0.99,
                "max_epochs": self.epochs, "warmup_steps": 20, **(self.optimizer or {}),
            },
            "loss": {"relative": several},
            "trainer": {"device": "cpu", "seed": seed, "validate_every": every, "checkpoint_every": every},
        }  # fmt: skip
        return cast("FunctionalRecipe", parse_recipe(recipe, folder / "recipe.yaml"))

    def _rivals(
        self,
        folder: Path,
        samples: Mapping[str, Sequence[Sample]],
        tests: Mapping[str, Sequence[Sample]],
        seed: int,
        kept: KeptDensities,
    ) -> list[dict[str, Any]]:
        """Rows of the rivals of a seed, kept or trained now."""
        known = [*samples[TRAIN], *samples[VALID]]
        config = {"basis": self.basis, "grid_level": self.grid_level, **(self.network or {})}
        asked = [one for those in tests.values() for one in those]

        def make() -> dict[str, Any]:
            elements = sorted({int(number) for one in known for number in one.atoms.numbers})
            base = build_functional(config | {"elements": elements}, seed=0).eval().requires_grad_(False)
            bases, others = (np.array([kept.density(base, one.atoms).energy for one in each]) for each in (known, asked))
            energies = rival_energies(known, bases, asked, others, seed=seed, steps=STEPS)
            return {row: found.tolist() for row, found in energies.items()}

        try:
            found = kept_result(folder / f"{seed}-rivals-{config.get('base', 'pbe')}-{STEPS}.json", make)
        except MLFFError as error:
            return [_row(row, part, seed, failed=str(error)) for part in tests for row in RIVALS]
        rows, first = [], 0
        for part, those in tests.items():
            wanted = np.array([float(one.energy or 0.0) / Hartree for one in those])
            formulas = [one.atoms.get_chemical_formula() for one in those]
            for row in RIVALS:
                wrong = np.array(found[row][first : first + len(those)]) - wanted
                rows.append(_row(row, part, seed, **_shown(asdict(energy_errors(wrong, formulas)))))
            first += len(those)
        return rows


def _samples(path: Path) -> Sequence[Sample]:
    return read_samples(parse_sources({"file": str(path)}, "mlff bench functional"))


def _row(arm: str, test: str, seed: int | str, failed: str = "", **figures: Any) -> dict[str, Any]:
    return {"arm": arm, "test": test, "seed": seed, "failed": failed, **dict.fromkeys(FIGURES, ""), **figures}


def _shown(errors: Mapping[str, Any]) -> dict[str, Any]:
    return {key: errors[key] for key in ("mae", "relative", "largest")}


def _rows(
    result: Mapping[str, Any], arm: str, seed: int, tests: Sequence[str], *, with_bases: bool
) -> Iterator[dict[str, Any]]:
    """Rows of a result, and of its base functional, which is the same for all."""
    for test in tests:
        if "failed" in result:
            yield _row(arm, test, seed, failed=str(result["failed"]))
            continue
        report = result["errors"][test]
        for row, errors in report["errors"].items():
            if row == "functional":
                yield _row(
                    arm, test, seed, **_shown(errors), cycles=report["cycles"], failures=len(report["failures"]),
                    parameters=report["parameters"], minutes=result["minutes"],
                )  # fmt: skip
            elif with_bases:
                yield _row(row, test, "", **_shown(errors))


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means by test and arm over the seeds that did not fail, errors in mHa, with ranges over seeds; `-` for none."""
    found = []
    for test in dict.fromkeys(row["test"] for row in rows):
        for arm in dict.fromkeys(row["arm"] for row in rows):
            mine = [row for row in rows if (row["test"], row["arm"]) == (test, arm) and not row["failed"]]
            line: dict[str, Any] = {"test": test, "arm": arm, "seeds": len(mine)}
            for key in FIGURES:
                scale = 1e3 if key in ("mae", "relative", "largest") else 1.0
                values = [scale * row[key] for row in mine if row[key] != ""]
                line[key] = statistics.fmean(values) if values else "-"
                line[f"{key} range"] = f"{min(values):.4g} to {max(values):.4g}" if len(values) > 1 else "-"
            found.append(line)
    return found
