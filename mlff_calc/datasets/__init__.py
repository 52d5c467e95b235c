"""Files to labelled graphs: readers, label keys, units, splits, statistics, batches."""

from __future__ import annotations

from mlff_calc.datasets.dataset import LabelCount, StructureDataset, check_elements, count_labels, labelled_graph
from mlff_calc.datasets.labels import LabelKeys
from mlff_calc.datasets.loader import BatchLoader
from mlff_calc.datasets.readers import existing_file, read_structures
from mlff_calc.datasets.sample import KINDS, Sample
from mlff_calc.datasets.splits import check_split, split_indices
from mlff_calc.datasets.statistics import NeighborStatistics, fit_reference_energies, force_rms, neighbor_statistics
from mlff_calc.datasets.units import Units

__all__ = [
    "KINDS",
    "BatchLoader",
    "LabelCount",
    "LabelKeys",
    "NeighborStatistics",
    "Sample",
    "StructureDataset",
    "Units",
    "check_elements",
    "check_split",
    "count_labels",
    "existing_file",
    "fit_reference_energies",
    "force_rms",
    "labelled_graph",
    "neighbor_statistics",
    "read_structures",
    "split_indices",
]
