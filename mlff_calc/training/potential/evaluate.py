"""Errors of a potential on labelled frames: per property, per element and per kind of configuration."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor

from mlff_calc.datasets import KINDS, Sample, StructureDataset, count_labels, matching_files
from mlff_calc.datasets.absent import absent_labels
from mlff_calc.datasets.several import short_names
from mlff_calc.datasets.weights import type_of
from mlff_calc.device import resolve_device
from mlff_calc.errors import DatasetError, EvaluationError, OptionError
from mlff_calc.export.exported import ExportedPotential
from mlff_calc.export.opening import OneByOne, load_any, precision_of
from mlff_calc.potential.evaluate import check_elements
from mlff_calc.training.finite import first_not_finite
from mlff_calc.training.potential.data import Batch, GraphFrames
from mlff_calc.training.potential.frames import read_sources
from mlff_calc.training.potential.recipe import Source
from mlff_calc.training.recipe_copies import without_folder
from mlff_calc.training.sums import Errors, ErrorSums


@dataclass
class EvaluationReport:
    """What `evaluate` found.

    Attributes:
        frames: Number of frames.
        errors: MAE and RMSE by property (`energy` meV, `energy_per_atom` meV/atom, `forces` meV/Angstrom, `stress`
            meV/Angstrom^3).
        by_element: Errors of forces by chemical symbol.
        by_config_type: Errors by kind of configuration, then by property; empty where the data name no kinds.
        pairs: Reference and predicted values by property, flat, in eV, eV/atom, eV/Angstrom, eV/Angstrom^3.
        labels: How many frames have each label.
        absent: By label, what frames hold in its place, or why it is not taken from them.
        files: Frames by file, under names that tell the files apart.
    """

    frames: int
    errors: dict[str, Errors]
    by_element: dict[str, Errors]
    by_config_type: dict[str, dict[str, Errors]]
    pairs: dict[str, tuple[np.ndarray, np.ndarray]] = field(repr=False)
    labels: dict[str, int] = field(default_factory=dict)
    absent: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Everything but the pairs, fit for JSON."""
        return {
            "frames": self.frames,
            "files": self.files,
            "labels": self.labels,
            "labels_not_taken": self.absent,
            "errors": {name: asdict(errors) for name, errors in self.errors.items()},
            "forces_by_element": {name: asdict(errors) for name, errors in self.by_element.items()},
            "by_config_type": {
                kind: {name: asdict(errors) for name, errors in found.items()}
                for kind, found in self.by_config_type.items()
            },
        }

    def as_text(self) -> str:
        """A table of plain text."""
        have = ", ".join(f"{kind} in {count or 'none'}" for kind, count in self.labels.items())
        lines = [f"{self.frames} frames" + (f" ({have})" if have else "")]
        if len(self.files) > 1:
            lines += [f"  {count} of {name}" for name, count in self.files.items()]
        lines += [f"{kind} not taken: {reason}" for kind, reasons in self.absent.items() for reason in reasons]
        lines.append(f"{'':<24} {'MAE':>10} {'RMSE':>10}  unit")
        lines += [_row(name.replace("_", " "), errors) for name, errors in self.errors.items()]
        if len(self.by_element) > 1:
            lines.append("forces by element")
            lines += [_row(f"  {symbol}", errors) for symbol, errors in self.by_element.items()]
        for kind, found in self.by_config_type.items():
            lines.append(kind)
            lines += [_row(f"  {name.replace('_', ' ')}", errors) for name, errors in found.items()]
        return "\n".join(lines)


def _row(name: str, errors: Errors) -> str:
    return f"{name:<24} {errors.mae:>10.3f} {errors.rmse:>10.3f}  {errors.unit}"


