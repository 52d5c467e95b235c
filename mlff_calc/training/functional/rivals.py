"""What else could be trained on the same energies: a potential on them, and one on differences from the base functional.

Both are potentials of this package with the backbone of its example, trained on energies alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.units import Hartree
from numpy.typing import NDArray

from mlff_calc.datasets import Sample
from mlff_calc.errors import DatasetError

FORCE_FIELD, DIFFERENCE = "force field", "base + difference"
STEPS = 2000
"""Number of steps of the training of a rival. More steps cost time and help little with some tens of energies."""
BATCH = 5
CHANNELS = 32
FEWEST = 8
"""Smallest number of energies that rivals are trained on."""
_KEY = "rival_energy"


def rival_energies(
    train: Sequence[Sample],
    bases: NDArray[np.float64],
    samples: Sequence[Sample],
    sample_bases: NDArray[np.float64],
    *,
    seed: int = 0,
    steps: int = STEPS,
) -> dict[str, NDArray[np.float64]]:
    """Train both rivals, and return the energies that they predict.

    Args:
        train: Molecules with energies, a sixth of which chooses the best weights.
        bases: Energies of the base functional of these molecules, Ha.
        samples: Molecules to predict energies of.
        sample_bases: Energies of the base functional of these, Ha.
        seed: Seed of weights, order and parts.
        steps: Number of steps of each training.

    Returns:
        Energies [n_samples] in Ha by row: `force field`, and `base + difference` (Delta-learning).

    Raises:
        DatasetError: There are too few molecules.
        UnknownElementError: A sample has an element that the training molecules lack.
    """
    if len(train) < FEWEST:
        raise DatasetError(f"rivals need {FEWEST} energies or more, not {len(train)}; give the file of the training")
    wanted = np.array([float(one.energy or 0.0) for one in train])
    field = _predicted(train, wanted, samples, seed, steps)
    difference = _predicted(train, wanted - bases * Hartree, samples, seed, steps)
    return {FORCE_FIELD: field / Hartree, DIFFERENCE: sample_bases + difference / Hartree}


def _predicted(
    train: Sequence[Sample], energies: NDArray[np.float64], samples: Sequence[Sample], seed: int, steps: int
) -> NDArray[np.float64]:
    """Train a potential on energies (eV), and return what it predicts."""
    from mlff_calc.potential import load_potential
    from mlff_calc.training.potential.evaluate import evaluate
    from mlff_calc.training.recipe import parse_recipe
    from mlff_calc.training.run import train as run

    structures = []
    for sample, energy in zip(train, energies, strict=True):
        atoms = sample.atoms.copy()
        atoms.info = {_KEY: float(energy)}
        structures.append(atoms)
    with tempfile.TemporaryDirectory() as folder:
        ase.io.write(Path(folder) / "train.extxyz", structures, format="extxyz")
        recipe = parse_recipe(_recipe(len(train), seed, steps), Path(folder) / "rival.yaml")
        potential = load_potential(str(run(recipe).model))
    asked = [Sample(one.atoms, 0.0, path=one.path, frame=one.frame) for one in samples]
    report = evaluate(potential.to_precision("float64"), asked)
    return np.array([float(one["energy"]) for one in report.predictions])


def _recipe(n_frames: int, seed: int, steps: int) -> dict[str, Any]:
    n_valid = max(2, n_frames // 6)
    epochs = max(1, round(steps * BATCH / (n_frames - n_valid)))
    every = max(1, epochs // 20)
    return {
        "potential": {"backbone": {"name": "hegnn", "cutoff": 5.0, "l_max": 2, "channels": CHANNELS, "n_layers": 2}},
        "data": {
            "train": "train.extxyz", "split": {"valid": n_valid, "seed": seed}, "keys": {"energy": _KEY},
            "units": {"energy": "eV"},
        },
        "reference_energies": "fit",
        "loss": {"energy": 1.0, "forces": 0.0},
        "optimizer": {"learning_rate": 0.004, "batch_size": BATCH, "max_epochs": epochs, "ema_decay": 0.99},
        "trainer": {"device": "cpu", "seed": seed, "validate_every": every, "checkpoint_every": every},
        "output": "run",
    }  # fmt: skip
