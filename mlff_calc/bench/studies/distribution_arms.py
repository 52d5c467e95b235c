"""Heads of properties under label noise: one number beside distributions over bins, at equal data, steps and backbone.

Noise is added to all labels of a file. Networks are judged on labels without it (error) and with it (likelihood, coverage).
Trainings are kept, and an arm that fails does not end the others; see `trainings.py`.
"""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import ase.io
import numpy as np

from mlff_calc.bench.studies.kept import keep_settings
from mlff_calc.bench.studies.trainings import result_of
from mlff_calc.datasets.properties import PropertySample, read_properties
from mlff_calc.errors import BenchmarkError
from mlff_calc.near import suggestion
from mlff_calc.properties import load_property
from mlff_calc.training.fingerprints import fingerprint
from mlff_calc.training.property.data import read_parts
from mlff_calc.training.property.evaluate import evaluate_property
from mlff_calc.training.property.recipe import PropertyRecipe
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.whole_files import write_whole

ONE = {"layouts": ["uniform"]}
ARMS: dict[str, dict[str, Any]] = {
    "scalar": {"name": "scalar"},
    "one histogram, 0": {**ONE, "expectation": 0.0},
    "one histogram, 10": {**ONE, "expectation": 10.0},
    "one histogram, 100": {**ONE, "expectation": 100.0},
    "three histograms, 0": {"expectation": 0.0},
    "three histograms, 1": {"expectation": 1.0},
    "three histograms, 10": {"expectation": 10.0},
    "three histograms, 100": {"expectation": 100.0},
    "three histograms of 256, 10": {"bins": 256, "expectation": 10.0},
    "three histograms of 256, 100": {"bins": 256, "expectation": 100.0},
}
"""Options of the head by name of the arm; the number is the weight of the error of the mean beside the cross entropy."""
NOISES = ("none", "normal", "tails")
"""Kinds of noise: none, normal, and of Student's distribution with three degrees of freedom, of the same deviation."""
FIGURES = ("mae", "ratio", "noisy mae", "nll", "coverage90", "width90", "rank", "parameters", "minutes")
NOISY, CLEAN = "label_noisy", "label_clean"


