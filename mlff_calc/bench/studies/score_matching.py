"""Potential score matching beside plain diffusion, on biased halves of equilibrium samples.

Of reference frames, those below the median energy are the training data. Score models learn from noise alone (DSM), from the
optimal mixture of noise and forces, in molecules also from that mixture by direction, and from forces in a wide window of
small noise; all have the same network, frames and processor time. Structures are drawn from each, as they are and after
Langevin steps with the same model, and compared with all reference frames. Beside them stand arms without forces in the
training: DSM and the training frames themselves followed by Langevin steps with the exact force, a Markov chain from the
training frames, and all models with weights by the exact energy. Every distance stands beside that of reference frames from
each other.

Trained models and drawn structures are kept in the folder and not made again; comparisons are.

Source: Guo et al., "Potential score matching" (2025), for what is compared.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from mlff_calc.bench.studies.kept import keep_settings
from mlff_calc.bench.studies.score_subjects import Subject, write_frames
from mlff_calc.errors import BenchmarkError
from mlff_calc.near import suggestion
from mlff_calc.sampling.compare import compare_samples
from mlff_calc.sampling.diffusion import ExactForce, ModelScore, Space, Walked, accepted_langevin, draw, langevin
from mlff_calc.sampling.model_samples import PILOT, STEP
from mlff_calc.sampling.reweighting import effective_sample_size, normalized
from mlff_calc.sampling.systems import FloatArray
from mlff_calc.score import ScoreModel, load_score_model
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.training.run import train
from mlff_calc.whole_files import write_whole

ARMS: dict[str, dict[str, Any]] = {
    "DSM": {"target": "dsm"},
    "optimal": {"target": "optimal"},
    "window": {"target": "piecewise"},
    "directional": {"target": "directional"},
}
WINDOW = 3.0
"""Noise below which the arm `window` learns from forces, in units of 1/sqrt(I). Raising it repairs more bias across
barriers, and learns a field that does not lead back from far away."""
LANGEVIN = 50
CHAINS, CHAIN_STEPS = 64, 1000


@dataclass(frozen=True)
class Structures:
    """What an arm draws.

    Attributes:
        arm: Name of the arm.
        positions: [n, n_atoms, 3] Angstrom.
        energies: Energies over kT [n].
        weights: Weights [n]; None for equal ones.
        calls: Number of exact energies and forces that the draw needed.
    """

    arm: str
    positions: FloatArray
    energies: FloatArray
    weights: FloatArray | None = None
    calls: int = 0

    @classmethod
    def of(
        cls, arm: str, positions: torch.Tensor, energies: torch.Tensor, weights: FloatArray | None = None, calls: int = 0
    ) -> Structures:
        """Take them out of tensors."""
        return cls(arm, positions.numpy(), energies.numpy(), weights, calls)


def _write(path: Path, sets: Sequence[Structures]) -> None:
    arrays: dict[str, Any] = {"arms": np.array([one.arm for one in sets]), "calls": np.array([one.calls for one in sets])}
    for k, one in enumerate(sets):
        arrays |= {f"positions{k}": one.positions, f"energies{k}": one.energies}
        if one.weights is not None:
            arrays[f"weights{k}"] = one.weights
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def _read(path: Path) -> list[Structures]:
    with np.load(path) as kept:
        return [
            Structures(str(arm), kept[f"positions{k}"], kept[f"energies{k}"], kept.get(f"weights{k}"), int(kept["calls"][k]))
            for k, arm in enumerate(kept["arms"])
        ]


@dataclass(frozen=True)
class Study:
    """How the arms are compared.

    Attributes:
        output: Folder of trainings and results.
        minutes: Processor minutes of each training.
        seeds: Seeds of frames, weights and draws.
        n: Number of structures that are drawn.
        n_train: Number of training frames.
        steps: Number of steps of the reverse diffusion.
        arms: Names of the models from `ARMS`; those that need bonds are left out for clusters.
    """

    output: Path
    minutes: float = 2.0
    seeds: Sequence[int] = (0, 1, 2)
    n: int = 500
    n_train: int = 500
    steps: int = 200
    arms: Sequence[str] = tuple(ARMS)

    def __post_init__(self) -> None:
        for arm in self.arms:
            if arm not in ARMS:
                raise BenchmarkError(f"unknown arm {arm!r}: {suggestion(arm, ARMS, after=' ')}known are {', '.join(ARMS)}")

    def run(self, subject: Subject, on_done: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
        """Train, draw and compare; rows of arm, seed and distances."""
        keep_settings(
            self.output,
            {"minutes": self.minutes, "n": self.n, "n_train": self.n_train, "steps": self.steps, "window": WINDOW},
        )
        rows: list[dict[str, Any]] = []
        for seed in self.seeds:
            frames = self._training_frames(subject, seed)
            for arm in (*self._arms(subject), "no model"):
                kept = self.output / f"{subject.name}-{seed}-{arm.replace(' ', '_')}.npz"
                if not kept.is_file():
                    self.output.mkdir(parents=True, exist_ok=True)
                    _write(kept, self._arm(subject, arm, frames, seed))
                rows += [self._row(subject, seed, one) for one in _read(kept)]
                if on_done is not None:
                    on_done(f"{subject.name}, seed {seed}: {arm}")
        return rows

    def _arms(self, subject: Subject) -> list[str]:
        """Arms with a model; the stiffness by direction is that of bonds."""
        return [arm for arm in self.arms if subject.bonded or arm != "directional"]

    def _training_frames(self, subject: Subject, seed: int) -> list[Atoms]:
        """Frames below the median energy, training frames first, then as many again at most for validation."""
        low = np.flatnonzero(subject.energies <= np.median(subject.energies))
        chosen = np.random.default_rng(seed).permutation(low)[: self.n_train + 200]
        return [subject.frames[k] for k in chosen]

    def _arm(self, subject: Subject, arm: str, frames: list[Atoms], seed: int) -> list[Structures]:
        random = torch.Generator().manual_seed(1000 + seed)
        space = Space(len(frames[0]), subject.dimensions)
        exact = ExactForce(subject.evaluator, subject.copies(self.n), subject.kT)
        if arm == "no model":
            return self._without_model(subject, exact, frames, space, random)
        model = self._trained(subject, arm, frames, seed)
        score = ModelScore(model)
        pilot = draw(score, model.schedule, space, model.spread, PILOT, steps=self.steps, random=random)
        drawn = draw(
            score, model.schedule, space, model.spread, self.n, steps=self.steps, random=random,
            narrowing=pilot.narrowing,
        )  # fmt: skip
        step, low = STEP / model.target.information, model.schedule.sigma_min
        energies, _ = exact(drawn.positions)
        weights = normalized((drawn.log_ratio - energies).numpy())
        found = [
            Structures.of(arm, drawn.positions, energies),
            Structures.of(f"{arm}, weights", drawn.positions, energies, weights=weights, calls=self.n),
        ]
        moved = langevin(lambda x: score(x, low), drawn.positions, space, step=step, steps=LANGEVIN, random=random)
        found.append(Structures.of(f"{arm} + its Langevin", moved, exact(moved)[0]))
        walked = accepted_langevin(exact, drawn.positions, space, step=step, steps=LANGEVIN, random=random)
        return [*found, self._walked(f"{arm} + exact Langevin", walked, subject.kT)]

    @staticmethod
    def _walked(arm: str, walked: Walked, kT: float) -> Structures:
        return Structures.of(arm, walked.positions, torch.from_numpy(walked.energies) / kT, calls=walked.calls)

    def _without_model(
        self, subject: Subject, exact: ExactForce, frames: list[Atoms], space: Space, random: torch.Generator
    ) -> list[Structures]:
        """Training frames as they are, with exact Langevin steps, and as starts of Markov chains."""
        train = torch.from_numpy(np.stack([atoms.positions for atoms in frames[: self.n_train]]))
        train = train - train.mean(dim=1, keepdim=True)
        start = train[torch.arange(self.n) % len(train)]
        energies, scores = exact(start)
        step = STEP / float(scores.square().sum(dim=(1, 2)).mean() / space.degrees)
        walked = accepted_langevin(exact, start, space, step=step, steps=LANGEVIN, random=random)
        found = [
            Structures.of("training frames", start, energies),
            self._walked("training frames + exact Langevin", walked, subject.kT),
        ]
        chains = ExactForce(subject.evaluator, subject.copies(CHAINS), subject.kT)
        place, kept, last = start[:CHAINS], [], []
        length = max(1, -(-self.n // CHAINS))
        for number in range(2 * length):
            steps = CHAIN_STEPS // (2 * length)
            part = accepted_langevin(chains, place, space, step=4.0 * step, steps=steps, random=random)
            place = part.positions
            if number >= length:
                kept.append(place)
                last.append(torch.from_numpy(part.energies) / subject.kT)
        joined, reduced = torch.cat(kept)[: self.n], torch.cat(last)[: self.n]
        return [*found, Structures.of("Markov chains", joined, reduced, calls=chains.calls)]

    def _trained(self, subject: Subject, arm: str, frames: list[Atoms], seed: int) -> ScoreModel:
        """The score model of an arm, trained now or before."""
        name = f"{subject.name}-{seed}"
        data = self.output / f"{name}.extxyz"
        self.output.mkdir(parents=True, exist_ok=True)
        if not data.is_file():
            copies = [atoms.copy() for atoms in frames]
            for atoms in copies:
                atoms.info = {"REF_energy": atoms.info["energy"]}
                atoms.arrays["REF_forces"] = atoms.arrays.pop("forces")
            write_frames(data, copies)
        folder = self.output / f"{name}-{arm}"
        if not (folder / "score").is_dir():
            loss = dict(ARMS[arm])
            if arm == "window":
                forces = np.stack([atoms.arrays["forces"] for atoms in frames]) / subject.kT
                loss["window"] = float(WINDOW / np.sqrt((forces**2).sum(axis=(1, 2)).mean() / self._degrees(subject)))
            recipe = self._recipe(subject, data, len(frames), loss, seed)
            train(parse_recipe(recipe, self.output / "recipe.yaml"), output=folder, resume=(folder / "run.json").is_file())
        return load_score_model(folder / "score")

    @staticmethod
    def _degrees(subject: Subject) -> int:
        return subject.dimensions * (len(subject.frames[0]) - 1)

    def _recipe(
        self, subject: Subject, data: Path, n_frames: int, loss: dict[str, Any], seed: int
    ) -> dict[str, Any]:
        backbone = {"name": "hegnn", "l_max": 2, "channels": 64, "n_layers": 3, "n_basis": 24}
        bonds = "auto" if subject.bonded else "none"
        n_train = min(self.n_train, n_frames - 50)
        return {
            "score": {"backbone": backbone, "kT": subject.kT, "bonds": bonds},
            "data": {
                "train": {"file": str(data.resolve()), "keys": {"energy": "REF_energy", "forces": "REF_forces"}},
                "split": {"train": n_train, "valid": min(200, n_frames - n_train), "seed": seed},
            },
            "loss": loss,
            "optimizer": {
                "learning_rate": 0.003, "batch_size": 32, "valid_batch_size": 100, "max_cpu_minutes": self.minutes,
                "ema_decay": 0.998,
            },
            "trainer": {"device": "cpu", "validate_every": 10, "checkpoint_every": 10, "seed": seed},
        }  # fmt: skip

    def _row(self, subject: Subject, seed: int, drawn: Structures) -> dict[str, Any]:
        """Distances of drawn structures from all reference frames."""
        structures = [Atoms(subject.frames[0].numbers, place) for place in drawn.positions]
        for k, atoms in enumerate(structures):
            atoms.info["energy"] = float(drawn.energies[k]) * subject.kT
            if drawn.weights is not None:
                atoms.info["weight"] = float(drawn.weights[k])
        found = compare_samples(subject.frames, structures, kT=subject.kT, seed=seed)
        row: dict[str, Any] = {"system": subject.name, "arm": drawn.arm, "seed": seed, "calls": drawn.calls}
        groups: dict[str, list[tuple[float, float]]] = {}
        for one in found.rows:
            name = one.quantity.split(",")[0].split(" ")[0] + " " + one.metric.split(" ")[0]
            groups.setdefault(name, []).append((one.value, one.floor))
        for name, pairs in groups.items():
            row[name] = float(np.mean([value for value, _ in pairs]))
            floor = float(np.mean([floor for _, floor in pairs]))
            if np.isfinite(floor):
                row[f"{name} floor"] = floor
        if drawn.weights is not None:
            row["effective"] = effective_sample_size(drawn.weights)
        return row


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means and standard deviations over seeds, by system and arm."""
    found = []
    for system, arm in dict.fromkeys((row["system"], row["arm"]) for row in rows):
        mine = [row for row in rows if (row["system"], row["arm"]) == (system, arm)]
        line: dict[str, Any] = {"system": system, "arm": arm, "seeds": len(mine), "calls": mine[0]["calls"]}
        for name in mine[0]:
            if name not in ("system", "arm", "seed", "calls"):
                values = [row[name] for row in mine if name in row]
                line[name] = float(np.mean(values))
                line |= {f"{name} sd": float(np.std(values, ddof=1))} if len(values) > 1 else {}
        found.append(line)
    return found
