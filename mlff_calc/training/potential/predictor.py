"""Energies, forces and stresses of the frames of a file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress

from mlff_calc.datasets import Sample
from mlff_calc.heads.uncertainty import ENERGY_STD, FORCES_STD
from mlff_calc.potential.evaluate import check_elements
from mlff_calc.training.potential.data import graph_frames
from mlff_calc.training.potential.evaluate import loaded_for_batches, predict_batch
from mlff_calc.training.predict import FramePrediction, Predictor


class PotentialPredictor(Predictor):
    """A potential or an exported file.

    Args:
        potential: Name of a shipped potential, a folder, or an exported file.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `float32`, `mixed`, `float64`; None for float32, or for an exported file's own precision.
        trust: Whether to open an exported file that this user did not export on this machine.

    Raises:
        PotentialFileError: There is no such potential.
        OptionError: The device is not available.
    """

    batch_size = 16

    def __init__(self, potential: str, *, device: str = "auto", precision: str | None = None, trust: bool = False) -> None:
        self.model, self.device = loaded_for_batches(potential, device, precision, trust)

    def check(self, atoms: Atoms) -> None:
        """Refuse elements that the potential does not know."""
        check_elements(atoms.numbers, self.model)

    def predict(self, samples: Sequence[Sample]) -> list[FramePrediction]:
        """Energies (eV), forces (eV/Angstrom), and stress (eV/Angstrom^3) of periodic structures with a volume.

        Potentials with heads of errors also give `energy_std` and `forces_std`.
        """
        batch = graph_frames(samples, self.model.cutoff).batch(list(range(len(samples))))
        found = []
        for sample, outputs in zip(samples, predict_batch(self.model, batch, samples, self.device), strict=True):
            results = {name: value if value.ndim else float(value) for name, value in outputs.items()}
            spreads = {name: np.asarray(results.pop(name)) for name in (ENERGY_STD, FORCES_STD) if name in results}
            info = {name: float(value) for name, value in spreads.items() if not value.ndim}
            arrays = {name: value for name, value in spreads.items() if value.ndim}
            stress = results.pop("stress", None)
            if stress is not None and sample.atoms.pbc.any() and sample.atoms.cell.rank == 3:
                results["stress"] = full_3x3_to_voigt_6_stress(stress)
            found.append(FramePrediction(results, info, arrays))
        return found
