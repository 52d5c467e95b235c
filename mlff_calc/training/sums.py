"""Sums of absolute and squared errors for MAE and RMSE; they stay on the device until they are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mlff_calc.graph.keys import get_key
from mlff_calc.potential.keys import ENERGY

PER_ATOM = "_per_atom"
"""Suffix of quantities that were divided by the number of atoms."""
EXTENSIVE = (ENERGY,)
"""Labels whose errors are also reported per atom."""


@dataclass(frozen=True)
class Errors:
    """Errors of one quantity over `count` numbers (frames, components of forces, components of stress).

    Attributes:
        mae: Mean absolute error, in `unit`.
        rmse: Root mean square error, in `unit`.
        count: Number of compared values.
        unit: Unit of `mae` and `rmse`: meV, meV/atom, meV/Angstrom, meV/Angstrom^3, or the label's own.
    """

    mae: float
    rmse: float
    count: int
    unit: str


@dataclass
class ErrorSums:
    """Running sums, one row (sum of |x|, sum of x^2, count) for each quantity, by the registered key of its label."""

    rows: dict[str, Tensor] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """Names of the quantities that are labels."""
        return [name for name in self.rows if not name.endswith(PER_ATOM)]

    def add(self, outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor], n_atoms: Tensor) -> None:
        """Add the errors of a batch, for all labels that are among the outputs.

        Args:
            outputs: Outputs of the network, in the shapes and units of the labels.
            labels: Labels by registered key.
            n_atoms: Numbers of atoms [n_systems].
        """
        for name in labels:
            if name not in outputs:
                continue
            output, label = outputs[name].detach().double(), labels[name].double()
            self.add_pairs(name, output, label)
            if name in EXTENSIVE:
                self.add_pairs(name + PER_ATOM, output / n_atoms, label / n_atoms)

    @classmethod
    def of_frame(cls, predicted: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], n_atoms: int) -> ErrorSums:
        """Sums of one frame: `energy` [] eV, `forces` [n_atoms, 3] eV/Angstrom, `stress` [3, 3] eV/Angstrom^3."""
        found = cls()
        outputs, known = ({k: torch.as_tensor(v).double() for k, v in each.items()} for each in (predicted, labels))
        found.add(outputs, known, torch.tensor(n_atoms))
        return found

    def merge(self, other: ErrorSums) -> None:
        """Add other sums to these."""
        for name, row in other.rows.items():
            self.rows[name] = self.rows[name] + row if name in self.rows else row

    def add_pairs(self, name: str, output: Tensor, label: Tensor) -> None:
        """Add the errors of `output` against `label`, both of the same shape.

        A NaN in `label` means that there is no label, and is skipped. A NaN in `output` makes the errors NaN.
        """
        present = ~torch.isnan(label)
        error = torch.where(present, output - label, torch.zeros_like(label))
        row = torch.stack([error.abs().sum(), error.square().sum(), present.sum().to(error.dtype)])
        self.rows[name] = self.rows[name] + row if name in self.rows else row

    def reduce(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """Sum every row over processes."""
        self.rows = {name: reduce(row) for name, row in self.rows.items()}

    def mean_squares(self) -> dict[str, float]:
        """Mean square of each quantity, over entries and components."""
        found = {name: row.tolist() for name, row in self.rows.items()}
        return {name: squared / count for name, (_, squared, count) in found.items() if count > 0}

    def errors(self) -> dict[str, Errors]:
        """Compute MAE and RMSE of each quantity that had labels; quantities in eV are given in thousandths (meV)."""
        found: dict[str, Errors] = {}
        for name in sorted(self.rows):
            absolute, squared, count = self.rows[name].tolist()
            if count > 0:
                unit = get_key(name.removesuffix(PER_ATOM)).unit + "/atom" * name.endswith(PER_ATOM)
                mae, rmse = absolute / count, math.sqrt(squared / count)
                found[name] = (
                    Errors(1000.0 * mae, 1000.0 * rmse, int(count), f"m{unit}")
                    if unit.startswith("eV")
                    else Errors(mae, rmse, int(count), unit)
                )
        return found