def evaluate(
    potential: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    samples: Sequence[Sample] | StructureDataset,
    *,
    batch_size: int = 16,
    device: str | torch.device = "cpu",
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> EvaluationReport:
    """Compare a potential with the labels of frames.

    Args:
        potential: A `Potential` on `device` (or a compiled one, which has the same `elements` and `cutoff`).
        samples: Structures and labels.
        batch_size: Frames evaluated at once.
        device: Where the potential is.
        progress: Wraps the iteration over batches, for a progress bar.

    Raises:
        UnknownElementError: A frame holds an element the potential does not know; names file and frame.
        StructureError: A structure cannot be a graph.
        EvaluationError: The potential gives a value that is not finite; names file and frame.
    """
    samples = samples.samples if isinstance(samples, StructureDataset) else samples
    for sample in samples:
        check_elements(sample.atoms.numbers, potential, sample.place)  # type: ignore[arg-type]
    graphs = GraphFrames(samples, potential.cutoff)  # type: ignore[attr-defined]
    if isinstance(potential, torch.nn.Module):
        potential.eval()
    found = _Collected()
    for start in progress(range(0, len(samples), batch_size)):
        batch = graphs.batch(list(range(start, min(start + batch_size, len(samples)))))
        outputs = potential(batch.to(torch.device(device)).graph)
        outputs = {name: outputs[name].detach().cpu() for name in KINDS if name in outputs}
        _refuse_not_finite(outputs, batch, samples)
        found.add(outputs, batch)
    return found.report(samples)


def _refuse_not_finite(outputs: dict[str, Tensor], batch: Batch, samples: Sequence[Sample]) -> None:
    """An error of NaN would say nothing about the other frames, and one left out would hide the failure."""
    bad = first_not_finite(outputs, batch.n_atoms)
    if bad is not None:
        system, name = bad
        sample = samples[batch.frames[system]]
        raise EvaluationError(
            f"{sample.place}: the potential gives a {name} that is not finite; look for overlapping atoms in this frame, "
            "try --precision float64, or leave the frame out"
        )


class _Collected:
    """Sums and pairs over batches."""

    def __init__(self) -> None:
        self.all = ErrorSums()
        self.elements: dict[int, ErrorSums] = {}
        self.per_frame: list[ErrorSums] = []
        self.pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    def add(self, outputs: dict[str, Tensor], batch: Batch) -> None:
        outputs = {name: value.double() for name, value in outputs.items()}
        self.all.add(outputs, batch.labels, batch.n_atoms)
        numbers = batch.graph["atomic_numbers"]
        forces, reference = outputs["forces"], batch.labels["forces"]
        for z in numbers.unique().tolist():
            is_z = numbers == z
            self.elements.setdefault(z, ErrorSums()).add_pairs("forces", forces[is_z], reference[is_z])
        sizes = batch.n_atoms.tolist()
        frame_forces = [torch.split(x["forces"], sizes) for x in (outputs, batch.labels)]
        for i in range(len(sizes)):
            sums = ErrorSums()
            one, labels = ({"energy": x["energy"][i : i + 1], "forces": f[i]} for x, f in
                           zip((outputs, batch.labels), frame_forces, strict=True))  # fmt: skip
            if "stress" in outputs:
                one["stress"], labels["stress"] = outputs["stress"][i : i + 1], batch.labels["stress"][i : i + 1]
            sums.add(one, labels, batch.n_atoms[i : i + 1])
            self.per_frame.append(sums)
        self._pair("energy_per_atom", outputs["energy"] / batch.n_atoms, batch.labels["energy"] / batch.n_atoms)
        for name in ("forces", "stress"):
            if name in outputs:
                self._pair(name, outputs[name], batch.labels[name])

    def _pair(self, name: str, predicted: Tensor, reference: Tensor) -> None:
        present = ~torch.isnan(reference)
        self.pairs.setdefault(name, []).append((reference[present].numpy(), predicted[present].numpy()))

    def report(self, samples: Sequence[Sample]) -> EvaluationReport:
        kinds: dict[str, ErrorSums] = {}
        any_type = any(sample.config_type for sample in samples)
        for sample, sums in zip(samples, self.per_frame, strict=True):
            if any_type:
                total = kinds.setdefault(type_of(sample), ErrorSums())
                for name, row in sums.rows.items():
                    total.rows[name] = total.rows[name] + row if name in total.rows else row
        by_element = {chemical_symbols[z]: s.errors().get("forces") for z, s in sorted(self.elements.items())}
        pairs = {
            name: (np.concatenate([r for r, _ in parts]), np.concatenate([p for _, p in parts]))
            for name, parts in self.pairs.items()
        }
        return EvaluationReport(
            frames=len(samples),
            errors=self.all.errors(),
            by_element={symbol: errors for symbol, errors in by_element.items() if errors is not None},
            by_config_type={kind: sums.errors() for kind, sums in sorted(kinds.items())},
            pairs={name: pair for name, pair in pairs.items() if pair[0].size},
            labels={kind: count for kind, count in count_labels(samples).items() if kind in KINDS},
            absent=absent_labels(samples),
            files=_frames_by_file(samples),
        )


def _frames_by_file(samples: Sequence[Sample]) -> dict[str, int]:
    """Frames of each file, without the folders that lead there; nothing for samples that came from no file."""
    counts = Counter(sample.path for sample in samples if sample.path != Path())
    return {without_folder(name): counts[path] for path, name in short_names(counts).items()}


def evaluate_files(
    potential: str,
    sources: Sequence[Source],
    *,
    batch_size: int = 16,
    device: str = "auto",
    precision: str | None = None,
    plot: Path | None = None,
    trust: bool = False,
) -> EvaluationReport:
    """Evaluate a potential given by name, folder or exported file on files of labelled structures, all together.

    Args:
        potential: Name of a potential that ships, a folder, or an exported file, which takes one structure at a time.
        sources: The files and how to read them, as in a recipe; `parse_sources` makes them. Patterns are allowed.
        batch_size: Structures evaluated at once.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        precision: `float32`, `mixed`, `float64`; None is float32, and of an exported file its own.
        plot: Where to write a parity plot (PNG).
        trust: Open an exported file although this user did not export it on this machine: its code runs.

    Raises:
        DatasetError: A file is missing or unreadable, a frame is named twice, or no file holds labels.
        OptionError: A device that is not there, or a plot that cannot be written; found before anything is evaluated.
        EvaluationError: The potential gives a value that is not finite; names file and frame.
    """
    from mlff_calc.training.plots import parity

    if plot is not None:
        _check_plot(plot)
    model, target = _loaded(potential, device, precision, trust)
    files = [(file, source) for source in sources for file in matching_files(source.file)]
    samples = read_sources(files)
    what = str(files[0][0]) if len(files) == 1 else f"{len(files)} files"
    if not any(sample.labels() for sample in samples):
        held = "".join(f" {reasons[0]};" for reasons in absent_labels(samples).values())
        raise DatasetError(
            f"{what}: no energies, forces or stresses were found;{held} name them with --key, e.g. --key energy=REF_energy"
        )
    report = evaluate(model, samples, batch_size=batch_size, device=target)
    if plot is not None:
        parity(report.pairs, plot, f"{report.frames} frames of {Path(what).name}")
    return report


def _loaded(potential: str, device: str, precision: str | None, trust: bool) -> tuple[Any, torch.device]:
    """What takes batches, and the device it is on."""
    loaded = load_any(potential, trust=trust)
    target = resolve_device(loaded.metadata.device if isinstance(loaded, ExportedPotential) and device == "auto" else device)
    model = loaded.to_precision(precision_of([loaded], precision)).to(target).eval()
    return (OneByOne(model) if isinstance(model, ExportedPotential) else model), target


def _check_plot(plot: Path) -> None:
    """Refuse a picture that could not be written after the work is done."""
    folder = plot.absolute().parent
    if plot.is_dir():
        raise OptionError(f"--plot {plot}: is a folder; name a file in it, such as {plot / 'parity.png'}")
    if plot.suffix.lower() != ".png":
        raise OptionError(f"--plot {plot}: the picture is a PNG file; give a name that ends in .png")
    if not folder.is_dir():
        raise OptionError(f"--plot {plot}: there is no folder {folder}; make it first")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OptionError(
            f"--plot {plot}: {folder} cannot be written ({error.strerror}); choose another folder"
        ) from error
