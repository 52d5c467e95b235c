"""Labelled structures from files: readers, label keys, units, splits, statistics."""

from __future__ import annotations

from mlff_calc.datasets.dataset import StructureDataset, count_labels, labelled_graph
from mlff_calc.datasets.labels import LabelKeys
from mlff_calc.datasets.readers import existing_file, read_structures
from mlff_calc.datasets.sample import KINDS, Kind, Sample
from mlff_calc.datasets.several import matching_files
from mlff_calc.datasets.splits import PARTS, split_indices
from mlff_calc.datasets.statistics import fit_reference_energies, force_rms
from mlff_calc.datasets.units import Units

__all__ = [
    "KINDS",
    "PARTS",
    "Kind",
    "LabelKeys",
    "Sample",
    "StructureDataset",
    "Units",
    "count_labels",
    "existing_file",
    "fit_reference_energies",
    "force_rms",
    "labelled_graph",
    "matching_files",
    "read_structures",
    "split_indices",
]
