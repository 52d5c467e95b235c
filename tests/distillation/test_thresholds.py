"""The threshold of a potential with heads of errors, from labelled frames."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.datasets import Sample, read_structures
from mlff_calc.distillation.thresholds import calibrated_copy, measured_threshold
from mlff_calc.errors import DatasetError, OptionError, PotentialFileError, UnknownElementError
from mlff_calc.graph.domain import SPREAD, domain_of
from mlff_calc.networks import read_header
from mlff_calc.potential import Potential, build_potential, load_potential


def waters(n: int) -> list[Atoms]:
    random, found = np.random.default_rng(0), []
    for _ in range(n):
        atoms = molecule("H2O")
        atoms.positions += random.normal(scale=0.05, size=(3, 3))
        found.append(atoms)
    return found


def small(*, heads: bool = True) -> Potential:
    backbone = {"name": "hegnn", "cutoff": 4.0, "l_max": 1, "channels": 4, "n_layers": 1}
    made = build_potential({"backbone": backbone, "elements": ["H", "O"]} | ({"uncertainty": {}} if heads else {}), seed=0)
    made.domain = domain_of(waters(60), made.cutoff)
    return made.eval()


def labelled(potential: Potential, n: int) -> list[Sample]:
    """Frames whose worst force is wrong by twice the largest spread of the frame, in the last atom alone."""
    calculator, found = MLFFCalculator(potential, precision="float32"), []
    for number, atoms in enumerate(waters(n)):
        results = calculator.evaluate(atoms)
        forces = results["forces"].copy()
        forces[-1, 0] += 2.0 * np.linalg.norm(results["forces_std"], axis=1).max()
        found.append(Sample(atoms, energy=0.0, forces=forces, frame=number))
    return found


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Folder with a potential with heads of errors, and 60 labelled frames beside it."""
    potential = small()
    potential.save(tmp_path / "one", card="# one\n\ntext", recipe="potential: {}\n")
    frames = []
    for sample in labelled(potential, 60):
        atoms = sample.atoms.copy()
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=sample.forces)
        frames.append(atoms)
    ase.io.write(tmp_path / "frames.extxyz", frames)
    return tmp_path


def test_the_bound_is_the_error_and_the_threshold_that_of_the_tolerance() -> None:
    potential = small()
    samples = labelled(potential, 60)
    found = measured_threshold(potential, samples, 1.0)
    spreads = np.array(found.calibration.spreads)
    assert np.allclose(np.array(found.calibration.bounds) / spreads, 2.0, rtol=0.02)
    assert found.spread == pytest.approx(0.5, rel=0.02)
    assert found.covered >= 0.85
    assert found.outside == float(np.mean([
        np.linalg.norm(MLFFCalculator(potential).evaluate(one.atoms)["forces_std"], axis=1).max() > found.spread
        for one in samples
    ]))  # fmt: skip


def test_a_copy_knows_its_threshold_and_says_so_once(saved: Path) -> None:
    samples = read_structures(saved / "frames.extxyz")
    found = calibrated_copy(saved / "one", samples, 0.7, saved / "two")
    again = calibrated_copy(saved / "two", samples, 0.35, saved / "three")
    assert again.spread == pytest.approx(found.spread / 2.0)
    potential = load_potential(saved / "three")
    assert potential.domain == {**small().domain, SPREAD: again.spread}
    card = (saved / "three" / "card.md").read_text()
    assert card.startswith("# one\n\ntext\n\n## Threshold of the spread\n\nThreshold: where the largest `forces_std`")
    assert card.count("Threshold of the spread") == 1
    assert "wrong by more than 0.35 eV/Angstrom, measured on 60 frames" in card
    assert read_header(saved / "three")["provenance"]["calibration"]["n_frames"] == 60
    with pytest.raises(PotentialFileError, match="two exists already"):
        calibrated_copy(saved / "one", samples, 0.7, saved / "two")


def test_what_cannot_be_calibrated_is_refused(saved: Path) -> None:
    samples = read_structures(saved / "frames.extxyz")
    with pytest.raises(OptionError, match=r"the tolerance is -1 eV/Angstrom; give a positive number"):
        measured_threshold(small(), samples, -1.0)
    with pytest.raises(OptionError, match=r"no heads of errors; train it with the section potential.uncertainty"):
        measured_threshold(small(heads=False), samples, 0.3)
    with pytest.raises(DatasetError, match=r"39 of 39 frames have forces; a threshold needs at least 40"):
        measured_threshold(small(), samples[:39], 0.3)
    samples[0].atoms.symbols[0] = "C"
    with pytest.raises(UnknownElementError, match=r"unknown element C \(atom 0 of the frames\); this potential knows H O"):
        measured_threshold(small(), samples, 0.3)
    samples[0].atoms.symbols[0] = "O"
    potential = small()
    potential.domain = None
    potential.save(saved / "unknown")
    with pytest.raises(OptionError, match=r"unknown does not say what it was trained on"):
        calibrated_copy(saved / "unknown", samples, 0.3, saved / "copy")
    assert not (saved / "copy").exists()


def test_the_command(saved: Path, mlff: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    line = ("calibrate", "one", "frames.extxyz", "-o", "two", "--tolerance", 0.5)
    done = mlff(*line, cwd=saved)
    assert done.returncode == 0, done.stderr
    assert "threshold: a spread of " in done.stdout
    again = mlff(*line, cwd=saved)
    assert again.returncode == 1
    assert "two exists already; give another --output, or --overwrite" in again.stderr
    assert mlff(*line, "--overwrite", "--quiet", cwd=saved).stdout == ""
