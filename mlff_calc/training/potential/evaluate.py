"""Errors of a potential on labelled frames: per property, per element and per kind of configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlff_calc.datasets import KINDS, Sample, StructureDataset, matching_files
from mlff_calc.datasets.absent import absent_labels
from mlff_calc.device import resolve_device
from mlff_calc.errors import DatasetError, EvaluationError, OptionError
from mlff_calc.export.exported import ExportedPotential
from mlff_calc.export.opening import ExportedBatches, load_any, precision_of
from mlff_calc.heads.uncertainty import ENERGY_STD, FORCES_STD
from mlff_calc.potential import Potential
from mlff_calc.potential.evaluate import check_elements
from mlff_calc.potential.keys import FORCES
from mlff_calc.training.data import Batch
from mlff_calc.training.finite import first_not_finite
from mlff_calc.training.frames.read import read_sources
from mlff_calc.training.frames.recipe import Source
from mlff_calc.training.output_files import check_output
from mlff_calc.training.potential.data import graph_frames
from mlff_calc.training.potential.error_bars import ErrorBarSums
from mlff_calc.training.potential.predictions import SUFFIXES, write_predictions
from mlff_calc.training.potential.report import EvaluationReport, Prediction, report_of
from mlff_calc.training.potential.uncertainty import told_logits


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
        potential: `Potential` on `device`, or a compiled one, which has the same `elements` and `cutoff`.
        samples: Structures and labels.
        batch_size: Number of frames evaluated at once.
        device: Device of the potential.
        progress: Function that wraps the iteration over batches, for a progress bar.

    Raises:
        UnknownElementError: A frame holds an element that the potential does not know; the message names file and
            frame.
        StructureError: A structure cannot be a graph.
        DatasetError: There are no frames.
        EvaluationError: The potential gives a value that is not finite; the message names file and frame.
    """
    samples = samples.samples if isinstance(samples, StructureDataset) else samples
    for sample in samples:
        check_elements(sample.atoms.numbers, potential, sample.place)  # type: ignore[arg-type]
    if not samples:
        raise DatasetError("there are no frames to evaluate a potential on; give at least one")
    graphs = graph_frames(samples, potential.cutoff)  # type: ignore[attr-defined]
    if isinstance(potential, torch.nn.Module):
        potential.eval()
    predictions: list[Prediction] = []
    heads = potential.error_heads if isinstance(potential, Potential) else []
    bars = ErrorBarSums(heads)
    with told_logits(heads):
        for start in progress(range(0, len(samples), batch_size)):
            numbers = list(range(start, min(start + batch_size, len(samples))))
            predictions += predict_batch(potential, graphs.batch(numbers), samples, device, bars)
    return replace(report_of(samples, predictions), error_bars=bars.result())


def predict_batch(
    potential: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    batch: Batch,
    samples: Sequence[Sample],
    device: str | torch.device,
    bars: ErrorBarSums | None = None,
) -> list[Prediction]:
    """Return the outputs for a batch by frame.

    Args:
        potential: As for `evaluate`.
        batch: Batch of graphs.
        samples: The samples from which the frames of the batch were taken.
        device: Device of the potential.
        bars: What takes note of predicted errors; None where nothing does.

    Raises:
        EvaluationError: The potential gives a value that is not finite; the message names file and frame.
    """
    batch = batch.to(torch.device(device))
    given = potential(batch.graph)
    outputs = {name: given[name].detach().cpu().double() for name in (*KINDS, ENERGY_STD, FORCES_STD) if name in given}
    _refuse_not_finite(outputs, batch, samples)
    if bars is not None:
        bars.add(given, batch)
    return _by_frame(outputs, batch.n_atoms.tolist())


def _by_frame(outputs: dict[str, Tensor], sizes: list[int]) -> list[Prediction]:
    """Split the outputs for a batch by frame."""
    rows = {name: value.split(sizes) if name in (FORCES, FORCES_STD) else value.unbind() for name, value in outputs.items()}
    return [{name: each[i].numpy() for name, each in rows.items()} for i in range(len(sizes))]


def _refuse_not_finite(outputs: dict[str, Tensor], batch: Batch, samples: Sequence[Sample]) -> None:
    """Refuse outputs that are not finite; an error of NaN would hide all other frames."""
    bad = first_not_finite(outputs, batch.n_atoms)
    if bad is not None:
        system, name = bad
        sample = samples[batch.frames[system]]
        raise EvaluationError(
            f"{sample.place}: the potential gives a {name} that is not finite; look for overlapping atoms in this frame, "
            "try --precision float64, or leave the frame out"
        )


def evaluate_files(
    potential: str,
    sources: Sequence[Source],
    *,
    batch_size: int = 16,
    device: str = "auto",
    precision: str | None = None,
    plot: Path | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    trust: bool = False,
) -> EvaluationReport:
    """Evaluate a potential, given by name, folder or exported file, on files of labelled structures.

    Args:
        potential: Name of a shipped potential, a folder, or an exported file, which takes one structure at a time.
        sources: Files and how to read them, as in a recipe; `parse_sources` makes them. Patterns are allowed.
        batch_size: Number of structures evaluated at once.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        precision: `float32`, `mixed`, `float64`; None for float32, or for an exported file's own precision.
        plot: Parity plot (PNG) to write.
        output: File to write predictions and labels to, frame by frame (.extxyz, .xyz or .json).
        overwrite: Whether to replace an existing `output`.
        trust: Whether to open an exported file that this user did not export on this machine, although its code is run.

    Raises:
        DatasetError: A file is missing or unreadable, a frame is named twice, or no file holds labels.
        OptionError: A device is not available, or a plot or output cannot be written; found before anything is
            evaluated.
        EvaluationError: The potential gives a value that is not finite; the message names file and frame.
    """
    from mlff_calc.training.plots import parity

    if plot is not None:
        check_output("--plot", plot, (".png",), "parity.png")
    if output is not None:
        check_output("--output", output, SUFFIXES, "predictions.extxyz", overwrite=overwrite)
    model, target = loaded_for_batches(potential, device, precision, trust)
    files = [(file, source) for source in sources for file in matching_files(source.file)]
    if output is not None and any(output.exists() and output.samefile(file) for file, _ in files):
        raise OptionError(f"--output {output}: is one of the files that are evaluated; give another name")
    samples = read_sources(files)
    what = str(files[0][0]) if len(files) == 1 else f"{len(files)} files"
    if not any(sample.labels() for sample in samples):
        held = "".join(f" {reasons[0]};" for reasons in absent_labels(samples).values())
        raise DatasetError(
            f"{what}: no energies, forces or stresses were found;{held} name them with --key, e.g. --key energy=REF_energy"
        )
    report = evaluate(model, samples, batch_size=batch_size, device=target)
    if output is not None:
        write_predictions(output, samples, report.predictions)
    if plot is not None:
        parity(report.pairs, plot, f"{report.frames} frames of {Path(what).name}")
    return report


def loaded_for_batches(potential: str, device: str, precision: str | None, trust: bool) -> tuple[Any, torch.device]:
    """Load the potential for batches, and return it with its device."""
    loaded = load_any(potential, trust=trust)
    target = resolve_device(loaded.metadata.device if isinstance(loaded, ExportedPotential) and device == "auto" else device)
    model = loaded.to_precision(precision_of([loaded], precision)).to(target).eval()
    return (ExportedBatches(model) if isinstance(model, ExportedPotential) else model), target
