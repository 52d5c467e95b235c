"""Rollouts with and without each of their parts, on one trajectory: what base, modes, equation and solver are worth.

Trainings are kept, and an arm that fails does not end the others; see `trainings.py`.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from mlff_calc.bench.studies.kept import keep_settings
from mlff_calc.bench.studies.trainings import result_of
from mlff_calc.datasets.motion.windows import Windows, read_run, window_samples
from mlff_calc.errors import BenchmarkError
from mlff_calc.graph.bonds import bonds_of
from mlff_calc.near import suggestion
from mlff_calc.propagator import Propagator, load_propagator
from mlff_calc.rollout import load_rollout
from mlff_calc.training.fingerprints import fingerprint
from mlff_calc.training.propagator.data import MotionPairs
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.training.recipe_base import TrainingRecipe
from mlff_calc.training.rollout.baselines import Later
from mlff_calc.training.rollout.data import read_windows
from mlff_calc.training.rollout.evaluate import MODEL, QUARTERS, RolloutReport, errors_of, evaluate_rollout
from mlff_calc.training.rollout.recipe import RolloutRecipe

ARMS: dict[str, dict[str, Any]] = {
    "valence": {"base": "valence"},
    "harmonic": {"base": "harmonic"},
    "rotor": {"base": "rotor"},
    "plain": {"base": "none", "order": 1},
    "plain, second order": {"base": "none", "order": 2},
    "plain, no ODE": {"base": "none", "ode": False},
    "plain, no Fourier": {"base": "none", "basis": "atoms", "order": 1},
    "plain, two eigenspaces": {"base": "none", "order": 1, "eigenspaces": 2},
    "EGNN one-shot": {"base": "none", "ode": False, "basis": "atoms", "l_max": 0},
    "HEGNN one-shot": {"base": "none", "ode": False, "basis": "atoms", "l_max": 2},
    "EGNN propagator": {"propagator": True, "l_max": 0},
    "HEGNN propagator": {"propagator": True, "l_max": 2},
    "rotor, rk4": {"base": "rotor", "solver": {"name": "rk4"}},
    "rotor, tolerance 1e-5": {"base": "rotor", "solver": {"rtol": 1e-5, "atol": 1e-5}},
    "rotor, regular times": {"base": "rotor", "regular": True},
}
"""Changes of the recipe by name of the arm; `l_max` is that of the backbone, `regular` that of the times. One-shot arms read
the first state once for all times; propagators are another kind, which reads it together with each time."""

TIMES, MOST_HOPS = 8, 99
"""Number of later times, and number of bonds that an edge of a propagator spans at most: all atoms are joined."""

FIGURES = (
    "mse", *(f"quarter {k + 1}" for k in range(QUARTERS)), "bonds", "velocities", "inside95", "parameters", "minutes", "ms",
)  # fmt: skip


@dataclass(frozen=True)
class RolloutStudy:
    """How the arms are compared.

    Attributes:
        data: Trajectory in the layout of MD17.
        output: Folder of trainings and results.
        horizons: Longest times, fs.
        arms: Names from `ARMS`.
        seeds: Seeds of weights, starts and times.
        epochs: Number of epochs of each training.
        starts: Number of first frames of the training.
        heavy_atoms: Whether hydrogens are left out.
    """

    data: Path
    output: Path
    horizons: Sequence[float] = (100.0, 1500.0)
    arms: Sequence[str] = tuple(ARMS)
    seeds: Sequence[int] = (0, 1, 2)
    epochs: int = 25
    starts: int = 500
    heavy_atoms: bool = False

    def run(self, on_done: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
        """Train and judge all arms that are not kept yet; one row for each arm, horizon and seed, and each baseline.

        Rows of arms that failed have the reason in `failed`, which is empty in others, and empty figures.

        Raises:
            BenchmarkError: There is no such file, an arm is unknown, or the folder holds results of other settings, recipes
                or versions.
        """
        self._check()
        rows: list[dict[str, Any]] = []
        for horizon in self.horizons:
            for seed in self.seeds:
                told = False
                for arm in self.arms:
                    kept = self.output / f"{horizon:g}-{seed}-{arm.replace(' ', '_').replace(',', '')}"
                    result = self._result(kept, arm, horizon, seed)
                    rows += list(_rows(result, arm, horizon, seed, baselines=not told))
                    told = told or "failed" not in result
                    if on_done is not None:
                        on_done(f"{arm}, {horizon:g} fs, seed {seed}")
        return rows

    def _check(self) -> None:
        if not self.arms or not self.seeds or not self.horizons:
            raise BenchmarkError("there are no arms, seeds or horizons; give at least one of each")
        for arm in self.arms:
            if arm not in ARMS:
                raise BenchmarkError(f"unknown arm {arm!r}: {suggestion(arm, ARMS, after=' ')}known are {'; '.join(ARMS)}")
        if not self.data.is_file():
            raise BenchmarkError(f"there is no file {self.data}; check the spelling, or make one by `mlff data trajectory`")
        step = read_run(self.data).timestep
        for horizon in self.horizons:
            if abs(round(horizon / step) * step - horizon) > 1e-6 * horizon or round(horizon / step) < TIMES:
                raise BenchmarkError(
                    f"a horizon of {horizon:g} fs is not a whole number of at least {TIMES} frames of {self.data}, which "
                    f"are {step:g} fs apart; change --horizons"
                )
        keep_settings(
            self.output,
            {
                "data": fingerprint(self.data), "epochs": self.epochs, "starts": self.starts,
                "heavy_atoms": self.heavy_atoms,
            },
        )  # fmt: skip

    def _result(self, folder: Path, arm: str, horizon: float, seed: int) -> dict[str, Any]:
        """Result of an arm, kept or trained now; all arms are judged at the same, irregular times."""

        def judge(record: dict[str, Any]) -> dict[str, Any]:
            propagates, regular = (bool(ARMS[arm].get(key)) for key in ("propagator", "regular"))
            report = dict(record["evaluation"])
            if propagates or regular:
                judged = cast("RolloutRecipe", self._recipe(arm, horizon, seed, judged=True))
                windows = read_windows(judged)[1]["test"]
                if propagates:
                    report = _of_propagator(load_propagator(folder / "propagator"), windows).as_dict()
                else:
                    report = evaluate_rollout(load_rollout(folder / "rollout"), windows).as_dict()
            return {"minutes": float(record["minutes"]), **report}

        return result_of(folder, self._recipe(arm, horizon, seed), judge)

    def _recipe(self, arm: str, horizon: float, seed: int, *, judged: bool = False) -> TrainingRecipe:
        """Recipe of an arm; or of a rollout at irregular times, on whose windows it is judged."""
        changes = dict(ARMS[arm])
        propagates = changes.pop("propagator", False)
        network = {"backbone": {"name": "hegnn", "l_max": changes.pop("l_max", 1), "channels": 32, "n_layers": 2}, **changes}
        regular = network.pop("regular", False) and not judged
        data: dict[str, Any] = {
            "file": str(self.data.resolve()), "horizon": horizon, "times": {"regular" if regular else "irregular": TIMES},
            "heavy_atoms": self.heavy_atoms, "limit": {"train": self.starts, "valid": 200, "test": 400},
        }  # fmt: skip
        recipe: dict[str, Any] = {
            "rollout": {"backbone": network["backbone"]} if judged else network,
            "data": data,
            "optimizer": {
                "learning_rate": 0.003, "batch_size": 50, "valid_batch_size": 200, "max_epochs": self.epochs,
                "ema_decay": 0.98, "warmup_steps": 20,
            },
            "trainer": {"device": "cpu", "seed": seed, "validate_every": min(5, self.epochs)},
        }  # fmt: skip
        if propagates and not judged:
            recipe["propagator"] = recipe.pop("rollout")
            step = read_run(self.data).timestep
            recipe["data"] = data | {"horizon": round(horizon / step), "hops": MOST_HOPS}
            for size in ("batch_size", "valid_batch_size"):
                recipe["optimizer"][size] *= TIMES
        return parse_recipe(recipe, self.output / "recipe.yaml")


def _of_propagator(propagator: Propagator, windows: Windows) -> RolloutReport:
    """Errors of a propagator on windows, each of whose times it reads by itself; it has no error bars."""
    pairs = MotionPairs(window_samples(windows, hops=MOST_HOPS))
    run, shape = windows.run, (*windows.ahead.shape, len(windows.run.numbers), 3)
    began, parts = time.process_time(), []
    propagator.eval()
    with torch.no_grad():
        for begin in range(0, len(pairs), 800):
            graph = pairs.batch(range(begin, min(begin + 800, len(pairs)))).graph
            parts.append(propagator(graph)["positions"])
    seconds = time.process_time() - began
    later = windows.starts[:, None] + windows.ahead
    found = Later(torch.cat(parts).view(shape), torch.full(shape, float("nan"), dtype=torch.float64))
    truth = Later(torch.from_numpy(run.positions[later]), torch.from_numpy(run.velocities[later]))
    share = torch.from_numpy(windows.times) / windows.horizon
    errors = errors_of(found, truth, share, torch.tensor(bonds_of(run.numbers, run.positions)))
    size = sum(parameter.numel() for parameter in propagator.parameters())
    return RolloutReport(
        len(windows), windows.horizon, {MODEL: errors}, {}, size,
        1000.0 * seconds / len(windows),
    )  # fmt: skip


def _rows(result: dict[str, Any], arm: str, horizon: float, seed: int, *, baselines: bool) -> Iterator[dict[str, Any]]:
    if "failed" in result:
        yield {"arm": arm, "horizon": horizon, "seed": seed, "failed": result["failed"], **dict.fromkeys(FIGURES, "")}
        return
    for name, errors in result["errors"].items():
        own = name == "rollout"
        if own or baselines:
            quarters = {f"quarter {k + 1}": value for k, value in enumerate(errors["quarters"])}
            yield {
                "arm": arm if own else name, "horizon": horizon, "seed": seed, "failed": "", "mse": errors["mse"],
                **quarters, "bonds": errors["bonds"],
                "velocities": "" if math.isnan(errors["velocities"]) else errors["velocities"],
                "inside95": result["coverage"].get("95%", "") if own else "",
                "parameters": result["parameters"] if own else "", "minutes": result["minutes"] if own else "",
                "ms": result["ms_per_trajectory"] if own else "",
            }  # fmt: skip


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means by horizon and arm over the seeds that did not fail, with the largest mean square error of one; `-` for none."""
    found = []
    for horizon, arm in dict.fromkeys((row["horizon"], row["arm"]) for row in rows):
        mine = [row for row in rows if (row["horizon"], row["arm"]) == (horizon, arm) and not row["failed"]]
        means = {
            key: "-" if not mine else statistics.fmean(row[key] for row in mine) if mine[0][key] != "" else ""
            for key in FIGURES
        }
        worst = max((row["mse"] for row in mine), default="-")
        found.append({"arm": arm, "horizon": horizon, **means, "worst": worst})
    return found
