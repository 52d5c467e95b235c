"""Objectives of pretraining beside each other and beside none: what potentials with few labels make of their backbones.

All arms are pretrained on the same structures for the same number of epochs, and the potentials that start from them have
the same recipe; the arm `scratch` starts from new weights. `georecon, constant` is the same without codes, and the report of
`georecon` has its reconstruction with exchanged codes. Trainings are kept, and an arm that fails does not end the others;
see `trainings.py`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mlff_calc.bench.studies.kept import keep_settings
from mlff_calc.bench.studies.trainings import result_of
from mlff_calc.datasets.ase_files import iterate_frames
from mlff_calc.errors import BenchmarkError
from mlff_calc.near import suggestion
from mlff_calc.networks.trained_backbone import TrainedBackbone
from mlff_calc.training.fingerprints import fingerprint
from mlff_calc.training.frames.read import Frames
from mlff_calc.training.potential.recipe import PotentialRecipe
from mlff_calc.training.potential.task import PotentialTask
from mlff_calc.training.pretraining.evaluate import CONSTANT, LEARNED, OWN, SHUFFLED
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.training.recipe_base import TrainingRecipe
from mlff_calc.training.task import Prepared

SCRATCH = "scratch"
ARMS: dict[str, dict[str, Any]] = {
    SCRATCH: {},
    "denoising": {"name": "denoising"},
    "georecon": {"name": "georecon"},
    "georecon, constant": {"name": "georecon", "code": "constant"},
    "supervised": {"name": "supervised"},
}
"""Options of the objective by name of the arm."""
SHARES = {"own": OWN, "mean": CONSTANT, "exchanged": SHUFFLED, "learned": LEARNED}
"""Columns of shares of the reconstruction, and the codes that they are of."""
FIGURES = ("energy", "forces", "minutes")
PROBE = "the radius of gyration"
NEIGHBORS = 12.0
"""Number of neighbours by which sums are divided in all networks alike. Raising it makes first features smaller."""


class StartedPotential(PotentialTask):
    """Potentials whose backbones start with the weights of a pretrained one.

    Args:
        start: Folder of the pretrained network; None for new weights.
    """

    def __init__(self, start: Path | None) -> None:
        self.start = start

    def prepare(self, recipe: PotentialRecipe, parts: Mapping[str, Frames]) -> Prepared:
        """Build a new potential, and give its backbone the pretrained weights."""
        prepared = super().prepare(recipe, parts)
        if self.start is not None:
            TrainedBackbone.read(self.start).carry_to(prepared.network.backbone, prepared.network.elements)
        return prepared


@dataclass(frozen=True)
class PretrainingStudy:
    """How the arms are compared.

    Attributes:
        structures: File of structures to pretrain on; with energies and forces for the arm `supervised`.
        files: Files of frames with energies and forces, one for each molecule, that potentials are trained on.
        output: Folder of trainings and results.
        arms: Names from `ARMS`.
        labels: Numbers of training frames of potentials; a quarter as many (at least 10) validate, and `test` others test.
        seeds: Seeds of weights, noise and divisions into parts.
        epochs: Number of epochs of each pretraining.
        tuned: Number of steps of each training of a potential.
        test: Number of test frames.
        backbone: Name and options of the backbone.
        objective: Options that are added to those of each objective that has them, such as `sigma_reconstruction`.
    """

    structures: Path
    files: Sequence[Path]
    output: Path
    arms: Sequence[str] = tuple(ARMS)
    labels: Sequence[int] = (50, 200)
    seeds: Sequence[int] = (0, 1, 2)
    epochs: int = 20
    tuned: int = 2000
    test: int = 500
    backbone: dict[str, Any] = field(default_factory=lambda: {"name": "hegnn", "l_max": 1, "channels": 48, "n_layers": 3})
    objective: dict[str, Any] = field(default_factory=dict)

    def run(self, on_done: Callable[[str], None] | None = None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Train and judge all arms that are not kept yet.

        Returns:
            Rows of pretrainings, one for each seed and arm, and rows of potentials, one for each file, number of labels,
            seed and arm. Rows of arms that failed have the reason in `failed`, which is empty in others, and empty figures.

        Raises:
            BenchmarkError: There is no such file, an arm is unknown, or the folder holds results of other settings, recipes
                or versions.
        """
        self._check()
        pretrained, rows = [], []
        for seed in self.seeds:
            starts: dict[str, str] = {}
            for arm in self.arms:
                if arm != SCRATCH:
                    found = self._pretrained(arm, seed)
                    pretrained.append(found)
                    starts[arm] = found["failed"]
                    _tell(on_done, f"pretraining: {arm}, seed {seed}")
            for file in self.files:
                for n in self.labels:
                    for arm in self.arms:
                        rows.append(self._potential(arm, file, n, seed, starts.get(arm, "")))
                        _tell(on_done, f"{file.stem}: {arm}, {n} labels, seed {seed}")
        return pretrained, rows

    def _check(self) -> None:
        if not (self.arms and self.seeds and self.labels and self.files):
            raise BenchmarkError("there are no arms, seeds, labels or files; give at least one of each")
        for name in self.arms:
            if name not in ARMS:
                hint = suggestion(name, ARMS, after=" ")
                raise BenchmarkError(f"unknown arm {name!r}: {hint}known are {'; '.join(ARMS)}")
        for file in (self.structures, *self.files):
            if not file.is_file():
                raise BenchmarkError(f"there is no file {file}; check the spelling")
        names = [file.stem for file in self.files]
        if len(set(names)) < len(names):
            raise BenchmarkError(f"two of the files are called alike: {', '.join(names)}; rename one")
        keep_settings(
            self.output,
            {
                "structures": fingerprint(self.structures), "epochs": self.epochs, "tuned": self.tuned, "test": self.test,
                "backbone": self.backbone, "objective": self.objective,
            },
        )  # fmt: skip
        for file in self.files:  # others may join a study later
            keep_settings(self.output / f"labels-{file.stem}", {"labels": fingerprint(file)})

    def _folder(self, arm: str, seed: int) -> Path:
        return self.output / f"pretraining-{seed}-{arm.replace(', ', '-')}"

    def _pretrained(self, arm: str, seed: int) -> dict[str, Any]:
        """Figures of a pretraining, kept or trained now."""

        def judge(record: dict[str, Any]) -> dict[str, Any]:
            told = record["evaluation"]
            probe = told["probes"].get(PROBE, ("", ""))
            steep = told["steepness"].get("pooled features", {}).get("relative_median")
            shares = {column: told["reconstruction"].get(name, "") for column, name in SHARES.items()}
            return {
                "errors": {
                    "denoising": "" if told["denoising"] is None else told["denoising"], **shares,
                    "steepness": "" if steep is None else steep, "before": probe[0], "after": probe[1],
                    "minutes": float(record["minutes"]),
                }
            }  # fmt: skip

        found = result_of(self._folder(arm, seed), self._recipe(arm, seed), judge)
        failed = found.get("failed", "")
        empty = dict.fromkeys(("denoising", *SHARES, "steepness", "before", "after", "minutes"), "")
        return {"arm": arm, "seed": seed, "failed": failed, **(empty if failed else found["errors"])}

    def _potential(self, arm: str, file: Path, n: int, seed: int, failed: str) -> dict[str, Any]:
        """Figures of a potential, kept or trained now; those of an arm whose pretraining failed are empty."""
        row = {"file": file.stem, "labels": n, "arm": arm, "seed": seed}
        if failed:
            return row | {"failed": failed, **dict.fromkeys(FIGURES, "")}

        def judge(record: dict[str, Any]) -> dict[str, Any]:
            errors = record["evaluation"]["errors"]
            own = {"energy": errors["energy_per_atom"]["mae"], "forces": errors["forces"]["mae"]}
            return {"errors": own | {"minutes": float(record["minutes"])}}

        folder = self.output / f"{file.stem}-{n}-{seed}-{arm.replace(', ', '-')}"
        task = StartedPotential(None if arm == SCRATCH else self._folder(arm, seed) / "pretraining")
        found = result_of(folder, self._tuning(file, n, seed), judge, task)
        failed = found.get("failed", "")
        return row | {"failed": failed, **(dict.fromkeys(FIGURES, "") if failed else found["errors"])}

    def _recipe(self, arm: str, seed: int) -> TrainingRecipe:
        """Recipe of a pretraining."""
        from mlff_calc.pretraining import OBJECTIVES

        own = ARMS[arm]
        known = OBJECTIVES.options(own["name"])
        objective = own | {key: value for key, value in self.objective.items() if key in known}
        recipe = {
            "pretraining": {"backbone": self.backbone | {"avg_num_neighbors": NEIGHBORS}, "objective": objective},
            "data": {"train": str(self.structures.resolve()), "split": {"valid": 0.1, "seed": seed}},
            "loss": {"energy": 1.0, "forces": 1.0} if own["name"] == "supervised" else {},
            "optimizer": _optimizer(32, self.epochs),
            "trainer": {"device": "cpu", "seed": seed, "validate_every": min(5, self.epochs)},
        }
        return parse_recipe(recipe, self.output / "recipe.yaml")

    def _tuning(self, file: Path, n: int, seed: int) -> TrainingRecipe:
        """Recipe of a potential; alike for all arms."""
        epochs = max(1, round(self.tuned * 8 / n))
        recipe = {
            "potential": {"backbone": self.backbone, "avg_num_neighbors": NEIGHBORS, "elements": self._elements},
            "data": {
                "train": str(file.resolve()),
                "split": {"train": n, "valid": max(10, n // 4), "test": self.test, "seed": seed},
            },
            "optimizer": _optimizer(8, epochs),
            "trainer": {"device": "cpu", "seed": seed, "validate_every": max(1, epochs // 20)},
        }
        return parse_recipe(recipe, self.output / "recipe.yaml")

    @cached_property
    def _elements(self) -> list[str]:
        """Symbols of the elements of the structures, which all networks know."""
        found = {int(z) for _, atoms in iterate_frames(self.structures, ":", None) for z in np.unique(atoms.numbers)}
        return [chemical_symbols[z] for z in sorted(found)]


def _optimizer(batch_size: int, epochs: int) -> dict[str, Any]:
    return {
        "learning_rate": 0.002, "batch_size": batch_size, "max_epochs": epochs, "ema_decay": 0.99, "warmup_steps": 50,
    }  # fmt: skip


def _tell(on_done: Callable[[str], None] | None, text: str) -> None:
    if on_done is not None:
        on_done(text)


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means by file, number of labels and arm over the seeds that did not fail, with ratios paired by seed; `-` for none.

    Args:
        rows: Rows of potentials.
    """
    found = []
    whole = {(row["file"], row["labels"], row["seed"], row["arm"]): row for row in rows if not row["failed"]}
    for file, n, arm in dict.fromkeys((row["file"], row["labels"], row["arm"]) for row in rows):
        mine = [row for key, row in whole.items() if (key[0], key[1], key[3]) == (file, n, arm)]
        line: dict[str, Any] = {"file": file, "labels": n, "arm": arm}
        for name in FIGURES:
            line[name] = _mean([row[name] for row in mine])
        for other in (SCRATCH, "denoising"):
            pairs = [(row, whole[file, n, row["seed"], other]) for row in mine if (file, n, row["seed"], other) in whole]
            for name in ("energy", "forces"):
                line[f"{name} over {other}"] = _mean([one[name] / two[name] for one, two in pairs])
        found.append(line)
    return found


def _mean(values: Sequence[float]) -> float | str:
    return statistics.fmean(values) if values else "-"
