"""What is claimed of potential score matching in a form that takes seconds: exact fields and fits in closed form."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mlff_calc.bench.studies.double_well import left_share
from mlff_calc.bench.studies.model_clusters import lennard_jones
from mlff_calc.bench.studies.pairwise_score import relative_error
from mlff_calc.errors import BenchmarkError
from mlff_calc.score import Target
from mlff_calc.score.moments import centred, information_of, virial_ratio

FILE = Path(os.environ.get("MLFF_DATA", "/nowhere")) / "boltzmann" / "lj13.npz"


@pytest.fixture(scope="module")
def lj13() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """300 equilibrium frames of LJ13 from 100 of our own Markov chains (`accepted_langevin`): positions, energies, F/kT."""
    positions = centred(np.load(Path(__file__).with_name("lj13_frames.npy")).astype(np.float64))
    energies, forces = lennard_jones(positions)
    return positions, energies, forces


def test_virial_is_the_number_of_degrees_of_freedom(lj13: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    positions, _, forces = lj13
    ratio, error = virial_ratio(positions, forces, 3)
    assert abs(ratio - 1.0) < 4.0 * error
    assert error < 0.12


@pytest.mark.skipif(not FILE.is_file(), reason="needs the data set boltzmann/lj13.npz (MLFF_DATA)")
def test_published_samples_have_the_energies_of_this_convention() -> None:
    positions = np.load(FILE)["samples"].astype(np.float64)
    energies, forces = lennard_jones(centred(positions))
    assert energies.mean() == pytest.approx(-43.13, abs=0.5)
    ratio, error = virial_ratio(positions, forces, 3)
    assert abs(ratio - 1.0) < 3.0 * error


def test_errors_of_the_two_targets_are_uncorrelated(lj13: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    scores = torch.from_numpy(lj13[2])
    noise = torch.randn(scores.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    products = (scores * -(noise - noise.mean(dim=1, keepdim=True))).sum(dim=(1, 2))
    mean, error = float(products.mean()), float(products.std() / len(products) ** 0.5)
    assert abs(mean) < 3.0 * error


@pytest.mark.parametrize(("n", "draws"), [(10, 2), (50, 2)])
def test_forces_are_worth_most_with_few_frames(
    lj13: tuple[np.ndarray, np.ndarray, np.ndarray], n: int, draws: int
) -> None:
    positions, _, scores = lj13
    held_out = positions[200:], scores[200:]
    information = information_of(scores, 3)
    errors = {
        name: np.mean(
            [
                relative_error(
                    positions[s * n : s * n + n], scores[s * n : s * n + n], held_out, Target(name, information), 0.02,
                    draws=draws, seed=s,
                )
                for s in range(4)
            ]
        )
        for name in ("dsm", "optimal")
    }  # fmt: skip
    assert errors["optimal"] <= (0.3 if n == 10 else 0.5) * errors["dsm"]


def test_forces_help_little_with_many_frames_of_low_energy(lj13: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    positions, energies, scores = lj13
    low = np.random.default_rng(0).permutation(np.argsort(energies)[:150])
    held_out, information = (positions, scores), information_of(scores, 3)
    errors = [
        relative_error(positions[low], scores[low], held_out, Target(name, information), 0.02, draws=6)
        for name in ("dsm", "optimal")
    ]
    assert 0.5 * errors[0] < errors[1] < 0.95 * errors[0]


def test_forces_repair_bias_across_low_barriers_only() -> None:
    found = {
        (barrier, name): left_share(barrier, name, 2.0 if name == "piecewise" else None, n=5000, steps=120)
        for barrier in (1.0, 8.0)
        for name in ("dsm", "piecewise")
    }
    assert found[1.0, "dsm"] >= 0.85
    assert found[1.0, "piecewise"] <= 0.75
    assert found[8.0, "piecewise"] == pytest.approx(found[8.0, "dsm"], abs=0.05)


def test_arms_are_trained_drawn_and_kept(tmp_path: Path) -> None:
    from ase import Atoms

    from mlff_calc.bench.studies.model_clusters import Cluster, ClusterEvaluator
    from mlff_calc.bench.studies.score_matching import Study, summary
    from mlff_calc.bench.studies.score_subjects import Subject

    def springs(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return 2.0 * (centred(positions) ** 2).sum(axis=(1, 2)), -4.0 * centred(positions)

    random = np.random.default_rng(0)
    frames = [Atoms("Ar3", place) for place in centred(random.normal(size=(240, 3, 3)) / 2.0)]
    for atoms in frames:
        energy, force = springs(atoms.positions[None])
        atoms.info["energy"], atoms.arrays["forces"] = float(energy[0]), force[0]
    subject = Subject("springs", frames, ClusterEvaluator(Cluster("springs", 3, 3, springs, "")), 1.0, 3, bonded=False)
    study = Study(tmp_path, minutes=0.01, seeds=(0,), n=30, n_train=60, steps=6)
    rows = study.run(subject)
    assert len(rows) == 3 * 4 + 3
    assert {"mean shift", "energy W1", "energy W1 floor", "energy TV", "distances TV"} <= rows[0].keys()
    by_arm = {row["arm"]: row for row in summary(rows)}
    assert by_arm["training frames"]["mean shift"] < -1.0  # those below the median
    assert abs(by_arm["Markov chains"]["mean shift"]) < 1.5
    assert 1.0 <= by_arm["optimal, weights"]["effective"] <= 30.0
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert study.run(subject) == rows
    now = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.suffix == ".npz"}
    assert now.items() <= made.items()
    with pytest.raises(BenchmarkError, match=r"holds results with .* choose another --output"):
        Study(tmp_path, minutes=0.02, seeds=(0,), n=30, n_train=60, steps=6).run(subject)