@dataclass(frozen=True)
class DistributionStudy:
    """How the arms are compared.

    Attributes:
        data: File of structures that ASE reads.
        label: Name of the label in `atoms.info`.
        output: Folder of trainings and results.
        arms: Names from `ARMS`.
        noises: Names from `NOISES`.
        size: Standard deviation of the noise, in units of that of the labels.
        seeds: Seeds of weights, noise and the division into parts.
        epochs: Number of epochs of each training.
        train: Number of training structures; a quarter as many validate, and all others test.
        backbone: Name of the backbone.
        pooling: Pooling of the property.
    """

    data: Path
    label: str
    output: Path
    arms: Sequence[str] = tuple(ARMS)
    noises: Sequence[str] = NOISES
    size: float = 0.05
    seeds: Sequence[int] = (0, 1, 2)
    epochs: int = 50
    train: int = 1000
    backbone: str = "hegnn"
    pooling: str = "mean"

    def run(self, on_done: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
        """Train and judge all arms that are not kept yet; one row for each noise, seed and arm.

        Rows of arms that failed have the reason in `failed`, which is empty in others, and empty figures.

        Raises:
            BenchmarkError: There is no such file, an arm or noise is unknown, or the folder holds results of other settings,
                recipes or versions.
        """
        self._check()
        rows: list[dict[str, Any]] = []
        for noise in self.noises:
            for seed in self.seeds:
                self._write_noisy(noise, seed)
                found = [self._row(arm, noise, seed, on_done) for arm in self.arms]
                base = next((row["mae"] for row in found if row["arm"] == "scalar" and not row["failed"]), None)
                for row in found:
                    row["ratio"] = row["mae"] / base if base and not row["failed"] else ""
                rows += found
        return rows

    def _check(self) -> None:
        for names, known, what in ((self.arms, tuple(ARMS), "arm"), (self.noises, NOISES, "noise")):
            if not names or not self.seeds:
                raise BenchmarkError("there are no arms, noises or seeds; give at least one of each")
            for name in names:
                if name not in known:
                    hint = suggestion(name, known, after=" ")
                    raise BenchmarkError(f"unknown {what} {name!r}: {hint}known are {'; '.join(known)}")
        if not self.data.is_file():
            raise BenchmarkError(f"there is no file {self.data}; check the spelling")
        keep_settings(
            self.output,
            {
                "data": fingerprint(self.data), "label": self.label, "size": self.size, "epochs": self.epochs,
                "train": self.train, "backbone": self.backbone, "pooling": self.pooling,
            },
        )  # fmt: skip

    def _file(self, noise: str, seed: int) -> Path:
        return self.output / f"data-{noise}-{seed}.extxyz"

    def _write_noisy(self, noise: str, seed: int) -> None:
        """Write the structures with both labels, unless that is done; noise follows the generator of (seed, kind)."""
        file = self._file(noise, seed)
        if file.is_file():
            return
        samples = self._samples
        labels = np.array([one.value for one in samples])
        random = np.random.default_rng((seed, NOISES.index(noise)))
        drawn = {
            "none": np.zeros(len(labels)),
            "normal": random.normal(size=len(labels)),
            "tails": random.standard_t(3.0, size=len(labels)) / 3.0**0.5,  # of deviation 1
        }[noise]
        noisy = labels + self.size * labels.std() * drawn
        stream = io.StringIO()
        for one, own, other in zip(samples, labels, noisy, strict=True):
            atoms = one.atoms.copy()  # type: ignore[no-untyped-call]
            atoms.info |= {CLEAN: float(own), NOISY: float(other)}
            ase.io.write(stream, atoms, format="extxyz")
        write_whole(file, stream.getvalue())

    def _row(self, arm: str, noise: str, seed: int, on_done: Callable[[str], None] | None) -> dict[str, Any]:
        """Figures of an arm, kept or trained now."""
        folder = self.output / f"{noise}-{seed}-{arm.replace(' ', '_').replace(',', '')}"

        def judge(record: dict[str, Any]) -> dict[str, Any]:
            clean = read_parts(self._recipe(arm, noise, seed, CLEAN))["test"]
            network = load_property(folder / "property")
            told = record["evaluation"]
            return {
                "errors": {
                    "mae": evaluate_property(network, clean.samples).mae, "noisy mae": told["mae"], "nll": told["nll"],
                    "coverage90": told["coverage"]["0.9"], "width90": told["width"]["0.9"],
                    "rank": "" if told["rank"] is None else told["rank"],
                    "parameters": sum(parameter.numel() for parameter in network.parameters()),
                    "minutes": float(record["minutes"]),
                }
            }  # fmt: skip

        found = result_of(folder, self._recipe(arm, noise, seed), judge)
        if on_done is not None:
            on_done(f"{arm}, noise {noise}, seed {seed}")
        failed = found.get("failed", "")
        figures = dict.fromkeys(FIGURES, "") if failed else found["errors"]
        return {"arm": arm, "noise": noise, "seed": seed, "failed": failed, **figures}

    def _recipe(self, arm: str, noise: str, seed: int, label: str = NOISY) -> PropertyRecipe:
        """Recipe of an arm, with labels with or without noise."""
        head = {"name": "distribution", **ARMS[arm]}
        expectation = head.pop("expectation", None)
        recipe = {
            "property": {
                "backbone": {"name": self.backbone, "l_max": 1, "channels": 32, "n_layers": 2},
                "head": head, "pooling": self.pooling,
            },
            "data": {
                "train": str(self._file(noise, seed).resolve()), "label": label,
                "split": {
                    "train": self.train, "valid": self.train // 4, "seed": seed,
                    "test": max(1, len(self._samples) - self.train - self.train // 4),
                },
            },
            "loss": {} if expectation is None else {"expectation": expectation},
            "optimizer": {
                "learning_rate": 0.003, "batch_size": 32, "max_epochs": self.epochs, "ema_decay": 0.99, "warmup_steps": 20,
            },
            "trainer": {"device": "cpu", "seed": seed, "validate_every": min(5, self.epochs)},
        }  # fmt: skip
        return cast("PropertyRecipe", parse_recipe(recipe, self.output / "recipe.yaml"))

    @cached_property
    def _samples(self) -> list[PropertySample]:
        """Structures of the file with their labels."""
        return read_properties(self.data, self.label).samples


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means by noise and arm over the seeds that did not fail; `-` where there are none."""
    found = []
    for noise, arm in dict.fromkeys((row["noise"], row["arm"]) for row in rows):
        mine = [row for row in rows if (row["noise"], row["arm"]) == (noise, arm) and not row["failed"]]
        means: dict[str, Any] = {}
        for key in FIGURES:
            values = [row[key] for row in mine if row[key] != ""]
            means[key] = statistics.fmean(values) if values else "-"
        found.append({"noise": noise, "arm": arm, **means})
    return found
