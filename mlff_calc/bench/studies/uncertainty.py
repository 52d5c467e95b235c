"""Error bars of potentials on structures that are hotter than the training data: heads of errors beside committees.

Potentials with heads of errors are trained on the frames of one file with several seeds. The first one's heads and the
spread of all are compared by what they say about test frames of that file and about hot frames. These are given, or made by
dynamics with the first potential and labelled by GFN2-xTB, which must then be the level of the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray
from scipy.stats import chi, norm, rankdata, spearmanr

from mlff_calc.bench.motion import moving_frames
from mlff_calc.bench.studies.kept import keep_settings
from mlff_calc.bench.studies.trainings import result_of
from mlff_calc.calculators import CommitteeCalculator, MLFFCalculator
from mlff_calc.calculators.base import GraphCalculator
from mlff_calc.datasets import Sample
from mlff_calc.dynamics.md import run_md
from mlff_calc.errors import BenchmarkError
from mlff_calc.potential import Potential, build_potential, load_potential
from mlff_calc.sampling.calculators import XTB, Xtb, evaluator_of
from mlff_calc.training.fingerprints import fingerprint
from mlff_calc.training.frames.read import read_frames, read_sources
from mlff_calc.training.frames.recipe import parse_sources
from mlff_calc.training.potential.recipe import PotentialRecipe
from mlff_calc.training.recipe import parse_recipe

FloatArray = NDArray[np.float64]
COVERED = 0.9
"""Share of errors that intervals should hold."""


@dataclass(frozen=True)
class UncertaintyStudy:
    """How error bars are compared.

    Attributes:
        data: File of labelled frames, which are divided into training, validation and test frames.
        output: Folder of trainings and results.
        hot: File of labelled hot frames; None to make them.
        members: Number of potentials of the committee.
        temperature: Temperature of hot frames that are made, K.
        frames: Number of hot frames that are made.
        epochs: Number of epochs of each training.
        parts: Numbers of training and validation frames; all others test.
        backbone: Name and options of the backbone.
        compiled: Whether evaluations are timed with compiled code too.
    """

    data: Path
    output: Path
    hot: Path | None = None
    members: int = 3
    temperature: float = 1200.0
    frames: int = 200
    epochs: int = 40
    parts: tuple[int, int] = (350, 50)
    backbone: Mapping[str, Any] | None = None
    compiled: bool = False

    def run(self, on_done: Callable[[str], None] | None = None) -> dict[str, list[dict[str, Any]]]:
        """Train what is not kept yet, and judge.

        Returns:
            Rows of `signals` (one for each kind of error bar and number that it gives) and of `times`.

        Raises:
            BenchmarkError: A file is missing or too short, a training failed, or the folder holds results of other settings.
            SimulationError: The dynamics that should give hot frames failed.
        """
        say = on_done or (lambda text: None)
        self._check()
        models = [self._trained(seed, say) for seed in range(self.members)]
        test, hot = read_frames(self._recipe(0))["test"].samples, self._hot(models[0], say)
        first = load_potential(str(models[0]))
        kinds: dict[str, GraphCalculator] = {"heads": MLFFCalculator(first, device="cpu", domain="off")}
        if self.members > 1:
            kinds["committee"] = CommitteeCalculator([str(one) for one in models], device="cpu", domain="off")
        signals: list[dict[str, Any]] = []
        for name, calculator in kinds.items():
            found = [judged(calculator, samples) for samples in (test, hot)]
            for of in ("energy", "forces"):
                signals.append({"error bars": name, "of": of} | compared(*(one[of] for one in found)))
            say(f"{name} judged")
        forms = (False, True) if self.compiled else (False,)
        timed = [paired_times(first, test[0].atoms, compiled=one) for one in forms]
        times = [{"code": "compiled" if one else "eager"} | found for one, found in zip(forms, timed, strict=True)]
        return {"signals": signals, "times": times}

    def _check(self) -> None:
        for file in (self.data, self.hot):
            if file is not None and not file.is_file():
                raise BenchmarkError(f"there is no file {file}; check the spelling")
        count = len(_read(self.data))
        if count < sum(self.parts) + 3:
            raise BenchmarkError(
                f"{self.data} has {count} frames, and {self.parts[0]} train and {self.parts[1]} validate; leave at least 3 "
                "to test"
            )
        if self.hot is None:
            evaluator_of("gfn2-xtb")  # says what to install
        hot = {"frames": self.frames, "temperature": self.temperature} if self.hot is None else fingerprint(self.hot)
        settings = {
            "data": fingerprint(self.data), "hot": hot, "members": self.members, "epochs": self.epochs,
            "parts": list(self.parts), "backbone": dict(self.backbone or BACKBONE),
        }  # fmt: skip
        keep_settings(self.output, settings)

    def _trained(self, seed: int, say: Callable[[str], None]) -> Path:
        """Folder of the potential of a seed, trained now or kept."""
        folder = self.output / f"seed-{seed}"
        found = result_of(folder, self._recipe(seed), lambda record: {"errors": record["evaluation"]["errors"]})
        if found.get("failed"):
            raise BenchmarkError(f"seed {seed} failed: {found['failed']}")
        told = {name: f"{one['mae']:.4g} {one['unit']}" for name, one in found["errors"].items()}
        say(f"seed {seed}: test MAE " + ", ".join(f"{name} {text}" for name, text in told.items()))
        return folder / "potential"

    def _recipe(self, seed: int) -> PotentialRecipe:
        count = len(_read(self.data)) - sum(self.parts)
        recipe = {
            "potential": {"backbone": dict(self.backbone or BACKBONE), "uncertainty": {}},
            "data": {
                "train": str(self.data.resolve()),
                "split": {"train": self.parts[0], "valid": self.parts[1], "test": count, "seed": 0},
            },
            "loss": {"energy": 1.0, "forces": 1.0},
            "optimizer": {
                "learning_rate": 0.006, "batch_size": 5, "max_epochs": self.epochs, "ema_decay": 0.98, "warmup_steps": 30,
            },
            "trainer": {"device": "cpu", "seed": seed, "validate_every": min(5, self.epochs)},
        }  # fmt: skip
        return cast("PotentialRecipe", parse_recipe(recipe, self.output / "recipe.yaml"))

    def _hot(self, model: Path, say: Callable[[str], None]) -> Sequence[Sample]:
        """Hot frames, given or made."""
        if self.hot is not None:
            return _read(self.hot)
        file = self.output / "hot.extxyz"
        if not file.is_file():
            start = read_frames(self._recipe(0))["train"].samples[0].atoms
            folder = self.output / "hot_md"
            run_md(
                start, model, output=folder, ensemble="langevin", temperature=self.temperature, timestep="1fs",
                steps=25 * self.frames, traj_interval=25, domain="off", device="cpu", resume=folder.exists(),
            )  # fmt: skip
            made = cast("list[Atoms]", ase.io.read(folder / "trajectory.traj", ":"))[-self.frames :]
            label_by_xtb(made, file)
            say(f"{len(made)} frames at {self.temperature:g} K made and labelled")
        return _read(file)


BACKBONE = {"name": "hegnn", "cutoff": 4.0, "l_max": 1, "channels": 24, "n_layers": 2}
"""Backbone of the potentials by default, small enough for minutes of training."""


def label_by_xtb(frames: Sequence[Atoms], file: Path) -> None:
    """Write positions with energies and forces of GFN2-xTB; needs tblite."""
    calculator, labelled = Xtb(XTB["gfn2-xtb"])(), []
    for frame in frames:
        atoms = Atoms(frame.numbers, frame.positions)
        atoms.calc = calculator
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        labelled.append(atoms)
    ase.io.write(file, labelled, format="extxyz")


def _read(file: Path) -> Sequence[Sample]:
    return read_sources([(file, parse_sources({"file": str(file)}, str(file))[0])])


def judged(calculator: GraphCalculator, samples: Sequence[Sample]) -> dict[str, dict[str, FloatArray]]:
    """What error bars say about frames.

    Returns:
        For `energy` (per atom, eV) and `forces` (eV/Angstrom): `error` and `std` of each frame or atom, `frame` (the number
        of a frame that is to tell hot frames) and `limit` (errors below which `COVERED` of them should lie).
    """
    rows: dict[str, list[Any]] = {"energy": [], "forces": []}
    for sample in samples:
        found, n = calculator.evaluate(sample.atoms), len(sample.atoms)
        std = found["energy_std"] / n
        rows["energy"].append((abs(found["energy"] - cast("float", sample.energy)) / n, std, std))
        spread = np.linalg.norm(found["forces_std"], axis=1)
        error = np.linalg.norm(found["forces"] - sample.forces, axis=1)
        rows["forces"].append((error, spread, np.sqrt(np.square(spread).mean())))
    within = {"energy": norm.ppf(0.5 + 0.5 * COVERED), "forces": chi(3).ppf(COVERED) / 3.0**0.5}
    told = {}
    for name, each in rows.items():
        error, std = (np.hstack([row[column] for row in each]) for column in (0, 1))
        told[name] = {"error": error, "std": std, "frame": np.array([row[2] for row in each]), "limit": within[name] * std}
    return told


def compared(cold: dict[str, FloatArray], hot: dict[str, FloatArray]) -> dict[str, Any]:
    """Figures of a kind of error bar: how well it tells hot frames, and how its size goes with the errors."""
    found: dict[str, Any] = {"auroc": auroc(cold["frame"], hot["frame"])}
    for name, one in (("cold", cold), ("hot", hot)):
        found |= {
            f"{name} rank": float(spearmanr(one["std"], one["error"]).statistic),
            f"{name} covered": float((one["error"] <= one["limit"]).mean()),
            f"{name} error": 1e3 * float(np.sqrt(np.square(one["error"]).mean())),
            f"{name} std": 1e3 * float(np.sqrt(np.square(one["std"]).mean())),
        }
    return found


def auroc(low: FloatArray, high: FloatArray) -> float:
    """Probability that a number of `high` [m] is above one of `low` [n]; equal ones count half."""
    ranks = rankdata(np.concatenate([low, high]))
    return float((ranks[len(low) :].sum() - 0.5 * len(high) * (len(high) + 1)) / (len(low) * len(high)))


def without_error_heads(potential: Potential) -> Potential:
    """Copy of a potential without heads of errors, with the same energies and forces."""
    left_out = {head.title for head in potential.error_heads}
    heads = [head for head in potential.config["heads"] if head["name"] not in left_out]
    other = build_potential(potential.config | {"heads": heads}, seed=0)
    other.load_state_dict({name: value for name, value in potential.state_dict().items() if name in other.state_dict()})
    other.domain = potential.domain
    return other


def paired_times(potential: Potential, atoms: Atoms, *, compiled: bool = False, rounds: int = 15) -> dict[str, float]:
    """Processor times of an evaluation with and without heads of errors, in turns on the same moving frames.

    Returns:
        Median times in ms, `with` and `without`, and the median over rounds of their `ratio`.
    """
    make = partial(MLFFCalculator, device="cpu", domain="off", compile=compiled)
    pair = {"with": make(potential), "without": make(without_error_heads(potential))}
    spent: dict[str, list[float]] = {name: [] for name in pair}
    frames = moving_frames(atoms, 10)
    for turn in range(rounds + 1):  # the first one warms up
        for name in list(pair)[:: 1 if turn % 2 else -1]:
            spent[name].append(1e3 * float(np.median(list(_evaluations(pair[name], atoms, frames)))))
    ratios = np.divide(spent["with"][1:], spent["without"][1:])
    return {name: float(np.median(times[1:])) for name, times in spent.items()} | {"ratio": float(np.median(ratios))}


def _evaluations(calculator: MLFFCalculator, atoms: Atoms, frames: FloatArray) -> Iterator[float]:
    moving = atoms.copy()  # type: ignore[no-untyped-call]
    for positions in frames:
        moving.positions[:] = positions
        start = time.process_time()
        calculator.evaluate(moving)
        yield time.process_time() - start
