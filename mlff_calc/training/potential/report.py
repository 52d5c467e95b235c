"""The report of an evaluation, as text and for JSON, from the predictions for each frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from mlff_calc.datasets import KINDS, Sample, count_labels
from mlff_calc.datasets.absent import absent_labels
from mlff_calc.datasets.several import short_names
from mlff_calc.datasets.weights import type_of
from mlff_calc.training.potential.error_bars import ErrorBars
from mlff_calc.training.potential.offsets import EnergyOffset, energy_offset
from mlff_calc.training.potential.stress_components import component_errors, order_hint
from mlff_calc.training.recipe_copies import without_folder
from mlff_calc.training.sums import Errors, ErrorSums

Prediction = dict[str, np.ndarray]
"""Outputs of a frame: `energy` [] eV, `forces` [n_atoms, 3] eV/Angstrom and maybe `stress` [3, 3] eV/Angstrom^3,
`energy_std` [] eV and `forces_std` [n_atoms, 3] eV/Angstrom."""


@dataclass
class EvaluationReport:
    """Result of `evaluate`.

    Attributes:
        frames: Number of frames.
        errors: MAE and RMSE by property (`energy` meV, `energy_per_atom` meV/atom, `forces` meV/Angstrom, `stress`
            meV/Angstrom^3).
        by_element: Errors of forces by chemical symbol.
        by_config_type: Errors by kind of configuration, then by property; empty where the data have none.
        pairs: Reference and predicted values by property, flat, in eV, eV/atom, eV/Angstrom, eV/Angstrom^3.
        labels: Number of frames with each label.
        absent: Reasons, by label, why it is not taken from frames, or what they hold in its place.
        files: Number of frames by file, under names that distinguish the files.
        offset: Mean offset of the energies, and the errors without it; None for fewer than two energies.
        stress_components: Errors of the stress by component, xx yy zz yz xz xy.
        hints: Sentences about labels that look wrong.
        predictions: Predictions for each frame.
        error_bars: Agreement of predicted and true errors, where the potential has heads of errors.
    """

    frames: int
    errors: dict[str, Errors]
    by_element: dict[str, Errors]
    by_config_type: dict[str, dict[str, Errors]]
    pairs: dict[str, tuple[np.ndarray, np.ndarray]] = field(repr=False)
    labels: dict[str, int] = field(default_factory=dict)
    absent: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    offset: EnergyOffset | None = None
    stress_components: dict[str, Errors] = field(default_factory=dict)
    hints: list[str] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list, repr=False)
    error_bars: list[ErrorBars] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return everything except pairs and predictions, as plain values for JSON."""
        return {
            "frames": self.frames,
            "files": self.files,
            "labels": self.labels,
            "labels_not_taken": self.absent,
            "errors": _plain(self.errors),
            "energy_offset": None if self.offset is None else asdict(self.offset),
            "forces_by_element": _plain(self.by_element),
            "stress_by_component": _plain(self.stress_components),
            "by_config_type": {kind: _plain(found) for kind, found in self.by_config_type.items()},
            "hints": self.hints,
            **({"error_bars": [asdict(one) for one in self.error_bars]} if self.error_bars else {}),
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table of the card."""
        found = {name.replace("_", " "): errors for name, errors in self.errors.items()}
        for kind, each in self.by_config_type.items() if len(self.by_config_type) > 1 else ():
            found |= {f"{kind}: {name.replace('_', ' ')}": errors for name, errors in each.items()}
        return [("", "MAE", "RMSE", "unit"), *((n, f"{e.mae:.3f}", f"{e.rmse:.3f}", e.unit) for n, e in found.items())]

    def as_text(self) -> str:
        """Return a table of plain text."""
        have = ", ".join(f"{kind} in {count or 'none'}" for kind, count in self.labels.items())
        lines = [f"{self.frames} frames" + (f" ({have})" if have else "")]
        if len(self.files) > 1:
            lines += [f"  {count} of {name}" for name, count in self.files.items()]
        lines += [f"{kind} not taken: {reason}" for kind, reasons in self.absent.items() for reason in reasons]
        lines.append(f"{'':<24} {'MAE':>10} {'RMSE':>10}  unit")
        for name, errors in self.errors.items():
            lines.append(_row(name.replace("_", " "), errors))
            if name == "energy_per_atom" and self.offset is not None:
                lines += self.offset.rows()
        if len(self.by_element) > 1:
            lines.append("forces by element")
            lines += [_row(f"  {symbol}", errors) for symbol, errors in self.by_element.items()]
        if self.stress_components:
            lines.append("stress by component")
            lines += [_row(f"  {name}", errors) for name, errors in self.stress_components.items()]
        for kind, found in self.by_config_type.items():
            lines.append(kind)
            lines += [_row(f"  {name.replace('_', ' ')}", errors) for name, errors in found.items()]
        lines += [": ".join(one.row) for one in self.error_bars]
        return "\n".join(lines + self.hints)


def _plain(errors: dict[str, Errors]) -> dict[str, dict[str, Any]]:
    return {name: asdict(one) for name, one in errors.items()}


def _row(name: str, errors: Errors) -> str:
    return f"{name:<24} {errors.mae:>10.3f} {errors.rmse:>10.3f}  {errors.unit}"


def report_of(samples: Sequence[Sample], predictions: list[Prediction]) -> EvaluationReport:
    """Compare predictions with the labels of their frames.

    Args:
        samples: Structures and labels.
        predictions: Predictions for each sample, in the same order.
    """
    total, types, elements = ErrorSums(), dict[str, ErrorSums](), dict[int, ErrorSums]()
    pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    compositions: list[np.ndarray] = []
    stresses: list[tuple[np.ndarray, np.ndarray]] = []
    for sample, predicted in zip(samples, predictions, strict=True):
        numbers = sample.atoms.numbers
        given = sample.labels().items()
        labels: dict[str, np.ndarray] = {name: np.asarray(label) for name, label in given if name in predicted}
        sums = ErrorSums.of_frame(predicted, labels, len(numbers))
        total.merge(sums)
        types.setdefault(type_of(sample), ErrorSums()).merge(sums)
        for name, label in labels.items():
            key, per = ("energy_per_atom", len(numbers)) if name == "energy" else (name, 1)
            pairs.setdefault(key, []).append((label.ravel() / per, predicted[name].ravel() / per))
        if "forces" in labels:
            for z in np.unique(numbers):
                forces = (torch.as_tensor(one["forces"][numbers == z]) for one in (predicted, labels))
                elements.setdefault(int(z), ErrorSums()).add_pairs("forces", *forces)
        if "energy" in labels:
            compositions.append(np.bincount(numbers, minlength=len(chemical_symbols)))
        if "stress" in labels:
            stresses.append((labels["stress"], predicted["stress"]))
    joined = {name: (np.concatenate([r for r, _ in each]), np.concatenate([p for _, p in each])) for name, each in
              pairs.items()}  # fmt: skip
    hint = order_hint(stresses)
    return EvaluationReport(
        frames=len(samples),
        errors=total.errors(),
        by_element={chemical_symbols[z]: sums.errors()["forces"] for z, sums in sorted(elements.items())},
        by_config_type={kind: sums.errors() for kind, sums in sorted(types.items())}
        if any(sample.config_type for sample in samples)
        else {},
        pairs=joined,
        labels={kind: count for kind, count in count_labels(samples).items() if kind in KINDS},
        absent=absent_labels(samples),
        files=_frames_by_file(samples),
        offset=energy_offset(*joined["energy_per_atom"], np.array(compositions)) if compositions else None,
        stress_components=component_errors(stresses),
        hints=[hint] if hint else [],
        predictions=predictions,
    )


def _frames_by_file(samples: Sequence[Sample]) -> dict[str, int]:
    """Count the frames of each file, by short names; empty for samples that came from no file."""
    counts = Counter(sample.path for sample in samples if sample.path != Path())
    return {without_folder(name): counts[path] for path, name in short_names(counts).items()}
