"""Fock matrices by flow matching and by regression: what flow, initial matrix, given matrices and fine-tuning are worth.

All networks have the same layers, molecules and epochs. A flow is trained once and judged with several numbers of steps.
Fine-tuned networks go on from trained ones for a share of the epochs, with errors of orbital energies in the loss; beside
them stand networks that go on without, since they have been trained as long. Trivial guesses (`fock_rivals.py`) are in
the table. Trainings are kept, and an arm that fails does not end the others; see `trainings.py`.

Source: Kim et al., "QHFlow" (2025), for what is compared.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from mlff_calc.bench.scaling import in_child
from mlff_calc.bench.studies.fock_rivals import Matrix, OneShot, rivals
from mlff_calc.bench.studies.kept import keep_settings
from mlff_calc.bench.studies.trainings import result_of
from mlff_calc.datasets.matrix_frames import MatrixFrame
from mlff_calc.electronic.hamiltonian import HamiltonianNetwork, load_hamiltonian
from mlff_calc.electronic.hamiltonian.predict import predict_fock
from mlff_calc.errors import BenchmarkError, EvaluationError
from mlff_calc.near import suggestion
from mlff_calc.training.fingerprints import fingerprint
from mlff_calc.training.hamiltonian.data import read_parts
from mlff_calc.training.hamiltonian.evaluate import MatrixSums, add_matrices
from mlff_calc.training.hamiltonian.files import MatrixFrames, overlap_of
from mlff_calc.training.hamiltonian.recipe import HamiltonianRecipe
from mlff_calc.training.recipe import parse_recipe

FLOW, GOE = {"prior": "expansion"}, {"prior": "goe"}
ARMS: dict[str, dict[str, Any]] = {
    "regression": {},
    "regression, no H_init": {"target": "means"},
    "regression, reads S and H_init": {"inputs": ["overlap", "initial"]},
    "flow": {"flow": FLOW},
    "flow, GOE": {"flow": GOE},
    "flow, no H_init": {"flow": FLOW, "target": "means"},
    "flow, reads S and H_init": {"flow": FLOW, "inputs": ["overlap", "initial"]},
    "regression, tuned": {"on": "regression", "orbital_energies": True},
    "regression, went on": {"on": "regression"},
    "regression, no H_init, tuned": {"on": "regression, no H_init", "orbital_energies": True},
    "flow, tuned": {"on": "flow", "orbital_energies": True},
    "flow, went on": {"on": "flow"},
}
"""Changes of the section `hamiltonian` by name of the arm; or `on`, the arm whose trained network goes on, with or without
errors of orbital energies in the loss."""
NETWORK = {"channels": 16, "hidden": 32, "products": 8, "layers": 1}
STEPS = (1, 3, 10)
WEIGHT, SHARE = 2.0, 0.5
"""Weight of errors of orbital energies beside that of entries, and share of the epochs, in networks that go on."""
MEMORY = 100
"""Number of molecules of the batch whose peak memory is measured."""
FIGURES = (
    "all", "atoms", "pairs", "occupied", "gap", "cosine", "energy", "noise", "parameters", "minutes", "ms", "memory",
)  # fmt: skip


@dataclass(frozen=True)
class FlowStudy:
    """How the arms are compared.

    Attributes:
        data: File of molecules with matrices.
        output: Folder of trainings and results.
        epochs: Number of epochs of each training.
        seeds: Seeds of weights, order of molecules and noise; the parts of the file are the same for all.
        arms: Names from `ARMS`; those that others go on from are trained as well.
        valid, test: Numbers of molecules of the validation and the test; the rest is for training.
        energies: Number of test molecules whose one-shot energy is computed; 0 for none.
        memory: Whether the peak memory of a prediction is measured, in a process of its own, for the first seed.
    """

    data: Path
    output: Path
    epochs: int = 80
    seeds: Sequence[int] = (0, 1, 2)
    arms: Sequence[str] = tuple(ARMS)
    valid: int = 40
    test: int = 40
    energies: int = 5
    memory: bool = True

    def run(self, on_done: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
        """Train and judge all arms that are not kept yet; one row for each arm, number of steps and seed, and each rival.

        Rows of arms that failed have the reason in `failed`, which is empty in others, and empty figures.

        Raises:
            BenchmarkError: There is no such file, an arm is unknown, or the folder holds results of other settings, recipes
                or versions.
            DatasetError: The file cannot be read, or has too few molecules.
            OptionError: One-shot energies are asked for, and PySCF is not installed.
        """
        self._check()
        parts = read_parts(self._recipe("regression, no H_init", self.seeds[0]))
        test = list(parts["test"])
        energies = OneShot(test[: self.energies], parts["test"].settings)
        rows = []
        for name, matrices in rivals(list(parts["train"]), test, parts["test"].basis).items():
            found = _errors(matrices, parts["test"], test, energies)
            rows.append({"arm": name, "seed": "", "failed": "", **dict.fromkeys(FIGURES, ""), **found})
        for seed in self.seeds:
            for arm in self.arms:
                rows += self._rows(arm, seed, parts["test"], test, energies)
                if on_done is not None:
                    on_done(f"{arm}, seed {seed}")
        return rows

    def _check(self) -> None:
        if not self.arms or not self.seeds:
            raise BenchmarkError("there are no arms or seeds; give at least one of each")
        for arm in self.arms:
            if arm not in ARMS:
                raise BenchmarkError(f"unknown arm {arm!r}: {suggestion(arm, ARMS, after=' ')}known are {'; '.join(ARMS)}")
        if not self.data.is_file():
            raise BenchmarkError(f"there is no file {self.data}; check the spelling, or make one by `mlff data hamiltonian`")
        keep_settings(
            self.output,
            {
                "data": fingerprint(self.data), "epochs": self.epochs, "valid": self.valid, "test": self.test,
                "energies": self.energies,
            },
        )  # fmt: skip

    def _rows(
        self, arm: str, seed: int, frames: MatrixFrames, test: list[MatrixFrame], energies: OneShot
    ) -> list[dict[str, Any]]:
        """Rows of an arm, kept or trained now."""
        before = ARMS[arm].get("on")
        spent = 0.0
        if before is not None:
            spent = self._rows(before, seed, frames, test, energies)[0]["minutes"] or 0.0
        folder = self._folder(arm, seed)

        def judge(record: dict[str, Any]) -> dict[str, Any]:
            network = load_hamiltonian(folder / "hamiltonian").to_precision("float64")
            size = sum(parameter.numel() for parameter in network.parameters())
            own = {"parameters": size, "minutes": spent + float(record["cpu_minutes"]), "memory": ""}
            if self.memory and seed == self.seeds[0]:
                done = in_child(
                    task="matrices", system=str(folder / "hamiltonian"), data=str(self.data.resolve()), count=MEMORY
                )
                own["memory"] = done["memory_mib"] - done["base_mib"]
            return {"errors": {str(n): _judged(network, frames, test, energies, n) | own for n in _steps(network)}}

        result = result_of(folder, self._recipe(arm, seed), judge)
        named = {"arm": arm, "seed": seed, "failed": result.get("failed", "")}
        if "failed" in result:
            return [named | dict.fromkeys(FIGURES, "")]
        return [
            named | {"arm": f"{arm}, n = {n}" if int(n) else arm} | figures for n, figures in result["errors"].items()
        ]

    def _folder(self, arm: str, seed: int) -> Path:
        return self.output / f"{seed}-{arm.replace(' ', '_').replace(',', '')}"

    def _recipe(self, arm: str, seed: int) -> HamiltonianRecipe:
        changes = dict(ARMS[arm])
        before, tuned = changes.pop("on", None), changes.pop("orbital_energies", False)
        network: dict[str, Any] = NETWORK | changes
        if before is not None:
            network = {"fine_tune_from": str((self._folder(before, seed) / "hamiltonian").resolve())}
        epochs = self.epochs if before is None else max(1, round(SHARE * self.epochs))
        recipe: dict[str, Any] = {
            "hamiltonian": network,
            "data": {"file": str(self.data.resolve()), "split": {"valid": self.valid, "test": self.test}},
            "loss": {"orbital_energies": WEIGHT if tuned else 0.0},
            "optimizer": {
                "learning_rate": 0.003 if before is None else 0.001, "batch_size": 10, "valid_batch_size": 50,
                "max_epochs": epochs, "warmup_steps": 50, "gradient_clip": 1.0, "ema_decay": 0.99,
            },
            "trainer": {
                "device": "cpu", "precision": "float64", "seed": seed, "validate_every": min(5, epochs),
                "checkpoint_every": min(5, epochs),
            },
        }  # fmt: skip
        return cast("HamiltonianRecipe", parse_recipe(recipe, self.output / "recipe.yaml"))


def _steps(network: HamiltonianNetwork) -> Sequence[int]:
    """Numbers of steps that a network is judged with; 0 for a regression."""
    return STEPS if network.config["flow"] else (0,)


def _judged(
    network: HamiltonianNetwork, frames: MatrixFrames, test: list[MatrixFrame], energies: OneShot, steps: int
) -> dict[str, Any]:
    """Errors of a network with a number of steps, and its processor time for a molecule in a batch, in milliseconds.

    `noise` is the mean difference of entries between two draws of a flow.

    Raises:
        EvaluationError: A prediction is not finite.
    """

    def predict(part: list[MatrixFrame], seed: int) -> list[Matrix]:
        return predict_fock(
            network, [one.atoms for one in part], overlaps=[overlap_of(one) for one in part],
            initials=[cast("Matrix", one.initial) for one in part] if network.needs_initial else None,
            steps=steps or None, seed=seed,
        )  # fmt: skip

    predict(test[:1], 0)
    began = time.process_time()
    found = predict(test, 0)
    ms = 1000.0 * (time.process_time() - began) / len(test)
    if not all(np.isfinite(one).all() for one in found):
        raise EvaluationError(f"a predicted Fock matrix is not finite after {steps} steps; train for more epochs")
    noise: float | str = ""
    if steps:
        noise = float(np.mean([np.abs(a - b).mean() for a, b in zip(found, predict(test, 1), strict=True)]))
    return _errors(found, frames, test, energies) | {"noise": noise, "ms": ms}


def _errors(
    found: Sequence[Matrix], frames: MatrixFrames, test: list[MatrixFrame], energies: OneShot
) -> dict[str, float | str]:
    """Errors of matrices and of their one-shot energies, Hartree; empty for what there is not."""
    sums: dict[str, MatrixSums] = defaultdict(MatrixSums)
    for matrix, frame in zip(found, test, strict=True):
        add_matrices(sums, {"": matrix}, frame, frames.basis)
    errors = asdict(sums[""].errors()) | {"energy": energies(found)}
    shown = {name: errors[name] for name in ("all", "atoms", "pairs", "occupied", "gap", "cosine", "energy")}
    return {name: "" if value is None or math.isnan(value) else value for name, value in shown.items()}


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means by arm over the seeds that did not fail, energies in 1e-6 Hartree, and ranges over seeds; `-` for none."""
    found = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = [row for row in rows if row["arm"] == arm and not row["failed"]]
        line: dict[str, Any] = {"arm": arm, "seeds": len(mine)}
        for key in FIGURES:
            values = [_shown(key, row[key]) for row in mine if row[key] != ""]
            line[key] = statistics.fmean(values) if values else "-"
            line[f"{key} range"] = f"{min(values):.4g} to {max(values):.4g}" if len(values) > 1 else "-"
        found.append(line)
    return found


def _shown(key: str, value: float) -> float:
    """Energies in 1e-6 Hartree, cosines in percent."""
    return value * (1e6 if key in ("all", "atoms", "pairs", "occupied", "gap", "energy", "noise") else 1.0) * (
        100.0 if key == "cosine" else 1.0
    )
