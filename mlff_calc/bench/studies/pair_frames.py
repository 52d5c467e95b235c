"""A network for Fock matrices in the frames of pairs beside its rival with tensor products: time, memory and errors.

Both have the same widths, layers, heads, data, loss and training loop; see `tensor_network.py`. Steps are timed turn by
turn in one process, peak memory is that of a process of its own, and errors are those after the same processor time.
Results are kept in a folder and not made again.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.build import molecule
from ase.collections import g2

from mlff_calc.bench.backbones import steps_in_turns
from mlff_calc.bench.motion import moving_frames
from mlff_calc.bench.scaling import in_child
from mlff_calc.bench.studies.kept import keep_settings, kept_result
from mlff_calc.bench.studies.tensor_network import build_tensor_network
from mlff_calc.bench.studies.trainings import result_of
from mlff_calc.electronic.hamiltonian import HamiltonianNetwork, build_hamiltonian
from mlff_calc.electronic.hamiltonian.keys import FOCK_ATOMS, FOCK_PAIRS
from mlff_calc.electronic.hamiltonian.predict import matrix_graph
from mlff_calc.errors import BenchmarkError
from mlff_calc.near import suggestion
from mlff_calc.training.data import Batch
from mlff_calc.training.fingerprints import fingerprint
from mlff_calc.training.hamiltonian.objective import HamiltonianObjective
from mlff_calc.training.hamiltonian.recipe import MatrixLoss
from mlff_calc.training.hamiltonian.task import HamiltonianTask
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.version import __version__

SHELLS = {1: [0, 0, 1], **{z: [0, 0, 0, 1, 1, 2] for z in (6, 7, 8, 9)}}
"""Shells of def2-SVP, the basis of the networks that are timed."""
SIZES = {"channels": 16, "hidden": 32, "products": 16, "layers": 2}
FRAMES, TENSORS = "frames of pairs", "tensor products"
BUILD: dict[str, Callable[..., HamiltonianNetwork]] = {FRAMES: build_hamiltonian, TENSORS: build_tensor_network}


class TensorTask(HamiltonianTask):
    """The training of the rival."""

    build = staticmethod(build_tensor_network)


TASKS: dict[str, type[HamiltonianTask]] = {FRAMES: HamiltonianTask, TENSORS: TensorTask}


@dataclass(frozen=True)
class FramesStudy:
    """How both networks are compared.

    Attributes:
        output: Folder of trainings and results.
        degrees: Highest degrees.
        molecules: Formulas of ASE's molecules whose steps are timed.
        batch: Number of molecules in a timed step.
        rounds: Number of rounds over both networks.
        data: File of matrices for trainings; None for no trainings.
        minutes: Processor minutes of each training.
        seeds: Seeds of weights and batches.
        rates: Learning rates; of each network the best counts.
        split: Numbers of molecules of the parts `valid` and `test`.
        sizes: Channels, hidden width, width of products, and number of layers.
    """

    output: Path
    degrees: Sequence[int] = (2, 3, 4)
    molecules: Sequence[str] = ("H2O", "CH3CH2OH")
    batch: int = 10
    rounds: int = 11
    data: Path | None = None
    minutes: float = 2.0
    seeds: Sequence[int] = (0, 1, 2)
    rates: Sequence[float] = (0.003,)
    split: Mapping[str, int] = field(default_factory=lambda: {"valid": 40, "test": 50})
    sizes: Mapping[str, int] = field(default_factory=lambda: dict(SIZES))

    def check(self) -> None:
        """Look whether the study can be made, and write its settings.

        Raises:
            BenchmarkError: A molecule, degree or file does not fit, or the folder holds results of other settings.
        """
        for name in self.molecules:
            molecules_of(name, 1)
        if min(self.degrees, default=0) < 2:
            raise BenchmarkError(f"degrees {list(self.degrees)}: give some of at least 2, that of orbitals of def2-SVP")
        if self.data is not None and not self.data.is_file():
            raise BenchmarkError(f"there is no file {self.data}; check the spelling, or make one by `mlff data hamiltonian`")
        shared = {"sizes": dict(self.sizes), "version": __version__}
        keep_settings(self.output / "costs", shared | {"batch": self.batch, "rounds": self.rounds})
        if self.data is not None:
            own = {"data": fingerprint(self.data), "minutes": self.minutes, "split": dict(self.split)}
            keep_settings(self.output / "trainings", shared | own)

    def costs(self, on_done: Callable[[str], None]) -> list[dict[str, Any]]:
        """Time and peak memory of a training step, and time of a prediction: a row for molecule, degree and network.

        Times are milliseconds of processor time (medians), `ratio` is the median ratio of a step to that in frames of pairs
        in the same round; memories are MiB above those of the process before the step.
        """
        rows = []
        for name in self.molecules:
            for degree in self.degrees:
                kept = self.output / "costs" / f"{name}-{degree}"
                times = kept_result(kept / "time.json", partial(self._times, name, degree))
                for network in BUILD:
                    made = partial(self._memory, name, degree, network)
                    used = kept_result(kept / f"memory-{network.split()[0]}.json", made)
                    rows.append({"molecule": name, "l_max": degree, "network": network, **times[network], **used})
                on_done(f"{self.batch} {name}, l_max {degree}")
        return rows

    def _times(self, name: str, degree: int) -> dict[str, Any]:
        parts = {network: TimedStep(network, name, degree, self.batch, self.sizes) for network in BUILD}
        learn = steps_in_turns({network: one.learn for network, one in parts.items()}, self.rounds, turn=1)
        use = steps_in_turns({network: one.predict for network, one in parts.items()}, self.rounds, turn=1)
        return {
            network: {
                "ms": learn[network]["ms"], "ratio": learn[network]["ratio"], "predict_ms": use[network]["ms"],
                "predict_ratio": use[network]["ratio"], "pairs": one.batch.graph["edge_index"].shape[1],
                "parameters": sum(parameter.numel() for parameter in one.network.parameters()),
            }
            for network, one in parts.items()
        }  # fmt: skip

    def _memory(self, name: str, degree: int, network: str) -> dict[str, Any]:
        return in_child(task="fock", network=network, system=name, degree=degree, batch=self.batch, sizes=dict(self.sizes))

    def errors(self, degrees: Sequence[int], on_done: Callable[[str], None]) -> list[dict[str, Any]]:
        """Errors of matrices after the same processor time, 1e-6 Hartree: a row for each training.

        Args:
            degrees: Highest degrees.
            on_done: Function that is told of each finished training.
        """
        rows = []
        for degree in degrees:
            for seed in self.seeds:
                for network in TASKS:
                    for rate in self.rates:
                        kept = self.output / "trainings" / f"{network.split()[0]}-{degree}-{rate:g}-{seed}"
                        found = self._trained(kept, network, degree, rate, seed)
                        rows.append({"l_max": degree, "network": network, "rate": rate, "seed": seed, **found})
                        on_done(f"{network}, l_max {degree}, rate {rate:g}, seed {seed}: {found['error']:.4g} uHa")
        return rows

    def _trained(self, folder: Path, network: str, degree: int, rate: float, seed: int) -> dict[str, Any]:
        """Train, or go on with a training that was stopped, and judge."""
        if self.data is None:
            raise BenchmarkError("there are no matrices to train on; give a file of `mlff data hamiltonian`")
        recipe: dict[str, Any] = {
            "hamiltonian": {"target": "initial", "l_max": degree, **self.sizes},
            "data": {"file": str(self.data.resolve()), "split": {**self.split, "seed": seed}},
            "optimizer": {
                "learning_rate": rate, "batch_size": 10, "valid_batch_size": 50, "max_cpu_minutes": self.minutes,
                "ema_decay": 0.99, "warmup_steps": 20, "gradient_clip": 1.0,
            },
            "trainer": {"device": "cpu", "seed": seed},
        }  # fmt: skip
        parsed = parse_recipe(recipe, self.output / "recipe.yaml")
        found = result_of(folder, parsed, _judge, TASKS[network]())
        if "failed" in found:
            raise BenchmarkError(f"{network}, l_max {degree}, seed {seed}: {found['failed']}")
        return {key: value for key, value in found.items() if key not in ("errors", "recipe", "version")}


def _judge(record: dict[str, Any]) -> dict[str, Any]:
    """Errors of a finished run, 1e-6 Hartree, as a row of the study, and all as the report has them."""
    errors = record["evaluation"]["errors"]
    model, initial = errors["model"], errors["initial"]
    return {
        "error": 1e6 * model["all"], "occupied": 1e6 * model["occupied"], "gap": 1e6 * model["gap"],
        "initial": 1e6 * initial["all"], "parameters": record["evaluation"]["parameters"], "epochs": record["epochs"],
        "minutes": record["cpu_minutes"], "errors": errors,
    }  # fmt: skip


def molecules_of(name: str, n: int) -> list[Atoms]:
    """Moved copies of one of ASE's molecules.

    Raises:
        BenchmarkError: There is no such molecule, or def2-SVP of its elements is not known here.
    """
    if name not in g2.names:
        raise BenchmarkError(f"ASE has no molecule {name!r}{suggestion(name, g2.names, before='; ')}; give one such as H2O")
    atoms = molecule(name)
    others = sorted(set(atoms.get_chemical_symbols()) - {"H", "C", "N", "O", "F"})
    if others:
        raise BenchmarkError(f"{name} holds {', '.join(others)}; give molecules of H, C, N, O and F")
    found = [atoms.copy() for _ in range(n)]
    for one, positions in zip(found, moving_frames(atoms, n), strict=True):
        one.positions[:] = positions
    return found


class TimedStep:
    """A training step and a prediction of a network with random weights.

    Args:
        network: Name of the network, one of `BUILD`.
        name: Formula of the molecule.
        degree: Highest degree.
        batch: Number of molecules.
        sizes: Sizes of the network.
    """

    def __init__(self, network: str, name: str, degree: int, batch: int, sizes: Mapping[str, int]) -> None:
        config = {"basis": {"name": "def2-svp", "shells": SHELLS}, "target": "means", "l_max": degree, **sizes}
        self.network = BUILD[network](config, seed=0)
        self.batch = self.batch_of(name, batch)
        self.objective = HamiltonianObjective(MatrixLoss(), self.network)

    def batch_of(self, name: str, n: int) -> Batch:
        """Molecules with matrices of zeros for labels."""
        molecules = molecules_of(name, n)
        graph, _ = matrix_graph(self.network, molecules)
        width = self.network.width
        labels = {
            FOCK_ATOMS: torch.zeros(len(graph["atomic_numbers"]), width, width),
            FOCK_PAIRS: torch.zeros(graph["edge_index"].shape[1], width, width),
        }
        return Batch(graph, labels, torch.tensor([len(one) for one in molecules]), list(range(n)))

    def learn(self) -> None:
        """Forward and backward pass with the loss of trainings."""
        self.network.zero_grad()
        self.objective.loss(self.network(self.batch.graph), self.batch).backward()

    @torch.no_grad()
    def predict(self) -> None:
        """Forward pass without derivatives."""
        self.network(self.batch.graph)


def step_memory(
    peak: Callable[[], float], network: str, system: str, degree: int, batch: int, sizes: Mapping[str, int]
) -> dict[str, Any]:
    """Peak memory of a training step, MiB above that of the process before; `peak` gives that of the process so far.

    Other arguments are those of `TimedStep`.
    """
    torch.set_num_threads(1)
    step = TimedStep(network, system, degree, 1, sizes)
    step.learn()  # loads libraries
    step.batch = step.batch_of(system, batch)
    before = peak()
    step.learn()
    return {"memory_mib": peak() - before}


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and largest error over seeds by degree and network, at the learning rate with the lowest mean."""
    found = []
    for degree, network in dict.fromkeys((row["l_max"], row["network"]) for row in rows):
        mine = [row for row in rows if (row["l_max"], row["network"]) == (degree, network)]
        by_rate = {rate: [row for row in mine if row["rate"] == rate] for rate in {row["rate"] for row in mine}}
        rate = min(by_rate, key=lambda rate: statistics.fmean(row["error"] for row in by_rate[rate]))
        best = by_rate[rate]
        keys = ("error", "occupied", "gap", "initial", "epochs")
        means = {key: statistics.fmean(row[key] for row in best) for key in keys}
        worst = max(row["error"] for row in best)
        found.append({"l_max": degree, "network": network, "rate": rate, "seeds": len(best), "worst": worst, **means})
    return found
